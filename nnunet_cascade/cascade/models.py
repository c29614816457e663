"""The two networks of a cascade, loaded once, applied to arrays on an image's own grid."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from nnunet_cascade._startup import register
from nnunet_cascade.cascade.edge_channel import EDGE_CHANNEL, with_edge_channel
from nnunet_cascade.cascade.nnunet_folders import read_json
from nnunet_cascade.cascade.spec import SamplingSettings, StageSettings
from nnunet_cascade.errors import BundleError
from nnunet_cascade.geometry import Box, Image, Mask, Spacing, as_index
from nnunet_cascade.networks.dropout import require_dropout
from nnunet_cascade.uncertainty.predictor import MonteCarloPredictor


@dataclass(frozen=True, slots=True)
class CoarsePrediction:
    """What stage 1 says about a whole image.

    Attributes:
        mask: (Z, Y, X), tumor wherever its share of probability passes the threshold.
        probability: (Z, Y, X), of the tumor, 0 to 1.
    """

    mask: Mask
    probability: Image


@dataclass(frozen=True, slots=True)
class RoiPrediction:
    """What stage 2 says about one crop.

    Attributes:
        probability: (Z, Y, X), mean tumor probability over the samples, 0 to 1.
        variance: (Z, Y, X), their population variance, 0 to 1/4; None without sampling.
    """

    probability: Image
    variance: Image | None


class StageModel:
    """A trained nnU-Net model folder, ready to predict arrays.

    Args:
        folder: With plans.json, dataset.json and a folder per fold.
        settings: How to predict.
        device: Where to predict.
        mc_samples: Stochastic passes, or 0 for one deterministic pass.

    Raises:
        BundleError: A file is missing, the model takes other channels than the CT and
            perhaps its edge magnitude, or it has no such tumor label.
        DropoutError: Sampling was asked of a model without active dropout.
    """

    def __init__(self, folder: Path, settings: StageSettings, *, device: torch.device, mc_samples: int = 0) -> None:
        _require_files(folder, settings)
        dataset_json = read_json(folder / "dataset.json")
        self._with_edges = _takes_edges(dataset_json, where=str(folder))
        self._tumor_channel = tumor_channel(dataset_json, settings.tumor_label, where=str(folder))
        _require_reader(read_json(folder / "plans.json"), settings, where=str(folder))
        register()
        self._sampled = mc_samples > 0
        self._threshold = settings.threshold
        # What it loads is None to a type checker until it is loaded.
        with redirect_stdout(io.StringIO()):  # nnU-Net prints its whole search for the trainer
            self._predictor: Any = _predictor(settings, device=device, mc_samples=mc_samples)
            _load(self._predictor, folder, settings)
        # The predictor asks for the fastest convolutions; we ask for the same ones every time.
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        if self._sampled:
            require_dropout(cast(torch.nn.Module, self._predictor.network))

    @property
    def patch_size_mm(self) -> Spacing:
        """Extent of the network's patch along (Z, Y, X) of the image."""
        configuration = self._predictor.configuration_manager
        sizes = np.array(configuration.patch_size) * np.array(configuration.spacing)
        z, y, x = (float(sizes[axis]) for axis in self._predictor.plans_manager.transpose_backward)
        return z, y, x

    def predict_coarse(self, image: Image, spacing_mm: Spacing) -> CoarsePrediction:
        """Predict a whole image deterministically.

        Args:
            image: (Z, Y, X) in HU. Left unchanged.
            spacing_mm: Voxel size along (Z, Y, X).
        """
        logits, properties = self._predict(image, spacing_mm)
        probabilities = self._probabilities(logits)
        tumor = probabilities[self._tumor_channel]
        if self._predictor.label_manager.has_regions or len(probabilities) == 2:
            probability = self._to_image_grid(tumor[None], properties)[0]
            return CoarsePrediction(probability > self._threshold, probability)
        others = [channel for channel in range(len(probabilities)) if channel != self._tumor_channel]
        rivals = torch.stack((tumor, probabilities[others].amax(0)))
        probability, rival = self._to_image_grid(rivals, properties)
        return CoarsePrediction(probability > self._threshold * (probability + rival), probability)

    def predict_roi(self, crop: Image, spacing_mm: Spacing, *, seed: int) -> RoiPrediction:
        """Predict a crop, sampled where the model was loaded for it.

        Args:
            crop: (Z, Y, X) in HU. Left unchanged.
            spacing_mm: Voxel size along (Z, Y, X).
            seed: Of the dropout masks; the global generators are left as they were.
        """
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            prediction, properties = self._predict(crop, spacing_mm)
        if not self._sampled:
            tumor = self._probabilities(prediction)[self._tumor_channel]
            return RoiPrediction(self._to_image_grid(tumor[None], properties)[0], None)
        heads = self._predictor.label_manager.num_segmentation_heads
        mean = prediction[self._tumor_channel]
        variance = (prediction[heads + self._tumor_channel] - mean**2).clamp_min(0)
        probability, spread = self._to_image_grid(torch.stack((mean, variance)), properties)
        return RoiPrediction(probability, spread)

    def _predict(self, image: Image, spacing_mm: Spacing) -> tuple[torch.Tensor, dict[str, Any]]:
        predictor = self._predictor
        preprocessor = predictor.configuration_manager.preprocessor_class(verbose=False)
        data, _, properties = preprocessor.run_case_npy(
            with_edge_channel(image, spacing_mm) if self._with_edges else image[None],
            None,
            {"spacing": list(spacing_mm)},
            predictor.plans_manager,
            predictor.configuration_manager,
            predictor.dataset_json,
        )
        return predictor.predict_logits_from_preprocessed_data(torch.from_numpy(data)).float(), properties

    def _probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(logits) if self._predictor.label_manager.has_regions else torch.softmax(logits, 0)

    def _to_image_grid(self, channels: torch.Tensor, properties: Mapping[str, Any]) -> NDArray[np.float32]:
        """Carry (C, …) from the preprocessed grid back to the image's; 0 where nnU-Net cropped zeros away.

        Both grids cover the same extent, so voxel faces, not centres, coincide at the
        ends (`align_corners=False`), as in nnU-Net's own resampling.
        """
        cropped = as_index(properties["shape_after_cropping_and_before_resampling"])
        resampled = interpolate(channels[None], size=cropped, mode="trilinear", align_corners=False)[0]
        whole = np.zeros((len(channels), *properties["shape_before_cropping"]), dtype=np.float32)
        bounds = properties["bbox_used_for_cropping"]
        whole[(slice(None), *(slice(low, high) for low, high in bounds))] = resampled.numpy()
        backward = self._predictor.plans_manager.transpose_backward
        return np.ascontiguousarray(whole.transpose((0, *(axis + 1 for axis in backward))))


def roi_seed(sampling: SamplingSettings, box: Box) -> int:
    """Give the seed of one ROI: it follows from the setting and the box alone, not from neighbours or file names."""
    text = f"{sampling.seed}:{box.start}:{box.stop}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")


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


def _predictor(settings: StageSettings, *, device: torch.device, mc_samples: int) -> nnUNetPredictor:
    if mc_samples > 0:
        return MonteCarloPredictor(
            samples=mc_samples, device=device, step_size=settings.step_size, mirroring=settings.mirroring
        )
    return nnUNetPredictor(
        tile_step_size=settings.step_size,
        use_mirroring=settings.mirroring,
        perform_everything_on_device=device.type == "cuda",
        device=device,
        allow_tqdm=False,
    )


def _load(predictor: nnUNetPredictor, folder: Path, settings: StageSettings) -> None:
    """Load weights and build the network; whatever nnU-Net stumbles over is the bundle's fault."""
    folds: Any = settings.folds
    try:
        predictor.initialize_from_trained_model_folder(str(folder), folds, settings.checkpoint)
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise BundleError(f"{folder} cannot be loaded ({reason}); copy or train the model again") from error
    configuration: Any = predictor.configuration_manager
    if len(configuration.patch_size) != 3 or configuration.previous_stage_name is not None:
        raise BundleError(f"{folder}: a 2d model or a stage of nnU-Net's own cascade; expected 3d_fullres or 3d_lowres")


def _require_reader(plans: Mapping[str, Any], settings: StageSettings, *, where: str) -> None:
    """Raise where training saw images turned to RAS and prediction would not turn them."""
    if str(plans.get("image_reader_writer", "")).endswith("Reorient") and settings.orientation != "RAS":
        raise BundleError(f"{where} was trained on images turned to RAS; make the bundle with --orientation RAS")


def _require_files(folder: Path, settings: StageSettings) -> None:
    wanted = [folder / "plans.json", folder / "dataset.json"]
    wanted += [folder / f"fold_{fold}" / settings.checkpoint for fold in settings.folds]
    for path in wanted:
        if not path.is_file():
            raise BundleError(f"{path} is missing; expected a trained nnU-Net model folder; make the bundle again")


def _takes_edges(dataset_json: Mapping[str, Any], *, where: str) -> bool:
    """Tell whether a model takes the edge channel beside the CT; raise where it takes anything else."""
    names: Mapping[str, Any] = dataset_json.get("channel_names", dataset_json.get("modality", {}))
    channels = [names[key] for key in sorted(names, key=int)]
    if len(channels) == 1 or channels[1:] == [EDGE_CHANNEL]:
        return len(channels) == 2
    raise BundleError(
        f"{where}: the model takes the channels {', '.join(map(str, channels)) or 'none'}; "
        f"expected one, the CT, or the CT and {EDGE_CHANNEL}"
    )
