"""What lies in a trained model's folder: that it is complete, what it takes and gives, its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_cascade.cascade.edge_channel import EDGE_CHANNEL
from nnunet_cascade.cascade.spec import StageSettings
from nnunet_cascade.errors import BundleError


def load_members(predictor: nnUNetPredictor, folder: Path, settings: StageSettings) -> None:
    """Load weights and build the network; whatever nnU-Net stumbles over is the bundle's fault."""
    folds: Any = settings.folds
    try:
        predictor.initialize_from_trained_model_folder(str(folder), folds, settings.checkpoint)
        members: Any = predictor.list_of_parameters
        for name in settings.further_checkpoints:
            members += [_weights(folder / f"fold_{fold}" / name, predictor.network) for fold in settings.folds]
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise BundleError(f"{folder} cannot be loaded ({reason}); copy or train the model again") from error
    configuration: Any = predictor.configuration_manager
    if len(configuration.patch_size) != 3 or configuration.previous_stage_name is not None:
        raise BundleError(f"{folder}: a 2d model or a stage of nnU-Net's own cascade; expected 3d_fullres or 3d_lowres")


def _weights(path: Path, network: Any) -> dict[str, Any]:
    """Read the weights of a further checkpoint, and try that they fit."""
    weights: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=False)["network_weights"]
    getattr(network, "_orig_mod", network).load_state_dict(weights)
    return weights


def require_reader(plans: Mapping[str, Any], settings: StageSettings, *, where: str) -> None:
    """Raise where training saw images turned to RAS and prediction would not turn them."""
    if str(plans.get("image_reader_writer", "")).endswith("Reorient") and settings.orientation != "RAS":
        raise BundleError(f"{where} was trained on images turned to RAS; make the bundle with --orientation RAS")


def require_files(folder: Path, settings: StageSettings) -> None:
    """Raise a BundleError where a file that prediction needs is missing."""
    wanted = [folder / "plans.json", folder / "dataset.json"]
    wanted += [folder / f"fold_{fold}" / name for name in settings.checkpoints for fold in settings.folds]
    for path in wanted:
        if not path.is_file():
            raise BundleError(f"{path} is missing; expected a trained nnU-Net model folder; make the bundle again")


def takes_edges(dataset_json: Mapping[str, Any], *, where: str) -> bool:
    """Tell whether a model takes the edge channel beside the CT; raise where it takes anything else."""
    names: Mapping[str, Any] = dataset_json.get("channel_names", dataset_json.get("modality", {}))
    channels = [names[key] for key in sorted(names, key=int)]
    if len(channels) == 1 or channels[1:] == [EDGE_CHANNEL]:
        return len(channels) == 2
    raise BundleError(
        f"{where}: the model takes the channels {', '.join(map(str, channels)) or 'none'}; "
        f"expected one, the CT, or the CT and {EDGE_CHANNEL}"
    )


def tumor_channel(dataset_json: Mapping[str, Any], label: str, *, where: str) -> int:
    """Find the output channel of the tumor.

    Args:
        dataset_json: Of the trained model.
        label: Name of the tumor, or "" where there is one foreground label only.
        where: Names the model in the error message.

    Raises:
        BundleError: There is no such label, or none was named and there are several.
    """
    labels: dict[str, Any] = dataset_json["labels"]
    foreground = [name for name in labels if name not in ("background", "ignore")]
    if label == "" and len(foreground) == 1:
        label = foreground[0]
    if label not in foreground:
        asked = f"no label {label!r}" if label else "several foreground labels and none was named"
        raise BundleError(f"{where}: {asked}; found {', '.join(foreground)}; name the tumor")
    if any(isinstance(value, (list, tuple)) for value in labels.values()):
        return foreground.index(label)
    return int(labels[label])
