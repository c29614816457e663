"""Stage 2: regions of an image, predicted one by one and put back where they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nnunet_cascade.geometry import AxisTurn, Box, Grid, Image, crop_with_fill
from nnunet_cascade.images import AIR_HU, Volume
from nnunet_cascade.prediction.loaded import LoadedCascade
from nnunet_cascade.prediction.roi import Roi, RoiBlender, patch_voxels
from nnunet_cascade.prediction.spec import StageSettings
from nnunet_cascade.prediction.stage_model import AS_STORED, roi_seed
from nnunet_cascade.uncertainty.volumes import RegionSampleMasks


@dataclass(frozen=True, slots=True)
class Crop:
    """What stage 2 sees of one region, as its axes run.

    Attributes:
        roi: The region, on the image's grid.
        box: The same, on the turned grid.
        context: What the array covers there: the region, and air where the image ends.
        array: (Z, Y, X), float32, HU.
    """

    roi: Roi
    box: Box
    context: Box
    array: Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Refinement:
    """What stage 2 found in all regions; arrays (Z, Y, X) on the image's grid.

    Attributes:
        probability: Averaged where regions overlap, 0 outside.
        uncertainty: The same of the measure; None without samples.
        sample_masks: By region's id, with its box.
        moved_results: Whether results did not fit on the device.
    """

    probability: Image
    uncertainty: Image | None
    sample_masks: Mapping[int, tuple[Box, RegionSampleMasks]]
    moved_results: bool


def stage_turn(stage: StageSettings, grid: Grid) -> AxisTurn:
    """Return how an image's axes are turned for a stage; not at all where it sees them as they are stored."""
    if stage.orientation == "stored":
        return AS_STORED
    return AxisTurn.to_code(grid, stage.orientation)


def crop_regions(image: Volume, bundle: LoadedCascade, rois: Sequence[Roi]) -> tuple[Crop, ...]:
    """Copy what stage 2 looks at out of an image, which it needs no more: regions, with context up to its patch."""
    turn = stage_turn(bundle.spec.stage2, image.grid)
    turned, spacing_mm = turn.apply(image.array), turn.spacing(image.grid.spacing_mm)
    at_least = patch_voxels(bundle.stage2.patch_size_mm, spacing_mm)
    boxes = [turn.box(roi.box, image.grid.shape) for roi in rois]
    contexts = [box.at_least(at_least) for box in boxes]
    return tuple(
        Crop(roi, box, context, crop_with_fill(turned, context, fill=AIR_HU).astype(np.float32, copy=False))
        for roi, box, context in zip(rois, boxes, contexts, strict=True)
    )


def predict_regions(crops: tuple[Crop, ...], grid: Grid, bundle: LoadedCascade) -> Refinement:
    """Predict every region; probability and uncertainty on the whole grid, averaged where regions overlap.

    All of it happens in the orientation that the network sees, so that a flipped
    image gives the flipped result.

    Raises:
        DeviceError: The device has not the memory for one window.
    """
    turn = stage_turn(bundle.spec.stage2, grid)
    probability, uncertainty = RoiBlender(grid.shape, turn), RoiBlender(grid.shape, turn)
    sample_masks: dict[int, tuple[Box, RegionSampleMasks]] = {}
    moved = False
    for crop in crops:
        seed = roi_seed(bundle.spec.sampling, crop.box)
        found = bundle.stage2.predict_roi(crop.array, turn.spacing(grid.spacing_mm), seed=seed)
        moved = moved or found.moved_results
        inside = crop.box.relative_to(crop.context).slices
        probability.paste(found.probability[inside], crop.box)
        if found.uncertainty is not None and found.sample_masks is not None:
            uncertainty.paste(found.uncertainty[inside], crop.box)
            sample_masks[crop.roi.id] = crop.roi.box, _turned_back(found.sample_masks, inside, turn)
    sampled = bundle.stage2.sampling is not None
    return Refinement(
        probability=probability.mean(),
        uncertainty=uncertainty.mean() if sampled else None,
        sample_masks=sample_masks,
        moved_results=moved,
    )


def _turned_back(
    sample_masks: RegionSampleMasks, inside: tuple[slice, slice, slice], turn: AxisTurn
) -> RegionSampleMasks:
    """Return the votes inside a region as the image's axes run."""
    planes = sample_masks.planes[(slice(None), slice(None), *inside)]
    turned = [np.stack([turn.undo(plane) for plane in member]) for member in planes]
    return replace(sample_masks, planes=np.stack(turned))
