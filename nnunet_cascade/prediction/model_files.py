"""What lies in a trained model's folder: that it is complete, what it takes and gives, its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_cascade.dataset_labels import DatasetLabels
from nnunet_cascade.errors import BundleError, DatasetError, SettingsError, WeightsError, one_line
from nnunet_cascade.networks.checkpoints import is_plain_weight, read_checkpoint, write_checkpoint
from nnunet_cascade.nnunet_folders import read_json
from nnunet_cascade.prediction.allowlist import IF_TRUSTED, known_trainer, require_known_names
from nnunet_cascade.prediction.edge_channel import EDGE_CHANNEL
from nnunet_cascade.prediction.preprocessing import preprocess
from nnunet_cascade.prediction.spec import StageSettings

_TRIED_SHAPE = (8, 8, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What prediction needs of a checkpoint of nnU-Net's.

    Attributes:
        weights: Of the network, by name: plain tensors without any attributes.
        trainer: Name of the class that builds the network.
        configuration: Of the plans.
        mirroring_axes: Along which it was trained with mirrored images, or None.
    """

    weights: Mapping[str, torch.Tensor]
    trainer: str
    configuration: str
    mirroring_axes: tuple[int, ...] | None

    @classmethod
    def read(cls, path: Path, *, trusted: bool = False) -> Checkpoint:
        """Read a checkpoint; if it is trusted, it may run code of its own, as nnU-Net itself lets it.

        Raises:
            BundleError: It would run code and is not trusted, or it is no checkpoint of nnU-Net's.
        """
        try:
            if trusted:
                content: Any = torch.load(path, map_location="cpu", weights_only=False)
            else:
                content = read_checkpoint(path, if_trusted=IF_TRUSTED)
            return cls._of(content, path)
        except WeightsError as error:
            raise BundleError(str(error)) from error
        except (BundleError, OSError):
            raise
        except Exception as error:
            reason = one_line(error, longest=150)
            raise BundleError(
                f"{path} cannot be read ({type(error).__name__}: {reason}); expected a PyTorch checkpoint, whole"
            ) from error

    @classmethod
    def _of(cls, content: Any, path: Path) -> Checkpoint:
        known = isinstance(content, Mapping) and isinstance(content.get("init_args"), Mapping)
        values: Mapping[str, Any] = content if known else {"init_args": {}}
        weights, trainer = values.get("network_weights"), values.get("trainer_name")
        configuration, axes = values["init_args"].get("configuration"), values.get("inference_allowed_mirroring_axes")
        named = isinstance(trainer, str) and isinstance(configuration, str)
        plain = axes is None or (
            isinstance(axes, (tuple, list)) and all(type(axis) is int and axis in range(3) for axis in axes)
        )
        if not (named and plain and _are_weights(weights)):
            raise BundleError(f"{path} is no checkpoint of nnU-Net v2; expected one that nnUNetv2_train wrote")
        found = cast("Mapping[str, torch.Tensor]", weights)
        return cls(
            weights={name: torch.Tensor.detach(value) for name, value in found.items()},
            trainer=cast(str, trainer),
            configuration=cast(str, configuration),
            mirroring_axes=None if axes is None else tuple(axes),
        )

    def write(self, target: Path) -> None:
        """Write it so that nnU-Net's prediction and its -pretrained_weights take it, and nothing else is inside.

        A weight that is a view leaves the rest of its memory behind; names of the same weight go on sharing it.

        Raises:
            OSError: It cannot be written.
        """
        content = {
            "network_weights": _copies(self.weights),
            "init_args": {"configuration": self.configuration},
            "trainer_name": self.trainer,
            "inference_allowed_mirroring_axes": self.mirroring_axes,
        }
        write_checkpoint(target, content)


def _are_weights(found: Any) -> bool:
    plain = isinstance(found, Mapping) and all(map(is_plain_weight, found.values()))
    return plain and all(isinstance(name, str) for name in found)


def _copies(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return each weight in memory of its own, once for all its names."""
    known: dict[Any, torch.Tensor] = {}
    copies: dict[str, torch.Tensor] = {}
    for name, value in weights.items():
        key = (value.data_ptr(), value.shape, value.stride(), value.dtype) if value.numel() else name
        if key not in known:
            known[key] = value.clone(memory_format=torch.contiguous_format)
        copies[name] = known[key]
    return copies


def load_members(predictor: nnUNetPredictor, folder: Path, settings: StageSettings, *, trusted: bool = False) -> None:
    """Load weights and build the network; whatever nnU-Net stumbles over is the bundle's fault.

    Args:
        predictor: Gets plans, network and the weights of every fold and checkpoint, as
            nnU-Net's `initialize_from_trained_model_folder` would give them.
        folder: Of the model.
        settings: Which folds and checkpoints.
        trusted: Load as nnU-Net itself does: checkpoints may run code, plans may name
            anything that can be imported, and trainers are also looked for in `nnUNet_extTrainer`.

    Raises:
        BundleError: A checkpoint or a name is refused, a file is broken, or weights do not fit the network.
    """
    try:
        members = _load_as_nnunet if trusted else _load_known
        members(predictor, folder, settings)
        for name in settings.further_checkpoints:
            for fold in settings.folds:
                weights = Checkpoint.read(folder / f"fold_{fold}" / name, trusted=trusted).weights
                network: Any = predictor.network
                getattr(network, "_orig_mod", network).load_state_dict(weights)
                cast(Any, predictor.list_of_parameters).append(weights)
        _require_usable(predictor, folder, settings)
        if not trusted:
            _try_preprocessing(predictor)
    except BundleError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {one_line(error, longest=300)}"
        raise BundleError(f"{folder} cannot be loaded ({reason}); copy or train the model again") from error


def _require_usable(predictor: Any, folder: Path, settings: StageSettings) -> None:
    """Raise where a model that can be loaded is none that a cascade can predict with."""
    configuration, plans = predictor.configuration_manager, predictor.plans_manager
    patch, spacing = configuration.patch_size, configuration.spacing
    if len(patch) != 3 or configuration.previous_stage_name is not None:
        raise BundleError(f"{folder}: a 2d model or a stage of nnU-Net's own cascade; expected 3d_fullres or 3d_lowres")
    if not all(type(side) is int and side > 0 for side in patch):
        raise BundleError(f"{folder}: patch_size is {patch!r}; expected three sides in voxels")
    if len(spacing) != 3 or not all(0 < edge < math.inf for edge in spacing):
        raise BundleError(f"{folder}: spacing is {spacing!r}; expected three lengths in mm")
    forward, backward = plans.transpose_forward, plans.transpose_backward
    if [forward[axis] for axis in backward] != [0, 1, 2] or len(forward) != 3:
        raise BundleError(f"{folder}: axes are turned by {forward!r} and back by {backward!r}; expected inverse orders")
    heads = predictor.label_manager.num_segmentation_heads
    for channel in tumor_channels(predictor.dataset_json, settings.tumor_names, where=str(folder)):
        if not 0 <= channel < heads:
            raise BundleError(f"{folder}: the tumor is label {channel}, of {heads}; expected labels numbered from 0 on")


def _try_preprocessing(predictor: Any) -> None:
    """Preprocess a few voxels: what the plans lack for it shows before a case is read."""
    configuration, plans = predictor.configuration_manager, predictor.plans_manager
    channels = determine_num_input_channels(plans, configuration, predictor.dataset_json)
    image = np.random.default_rng(0).normal(size=(channels, *_TRIED_SHAPE)).astype(np.float32)
    z, y, x = (1.5 * float(configuration.spacing[axis]) for axis in plans.transpose_backward)
    preprocess(image, (z, y, x), predictor)


def _load_as_nnunet(predictor: nnUNetPredictor, folder: Path, settings: StageSettings) -> None:
    folds: Any = settings.folds
    predictor.initialize_from_trained_model_folder(str(folder), folds, settings.checkpoint)


def _load_known(predictor: nnUNetPredictor, folder: Path, settings: StageSettings) -> None:
    """Do what nnU-Net does, with checkpoints as numbers and names that are known."""
    members = [Checkpoint.read(folder / f"fold_{fold}" / settings.checkpoint) for fold in settings.folds]
    first, dataset_json = members[0], read_json(folder / "dataset.json")
    manager: Any = PlansManager(read_json(folder / "plans.json"))
    require_known_names(manager, first.configuration, dataset_json, where=folder)
    trainer = known_trainer(first.trainer, where=folder)
    configuration = manager.get_configuration(first.configuration)
    network = trainer.build_network_architecture(
        manager,
        configuration,
        determine_num_input_channels(manager, configuration, dataset_json),
        manager.get_label_manager(dataset_json).num_segmentation_heads,
        enable_deep_supervision=False,
    )
    network.load_state_dict(first.weights)
    weights: Any = [member.weights for member in members]
    predictor.manual_initialization(
        network, manager, configuration, weights, dataset_json, first.trainer, first.mirroring_axes
    )


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
    names: Any = dataset_json.get("channel_names", dataset_json.get("modality", {}))
    if not isinstance(names, Mapping) or not all(str(key).isdecimal() for key in cast("Mapping[Any, Any]", names)):
        raise BundleError(f'{where}: channel_names is {_short(names)}; expected names by number, such as {{"0": "CT"}}')
    found = cast("Mapping[str, Any]", names)
    channels = [found[key] for key in sorted(found, key=int)]
    if len(channels) == 1 or channels[1:] == [EDGE_CHANNEL]:
        return len(channels) == 2
    raise BundleError(
        f"{where}: the model takes the channels {', '.join(map(str, channels)) or 'none'}; "
        f"expected one, the CT, or the CT and {EDGE_CHANNEL}"
    )


def tumor_channels(dataset_json: Mapping[str, Any], names: Sequence[str], *, where: str) -> tuple[int, ...]:
    """Find the output channels whose probabilities add up to that of the tumor.

    Args:
        dataset_json: Of the trained model.
        names: Of the labels that are tumor; none where there is one foreground label only.
        where: Names the model in the error message.

    Returns:
        One channel for each label; a single one if the model was trained on regions.

    Raises:
        BundleError: There is no such label, none was named and there are several, no region has exactly the
            values of these labels, or labels are not as nnU-Net's.
    """
    try:
        labels = DatasetLabels.of(dataset_json, where=where)
        tumor = labels.values_of(names)
        labels.names_of(tumor)
    except (DatasetError, SettingsError) as error:
        raise BundleError(str(error)) from error
    return labels.channels_of(tumor)


def require_one_label(folder: Path, settings: StageSettings) -> None:
    """Raise if a stage 2 has more than one foreground label: it decides by the tumor's probability alone.

    Raises:
        BundleError: It has, a file is missing, or labels are not as nnU-Net's.
    """
    require_files(folder, settings)
    try:
        labels = DatasetLabels.of(read_json(folder / "dataset.json"), where=str(folder))
    except DatasetError as error:
        raise BundleError(str(error)) from error
    if len(labels.values) > 1:
        raise BundleError(
            f"{folder}: stage 2 has the labels {labels}; expected one, the tumor; "
            "train it on crops of nnc-roi-dataset, which join the labels of --tumor_label"
        )


def _short(found: Any) -> str:
    text = repr(found)
    return text if len(text) <= 80 else f"{text[:77]}…"
