"""The two networks of a cascade, loaded once, applied to arrays on an image's own grid."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from nnunet_cascade._startup import register
from nnunet_cascade.errors import BundleError, SettingsError
from nnunet_cascade.geometry import AxisTurn, Box, Image, Mask, Spacing, Stored, as_index
from nnunet_cascade.machine import require_precision
from nnunet_cascade.networks.dropout import require_dropout
from nnunet_cascade.nnunet_folders import read_json
from nnunet_cascade.prediction.edge_channel import with_edge_channel
from nnunet_cascade.prediction.interpolation import Interpolation
from nnunet_cascade.prediction.model_files import (
    load_members,
    require_files,
    require_reader,
    takes_edges,
    tumor_channels,
)
from nnunet_cascade.prediction.preprocessing import Prepared, preprocess
from nnunet_cascade.prediction.spec import SamplingSettings, StageSettings
from nnunet_cascade.uncertainty.deterministic import DeterministicUncertaintyPredictor
from nnunet_cascade.uncertainty.measures import uncertainty
from nnunet_cascade.uncertainty.passes import joint_probability, probabilities
from nnunet_cascade.uncertainty.predictor import Extras, MonteCarloPredictor
from nnunet_cascade.uncertainty.sample_masks import Decision
from nnunet_cascade.uncertainty.sampling_types import SamplingPlan, SamplingSummary, Source
from nnunet_cascade.uncertainty.sliding_window import SlidingWindowPredictor
from nnunet_cascade.uncertainty.temperature import unscaled
from nnunet_cascade.uncertainty.volumes import RegionSampleMasks

_Value = TypeVar("_Value", bound=np.generic)
AS_STORED = AxisTurn((0, 1, 2), (False, False, False))
_ROUNDING = np.float32(1e-6)


@dataclass(frozen=True, slots=True)
class CoarsePrediction:
    """What stage 1 says about a whole image.

    Attributes:
        mask: (Z, Y, X), tumor wherever its share of probability passes the threshold.
        probability: (Z, Y, X), of the tumor, 0 to 1; 0 as well where no coarse voxel
            around passes the threshold. None where the mask was given.
        uncertainty: (Z, Y, X), in the measure of the settings; None without samples.
        moved_results: Whether the network's results did not fit on the device.
    """

    mask: Mask
    probability: Image | None
    uncertainty: Image | None = None
    moved_results: bool = False


@dataclass(frozen=True, slots=True)
class RoiPrediction:
    """What stage 2 says about one crop.

    Attributes:
        probability: (Z, Y, X), mean tumor probability over the samples, 0 to 1.
        uncertainty: (Z, Y, X), in the measure of the settings; None without samples.
        sample_masks: What each sample calls tumor; None without samples.
        moved_results: Whether the network's results did not fit on the device.
    """

    probability: Image
    uncertainty: Image | None = None
    sample_masks: RegionSampleMasks | None = None
    moved_results: bool = False


class StageModel:
    """A trained nnU-Net model folder, ready to predict arrays.

    Args:
        folder: With plans.json, dataset.json and a folder per fold.
        settings: How to predict.
        device: Where to predict.
        plan: What to sample, or None for one prediction without uncertainty. A deterministic
            plan is for `predict_coarse`, any other one for `predict_roi`.
        trusted: Whether checkpoints and plans may run code of their own choice.
        precision: What networks compute in on a CPU; moments are float32 in either case.

    Raises:
        BundleError: A file is missing, the model takes other channels than the CT and
            perhaps its edge magnitude, or it has no such tumor label.
        DropoutError: Monte-Carlo dropout was asked of a model without active dropout.
        SettingsError: Another source of samples was asked for than the model and its settings offer, or
            a precision that the device lacks.
    """

    def __init__(  # noqa: PLR0913 - what is loaded, where, and how far it is trusted
        self,
        folder: Path,
        settings: StageSettings,
        *,
        device: torch.device,
        plan: SamplingPlan | None = None,
        trusted: bool = False,
        precision: Literal["float32", "bfloat16"] = "float32",
    ) -> None:
        require_precision(precision, device)
        require_files(folder, settings)
        dataset_json = read_json(folder / "dataset.json")
        self._with_edges = takes_edges(dataset_json, where=str(folder))
        self._tumor_channels = tumor_channels(dataset_json, settings.tumor_names, where=str(folder))
        require_reader(read_json(folder / "plans.json"), settings, where=str(folder))
        register()
        self._folder, self._threshold = folder, settings.threshold
        # What it loads is None to a type checker until it is loaded.
        with redirect_stdout(io.StringIO()):  # nnU-Net prints its whole search for the trainer
            self._predictor: Any = _predictor(settings, plan, device, self._tumor_channels[0])
            load_members(self._predictor, folder, settings, trusted=trusted)
        self._predictor.half_precision = precision == "bfloat16"
        self._predictor.averages_probabilities = settings.average == "probabilities" and not isinstance(
            self._predictor, MonteCarloPredictor
        )
        # The predictor asks for the fastest convolutions; we ask for the same ones every time.
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        self.sampling = None if plan is None else _facts(plan, self._predictor, settings, where=str(folder))
        if plan is not None and plan.mc_samples > 0:
            require_dropout(cast(torch.nn.Module, self._predictor.network))

    @property
    def patch_size_mm(self) -> Spacing:
        """Extent of the network's patch along (Z, Y, X) of the image."""
        configuration = self._predictor.configuration_manager
        sizes = np.array(configuration.patch_size) * np.array(configuration.spacing)
        z, y, x = (float(sizes[axis]) for axis in self._predictor.plans_manager.transpose_backward)
        return z, y, x

    def prepare_coarse(self, image: Stored, spacing_mm: Spacing, turn: AxisTurn = AS_STORED) -> Prepared:
        """Preprocess a whole image for `predict_coarse`, which takes no network.

        Args:
            image: (Z, Y, X) in HU. Left unchanged.
            spacing_mm: Voxel size along (Z, Y, X).
            turn: To the axes that the network sees.
        """
        return self._preprocessed(turn.apply(image), turn.spacing(spacing_mm))

    def predict_coarse(self, prepared: Prepared, turn: AxisTurn = AS_STORED) -> CoarsePrediction:
        """Predict a whole image deterministically; sampling changes neither mask nor probability.

        Args:
            prepared: As `prepare_coarse` gives it.
            turn: As it was given there.

        Returns:
            The prediction as the image's own axes run.
        """
        decisive, spreads = self._decisive(prepared)
        levels, probability = self._coarse_levels(decisive.numpy(), prepared, turn, (self._threshold,))
        spread = [self._placed(self._interpolated(part[None], prepared), prepared, turn)[0] for part in spreads]
        return CoarsePrediction(
            levels.view(np.bool_), probability, spread[0] if spread else None, moved_results=self._moved
        )

    def predict_levels(
        self, prepared: Prepared, thresholds: Sequence[float], turn: AxisTurn = AS_STORED
    ) -> tuple[NDArray[np.uint8], Image]:
        """Predict the masks of several thresholds at once.

        Args:
            prepared: As `prepare_coarse` gives it.
            thresholds: In place of that of the settings, rising.
            turn: As it was given there.

        Returns:
            (Z, Y, X), how many of the thresholds a voxel passes: the mask of the first is what is above 0, that of the
            second what is above 1; and (Z, Y, X), the probability as `predict_coarse` gives it for the first.
        """
        decisive, _ = self._decisive(prepared)
        return self._coarse_levels(decisive.numpy(), prepared, turn, thresholds)

    def predict_everywhere(self, prepared: Prepared, turn: AxisTurn = AS_STORED) -> CoarsePrediction:
        """Predict as `predict_coarse` does, with the probability of every voxel, which takes time and memory."""
        decisive, _ = self._decisive(prepared)
        levels, _ = self._coarse_levels(decisive.numpy(), prepared, turn, (self._threshold,))
        everywhere = self._placed(self._interpolated(decisive[:1], prepared), prepared, turn)[0]
        return CoarsePrediction(levels.view(np.bool_), everywhere, moved_results=self._moved)

    def _decisive(self, prepared: Prepared) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Run the network: the tumor's probability, and its strongest rival's where that counts; their spread."""
        data = torch.from_numpy(prepared.data)
        spreads: tuple[torch.Tensor, ...] = ()
        self._predictor.moved_results = False
        if self.sampling is None:
            logits = self._predictor.predict_logits_from_preprocessed_data(data).float()
        else:
            logits, moments = self._predictor.predict_with_uncertainty(data, channels=self._tumor_channels)
            logits, spreads = logits.float(), (self._measured(*moments),)
        probabilities = self._probabilities(logits)
        self._require_finite(probabilities, *spreads)
        tumor = joint_probability(probabilities, self._tumor_channels)
        others = [channel for channel in range(len(probabilities)) if channel not in self._tumor_channels]
        alone = self._predictor.label_manager.has_regions or len(others) == 1
        return tumor[None] if alone else torch.stack((tumor, probabilities[others].amax(0))), spreads

    def _coarse_levels(
        self, channels: NDArray[np.float32], prepared: Prepared, turn: AxisTurn, thresholds: Sequence[float]
    ) -> tuple[NDArray[np.uint8], Image]:
        """Decide on the image's grid, looking only where a coarse voxel passes the lowest threshold.

        What lies between voxels that all fail it fails as well: the share of the tumor
        that is asked for is linear in the probabilities, and interpolation is a weighted mean.
        """
        levels, probability = self._empty(np.uint8, prepared, turn), self._empty(np.float32, prepared, turn)
        levels_there, probability_there = (self._part(whole, prepared, turn) for whole in (levels, probability))
        grid = Interpolation(as_index(channels.shape[1:]), prepared.box.shape)
        for box in grid.boxes(_excess(channels, thresholds[0]) > -_ROUNDING):
            found = grid.values(channels, box)
            probability_there[box.slices] = found[0]
            for threshold in thresholds:
                levels_there[box.slices] += _excess(found, threshold) > 0
        return levels, probability

    def _empty(self, kind: type[_Value], prepared: Prepared, turn: AxisTurn, *channels: int) -> NDArray[_Value]:
        """Return zeros on the image's grid, as its own axes run; they take no memory before something is written."""
        backward = self._predictor.plans_manager.transpose_backward
        seen = [prepared.whole[axis] for axis in backward]
        return np.zeros([*channels, *(seen[turn.order.index(axis)] for axis in range(3))], dtype=kind)

    def _part(self, whole: NDArray[_Value], prepared: Prepared, turn: AxisTurn) -> NDArray[_Value]:
        """Return the part of an array on the image's grid that the network saw, as it saw it, in the same memory."""
        forward = self._predictor.plans_manager.transpose_forward
        return turn.apply(whole).transpose(forward)[prepared.box.slices]

    def predict_roi(self, crop: Image, spacing_mm: Spacing, *, seed: int) -> RoiPrediction:
        """Predict a crop with a model of one foreground label, sampled where the model was loaded for it.

        Args:
            crop: (Z, Y, X) in HU. Left unchanged.
            spacing_mm: Voxel size along (Z, Y, X).
            seed: Of the dropout masks; the global generators are left as they were.
        """
        prepared = self._preprocessed(crop, spacing_mm)
        data, channel = torch.from_numpy(prepared.data), self._tumor_channels[0]
        self._predictor.moved_results = False
        if self.sampling is None:
            logits = self._predictor.predict_logits_from_preprocessed_data(data).float()
            probability = self._to_image_grid(self._probabilities(logits)[channel][None], prepared)[0]
            return RoiPrediction(probability, moved_results=self._moved)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            samples = self._predictor.predict_samples(data)
        moments = [
            each[channel] for each in (samples.mean, samples.mean_square, samples.mean_entropy) if each is not None
        ]
        found = torch.stack((samples.mean[channel], self._measured(*moments)))
        probability, spread = self._to_image_grid(found, prepared)
        planes = self._to_image_grid_unmixed(samples.sample_masks.planes.flatten(0, 1).numpy(), prepared)
        planes = planes.reshape(*samples.sample_masks.planes.shape[:2], *planes.shape[1:])
        sample_masks = RegionSampleMasks(planes, samples.sample_masks.samples_per_member, samples.sample_masks.windows)
        return RoiPrediction(probability, spread, sample_masks, moved_results=self._moved)

    @property
    def _moved(self) -> bool:
        return bool(self._predictor.moved_results)

    def _preprocessed(self, image: Stored, spacing_mm: Spacing) -> Prepared:
        channels = with_edge_channel(image, spacing_mm) if self._with_edges else image[None]
        return preprocess(channels, spacing_mm, self._predictor)

    def _measured(
        self, mean: torch.Tensor, mean_square: torch.Tensor, mean_entropy: torch.Tensor | None = None
    ) -> torch.Tensor:
        facts = cast(SamplingSummary, self.sampling)
        return uncertainty(facts.measure, mean, mean_square=mean_square, mean_entropy=mean_entropy)

    def _probabilities(self, predicted: torch.Tensor) -> torch.Tensor:
        """Return the probabilities of what the predictor gave, unless that are probabilities."""
        if self._predictor.averages_probabilities:
            return predicted
        (found,) = probabilities([predicted[None]], regions=self._predictor.label_manager.has_regions)
        return found[0]

    def _require_finite(self, *found: torch.Tensor) -> None:
        """Raise where a network predicts NaN, in which no tumor would be found."""
        if not all(bool(torch.isfinite(part).all()) for part in found):
            raise BundleError(f"{self._folder} predicts NaN; expected probabilities; train the model again")

    def _to_image_grid(self, channels: torch.Tensor, prepared: Prepared) -> NDArray[np.float32]:
        """Carry (C, …) from the preprocessed grid back to the image's; 0 where nnU-Net cropped zeros away."""
        self._require_finite(channels)
        return self._placed(self._interpolated(channels, prepared), prepared)

    def _interpolated(self, channels: torch.Tensor, prepared: Prepared) -> NDArray[np.float32]:
        """Carry (C, …) back to the spacing of the image.

        Both grids cover the same extent, so voxel faces, not centres, coincide at the
        ends (`align_corners=False`), as in nnU-Net's own resampling.
        """
        size = prepared.box.shape
        return interpolate(channels[None], size=size, mode="trilinear", align_corners=False)[0].numpy()

    def _to_image_grid_unmixed(self, channels: NDArray[np.uint8], prepared: Prepared) -> NDArray[np.uint8]:
        """Carry (C, …) back to the image's grid as they are: each voxel takes the one its centre lies in."""
        nearest = [
            ((np.arange(size) + 0.5) * count / size).astype(np.intp)
            for size, count in zip(prepared.box.shape, channels.shape[1:], strict=True)
        ]
        return self._placed(channels[:, nearest[0][:, None, None], nearest[1][:, None], nearest[2]], prepared)

    def _placed(self, channels: NDArray[_Value], prepared: Prepared, turn: AxisTurn = AS_STORED) -> NDArray[_Value]:
        """Undo nnU-Net's cropping and its order of axes, and the turn."""
        placed = self._empty(channels.dtype.type, prepared, turn, len(channels))
        for whole, channel in zip(placed, channels, strict=True):
            self._part(whole, prepared, turn)[:] = channel
        return placed


def _excess(channels: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    """Return by how much a probability passes a threshold, or its share in that of tumor and rival does."""
    tumor, *rivals = channels
    return tumor - np.float32(threshold) * (tumor + rivals[0] if rivals else np.float32(1))


def roi_seed(sampling: SamplingSettings, box: Box) -> int:
    """Return the seed of one ROI: it follows from the setting and the box alone, not from neighbours or file names."""
    text = f"{sampling.seed}:{box.start}:{box.stop}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")


def _predictor(
    settings: StageSettings, plan: SamplingPlan | None, device: torch.device, channel: int
) -> SlidingWindowPredictor:
    """Make the predictor of a plan, without a model yet; it takes the votes of a sample where the final mask would."""
    step_size = settings.step_size
    if plan is None:
        return SlidingWindowPredictor(device=device, step_size=step_size, mirroring=settings.mirroring)
    entropy = plan.measure == "mutual_information"
    if plan.deterministic:
        return DeterministicUncertaintyPredictor(
            device=device, step_size=step_size, mirroring=settings.mirroring, entropy=entropy
        )
    decision = Decision(channel, unscaled(settings.threshold, settings.temperature))
    return MonteCarloPredictor(
        mc_samples=plan.mc_samples,
        device=device,
        step_size=step_size,
        mirroring=settings.mirroring or "tta" in plan.sources,
        extras=Extras(entropy=entropy, decision=decision),
        batch_size=plan.batch_size,
    )


def _facts(plan: SamplingPlan, predictor: Any, settings: StageSettings, *, where: str) -> SamplingSummary:
    """Say what will be sampled in fact; raise where that lacks what was asked for."""
    members, mirrors = len(predictor.list_of_parameters), len(predictor.flips())
    there: dict[Source, bool] = {"mc_dropout": plan.mc_samples > 0, "tta": mirrors > 1, "ensemble": members > 1}
    missing = {
        "tta": f"{where} predicts no mirrored images (mirroring {settings.mirroring}; "
        f"the checkpoint allows the axes {predictor.allowed_mirroring_axes}); leave tta out of the sources of samples",
        "ensemble": f"{where} has one fold and one checkpoint to predict with; add some, or leave ensemble out of the "
        "sources of samples",
    }
    for source in plan.sources:
        if not there[source]:
            raise SettingsError(missing[source])
    if "tta" in plan.sources and 0 < plan.mc_samples < mirrors:
        raise SettingsError(f"mc_samples {plan.mc_samples} do not go round {mirrors} mirrored images; ask for more")
    sources: tuple[Source, ...] = tuple(source for source in get_args(Source) if there[source])
    return SamplingSummary(
        sources=sources, members=members, mirrors=mirrors, mc_samples=plan.mc_samples, measure=plan.measure
    )
