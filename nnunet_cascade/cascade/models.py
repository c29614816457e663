"""The two networks of a cascade, loaded once, applied to arrays on an image's own grid."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from nnunet_cascade._startup import register
from nnunet_cascade.cascade.bundles.model_files import (
    load_members,
    require_files,
    require_reader,
    takes_edges,
    tumor_channel,
)
from nnunet_cascade.cascade.edge_channel import with_edge_channel
from nnunet_cascade.cascade.nnunet_folders import read_json
from nnunet_cascade.cascade.spec import SamplingSettings, StageSettings
from nnunet_cascade.errors import BundleError, SettingsError
from nnunet_cascade.geometry import Box, Image, Mask, Spacing, as_index
from nnunet_cascade.networks.dropout import require_dropout
from nnunet_cascade.uncertainty.ballot import Decision
from nnunet_cascade.uncertainty.choices import SamplePlan, SamplingFacts, Source
from nnunet_cascade.uncertainty.measures import uncertainty
from nnunet_cascade.uncertainty.observed import ObservedPredictor
from nnunet_cascade.uncertainty.plain import PlainPredictor
from nnunet_cascade.uncertainty.predictor import Extras, MonteCarloPredictor
from nnunet_cascade.uncertainty.temperature import unscaled
from nnunet_cascade.uncertainty.volumes import RoiVotes

_Value = TypeVar("_Value", bound=np.generic)


@dataclass(frozen=True, slots=True)
class CoarsePrediction:
    """What stage 1 says about a whole image.

    Attributes:
        mask: (Z, Y, X), tumor wherever its share of probability passes the threshold.
        probability: (Z, Y, X), of the tumor, 0 to 1.
        uncertainty: (Z, Y, X), in the measure of the settings; None without samples.
    """

    mask: Mask
    probability: Image
    uncertainty: Image | None = None


@dataclass(frozen=True, slots=True)
class RoiPrediction:
    """What stage 2 says about one crop.

    Attributes:
        probability: (Z, Y, X), mean tumor probability over the samples, 0 to 1.
        uncertainty: (Z, Y, X), in the measure of the settings; None without samples.
        votes: What each sample calls tumor; None without samples.
    """

    probability: Image
    uncertainty: Image | None = None
    votes: RoiVotes | None = None


class StageModel:
    """A trained nnU-Net model folder, ready to predict arrays.

    Args:
        folder: With plans.json, dataset.json and a folder per fold.
        settings: How to predict.
        device: Where to predict.
        plan: What to sample, or None for one prediction without uncertainty. A plan
            aside serves `predict_coarse`, any other one `predict_roi`.

    Raises:
        BundleError: A file is missing, the model takes other channels than the CT and
            perhaps its edge magnitude, or it has no such tumor label.
        DropoutError: Monte-Carlo dropout was asked of a model without active dropout.
        SettingsError: Another source of samples was asked for than the model and its settings offer.
    """

    def __init__(
        self, folder: Path, settings: StageSettings, *, device: torch.device, plan: SamplePlan | None = None
    ) -> None:
        require_files(folder, settings)
        dataset_json = read_json(folder / "dataset.json")
        self._with_edges = takes_edges(dataset_json, where=str(folder))
        self._tumor_channel = tumor_channel(dataset_json, settings.tumor_label, where=str(folder))
        require_reader(read_json(folder / "plans.json"), settings, where=str(folder))
        register()
        self._folder, self._threshold = folder, settings.threshold
        # What it loads is None to a type checker until it is loaded.
        with redirect_stdout(io.StringIO()):  # nnU-Net prints its whole search for the trainer
            self._predictor: Any = _predictor(settings, plan, device, self._tumor_channel)
            load_members(self._predictor, folder, settings)
        # The predictor asks for the fastest convolutions; we ask for the same ones every time.
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        self.sampling = None if plan is None else _facts(plan, self._predictor, settings, where=str(folder))
        if plan is not None and plan.passes > 0:
            require_dropout(cast(torch.nn.Module, self._predictor.network))

    @property
    def patch_size_mm(self) -> Spacing:
        """Extent of the network's patch along (Z, Y, X) of the image."""
        configuration = self._predictor.configuration_manager
        sizes = np.array(configuration.patch_size) * np.array(configuration.spacing)
        z, y, x = (float(sizes[axis]) for axis in self._predictor.plans_manager.transpose_backward)
        return z, y, x

    def predict_coarse(self, image: Image, spacing_mm: Spacing) -> CoarsePrediction:
        """Predict a whole image deterministically; a plan to sample aside changes neither mask nor probability.

        Args:
            image: (Z, Y, X) in HU. Left unchanged.
            spacing_mm: Voxel size along (Z, Y, X).
        """
        data, properties = self._preprocessed(image, spacing_mm)
        aside: tuple[torch.Tensor, ...] = ()
        if self.sampling is None:
            logits = self._predictor.predict_logits_from_preprocessed_data(data).float()
        else:
            logits, moments = self._predictor.predict_observed(data, channel=self._tumor_channel)
            logits, aside = logits.float(), (self._measured(*moments),)
        probabilities = self._probabilities(logits)
        tumor = probabilities[self._tumor_channel]
        if self._predictor.label_manager.has_regions or len(probabilities) == 2:
            probability, *spread = self._to_image_grid(torch.stack((tumor, *aside)), properties)
            return CoarsePrediction(probability > self._threshold, probability, *spread)
        others = [channel for channel in range(len(probabilities)) if channel != self._tumor_channel]
        rivals = torch.stack((tumor, probabilities[others].amax(0), *aside))
        probability, rival, *spread = self._to_image_grid(rivals, properties)
        return CoarsePrediction(probability > self._threshold * (probability + rival), probability, *spread)

    def predict_roi(self, crop: Image, spacing_mm: Spacing, *, seed: int) -> RoiPrediction:
        """Predict a crop, sampled where the model was loaded for it.

        Args:
            crop: (Z, Y, X) in HU. Left unchanged.
            spacing_mm: Voxel size along (Z, Y, X).
            seed: Of the dropout masks; the global generators are left as they were.
        """
        data, properties = self._preprocessed(crop, spacing_mm)
        channel = self._tumor_channel
        if self.sampling is None:
            logits = self._predictor.predict_logits_from_preprocessed_data(data).float()
            return RoiPrediction(self._to_image_grid(self._probabilities(logits)[channel][None], properties)[0])
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            samples = self._predictor.predict_samples(data)
        moments = [
            each[channel] for each in (samples.mean, samples.mean_square, samples.mean_entropy) if each is not None
        ]
        found = torch.stack((samples.mean[channel], self._measured(*moments)))
        probability, spread = self._to_image_grid(found, properties)
        planes = self._to_image_grid_unmixed(samples.votes.planes.flatten(0, 1).numpy(), properties)
        planes = planes.reshape(*samples.votes.planes.shape[:2], *planes.shape[1:])
        return RoiPrediction(probability, spread, RoiVotes(planes, samples.votes.passes, samples.votes.windows))

    def _preprocessed(self, image: Image, spacing_mm: Spacing) -> tuple[torch.Tensor, dict[str, Any]]:
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
        return torch.from_numpy(data), properties

    def _measured(
        self, mean: torch.Tensor, mean_square: torch.Tensor, mean_entropy: torch.Tensor | None = None
    ) -> torch.Tensor:
        facts = cast(SamplingFacts, self.sampling)
        return uncertainty(facts.measure, mean, mean_square=mean_square, mean_entropy=mean_entropy)

    def _probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(logits) if self._predictor.label_manager.has_regions else torch.softmax(logits, 0)

    def _to_image_grid(self, channels: torch.Tensor, properties: Mapping[str, Any]) -> NDArray[np.float32]:
        """Carry (C, …) from the preprocessed grid back to the image's; 0 where nnU-Net cropped zeros away.

        Both grids cover the same extent, so voxel faces, not centres, coincide at the
        ends (`align_corners=False`), as in nnU-Net's own resampling. NaN, in which no tumor would
        be found, is an error.
        """
        cropped = as_index(properties["shape_after_cropping_and_before_resampling"])
        resampled = interpolate(channels[None], size=cropped, mode="trilinear", align_corners=False)[0]
        if not bool(torch.isfinite(resampled).all()):
            raise BundleError(f"{self._folder} predicts NaN; expected probabilities; train the model again")
        return self._placed(resampled.numpy(), properties)

    def _to_image_grid_unmixed(self, channels: NDArray[np.uint8], properties: Mapping[str, Any]) -> NDArray[np.uint8]:
        """Carry (C, …) back to the image's grid as they are: each voxel takes the one its centre lies in."""
        cropped = as_index(properties["shape_after_cropping_and_before_resampling"])
        nearest = [
            ((np.arange(size) + 0.5) * count / size).astype(np.intp)
            for size, count in zip(cropped, channels.shape[1:], strict=True)
        ]
        return self._placed(channels[:, nearest[0][:, None, None], nearest[1][:, None], nearest[2]], properties)

    def _placed(self, channels: NDArray[_Value], properties: Mapping[str, Any]) -> NDArray[_Value]:
        """Undo nnU-Net's cropping and its order of axes."""
        whole = np.zeros((len(channels), *properties["shape_before_cropping"]), dtype=channels.dtype)
        bounds = properties["bbox_used_for_cropping"]
        whole[(slice(None), *(slice(low, high) for low, high in bounds))] = channels
        backward = self._predictor.plans_manager.transpose_backward
        return np.ascontiguousarray(whole.transpose((0, *(axis + 1 for axis in backward))))


def roi_seed(sampling: SamplingSettings, box: Box) -> int:
    """Give the seed of one ROI: it follows from the setting and the box alone, not from neighbours or file names."""
    text = f"{sampling.seed}:{box.start}:{box.stop}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")


def _predictor(settings: StageSettings, plan: SamplePlan | None, device: torch.device, channel: int) -> PlainPredictor:
    """Make the predictor of a plan, without a model yet; it takes the votes of a sample where the final mask would."""
    step_size = settings.step_size
    if plan is None:
        return PlainPredictor(device=device, step_size=step_size, mirroring=settings.mirroring)
    entropy = plan.measure == "mutual_information"
    if plan.aside:
        return ObservedPredictor(device=device, step_size=step_size, mirroring=settings.mirroring, entropy=entropy)
    decision = Decision(channel, unscaled(settings.threshold, settings.temperature))
    return MonteCarloPredictor(
        samples=plan.passes,
        device=device,
        step_size=step_size,
        mirroring=settings.mirroring or "tta" in plan.sources,
        extras=Extras(entropy=entropy, decision=decision),
    )


def _facts(plan: SamplePlan, predictor: Any, settings: StageSettings, *, where: str) -> SamplingFacts:
    """Say what will be sampled in fact; raise where that lacks what was asked for."""
    members, mirrors = len(predictor.list_of_parameters), len(predictor.flips())
    there: dict[Source, bool] = {"mc_dropout": plan.passes > 0, "tta": mirrors > 1, "ensemble": members > 1}
    missing = {
        "tta": f"{where} predicts no mirrored images (mirroring {settings.mirroring}; "
        f"the checkpoint allows the axes {predictor.allowed_mirroring_axes}); leave tta out of the sources of samples",
        "ensemble": f"{where} has one fold and one checkpoint to predict with; add some, or leave ensemble out of the "
        "sources of samples",
    }
    for source in plan.sources:
        if not there[source]:
            raise SettingsError(missing[source])
    if "tta" in plan.sources and 0 < plan.passes < mirrors:
        raise SettingsError(f"mc_samples {plan.passes} do not go round {mirrors} mirrored images; ask for more")
    sources: tuple[Source, ...] = tuple(source for source in get_args(Source) if there[source])
    return SamplingFacts(sources=sources, members=members, mirrors=mirrors, passes=plan.passes, measure=plan.measure)
