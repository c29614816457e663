"""One case through the whole cascade."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from nnunet_cascade.cascade.bundles.bundle import LoadedCascade
from nnunet_cascade.cascade.models import CoarsePrediction, roi_seed
from nnunet_cascade.cascade.roi import Canvas, Islands, Roi, is_clipped, judge_islands, patch_voxels, plan_rois, roi_map
from nnunet_cascade.cascade.spec import CascadeSpec, StageSettings
from nnunet_cascade.errors import BundleError, NoLungsError
from nnunet_cascade.geometry import AxisTurn, Box, Grid, Image, Labels, Mask, as_index, crop_with_fill
from nnunet_cascade.images import AIR_HU, Volume, require_ct
from nnunet_cascade.postprocessing.anatomy import FilteredCandidates, filter_candidates
from nnunet_cascade.postprocessing.lungs.result import LungMask
from nnunet_cascade.postprocessing.lungs.source import find_lungs
from nnunet_cascade.uncertainty.choices import SamplingFacts
from nnunet_cascade.uncertainty.lesions import Lesion, describe_lesions, label_lesions
from nnunet_cascade.uncertainty.temperature import with_temperature
from nnunet_cascade.uncertainty.volumes import RoiVotes, Sampled, VolumeSpreads, volume_spreads

TUMOR_NOWHERE = "no_candidate"
LUNGS_NOT_FOUND = "lungs_not_found"
ROI_CLIPPED = "roi_clipped"
ROI_EMPTY = "roi_without_tumor"
ISLANDS_DROPPED = "islands_dropped"
ISLANDS_KEPT = "islands_kept"
EMPTY_RESULT = "empty_result"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """What the cascade found in one image; all arrays (Z, Y, X) on the image's own grid.

    Attributes:
        grid: The image's.
        tumor: The final mask.
        probability: Mean tumor probability inside the regions, scaled by the temperature
            of stage 2; 0 outside.
        uncertainty: The measure of the settings, made of the samples as the network gave
            them, inside the regions; 0 outside where it is undefined; None without samples.
        sampling: What was sampled in stage 2, or None.
        lesions: Components of the mask, the largest first.
        volumes: Spread of the volumes over the samples; None without samples or regions.
        regions: Label map of the regions.
        rois: The regions.
        clipped_rois: Ids of regions whose faces the mask reaches.
        stage1: Stage 1's mask, before any rule.
        stage1_given: Whether it was handed in instead of predicted.
        stage1_uncertainty: The measure of the settings over stage 1's samples; None without.
        stage1_sampling: What was sampled in stage 1, or None.
        filtered: All candidates with their verdicts.
        lungs: The lung mask, or None where none could be made.
        islands: What became of components away from every kept candidate.
        flags: What a reader should look at, in words that stay the same.
        notes: What explains a flag, in one line each.
        seconds: Time each step took.
    """

    grid: Grid
    tumor: Mask
    probability: Image
    uncertainty: Image | None
    sampling: SamplingFacts | None
    lesions: tuple[Lesion, ...]
    volumes: VolumeSpreads | None
    regions: Labels
    rois: tuple[Roi, ...]
    clipped_rois: tuple[int, ...]
    stage1: Mask
    stage1_given: bool
    stage1_uncertainty: Image | None
    stage1_sampling: SamplingFacts | None
    filtered: FilteredCandidates
    lungs: LungMask | None
    islands: Islands
    flags: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a user hands in instead of having it made.

    Attributes:
        case: Name of the case, by which files are found.
        stage1: (Z, Y, X), a mask instead of stage 1's prediction.
        lungs: A lung mask instead of the one the bundle's source would make.
    """

    case: str = "case"
    stage1: Mask | None = None
    lungs: LungMask | None = None


@dataclass(slots=True)
class _Clock:
    seconds: dict[str, float] = field(default_factory=dict[str, float])

    @contextmanager
    def step(self, name: str) -> Generator[None, None, None]:
        begin = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - begin, 3)


def predict_case(image: Volume, bundle: LoadedCascade, given: Given | None = None) -> CaseResult:
    """Run the cascade on one CT.

    Args:
        image: The CT in HU, in any orientation. Left unchanged.
        bundle: As `load_cascade` gives it.
        given: What is handed in instead of made.

    Returns:
        The result on the image's own grid. No candidate, or every candidate
        rejected, gives an empty mask and a flag, never an error.

    Raises:
        InputImageError: The image is no CT.
        GridMismatchError: A given mask is not of the image's shape.
        BundleError: The bundle was loaded without stage 1 and no mask is given.
        LungMaskError, GridMismatchError, InputImageError: A lung mask cannot be had or does not fit.
    """
    given = given or Given()
    require_ct(image.array, name=given.case)
    clock, spec = _Clock(), bundle.spec
    with clock.step("stage1"):
        coarse = _coarse(image, bundle, given)
    with clock.step("lungs"):
        lungs, notes = _lungs(image, spec, given)
    with clock.step("anatomy"):
        known = None if given.stage1 is not None else coarse.probability
        filtered = filter_candidates(
            coarse.mask, image.grid, lungs, spec.anatomy, probability=known, uncertainty=coarse.uncertainty
        )
    rois = plan_rois(filtered.kept, image.grid, spec.roi)
    regions = roi_map(rois, image.grid.shape)
    with clock.step("stage2"):
        probability, uncertainty, votes = _refined(image, bundle, rois)
    inside = regions > 0
    if spec.stage2.temperature != 1:
        probability[inside] = with_temperature(probability[inside], spec.stage2.temperature)
    found = (probability >= spec.stage2.threshold) & inside
    islands = judge_islands(found, filtered.kept_mask(), spec.roi, image.grid.spacing_mm)
    clipped = tuple(roi.id for roi in rois if is_clipped(islands.mask, roi, regions))
    with clock.step("lesions"):
        sampled = None if uncertainty is None else Sampled(uncertainty=uncertainty, regions=regions, votes=votes)
        lesions, volumes = _described(found, islands.mask, sampled, image.grid)
    return CaseResult(
        grid=image.grid,
        tumor=islands.mask,
        probability=probability,
        uncertainty=uncertainty,
        sampling=bundle.stage2.sampling,
        lesions=lesions,
        volumes=volumes,
        regions=regions,
        rois=rois,
        clipped_rois=clipped,
        stage1=coarse.mask,
        stage1_given=given.stage1 is not None,
        stage1_uncertainty=coarse.uncertainty,
        stage1_sampling=bundle.stage1.sampling if bundle.stage1 and given.stage1 is None else None,
        filtered=filtered,
        lungs=lungs,
        islands=islands,
        flags=_flags(filtered, lungs, islands, rois, clipped),
        notes=notes,
        seconds=clock.seconds,
    )


def _coarse(image: Volume, bundle: LoadedCascade, given: Given) -> CoarsePrediction:
    if given.stage1 is not None:
        return CoarsePrediction(given.stage1, given.stage1.astype(np.float32))
    if bundle.stage1 is None:
        raise BundleError(f"{given.case}: the bundle was loaded without stage 1 and no stage-1 mask is given; give one")
    turn = _turn(bundle.spec.stage1, image.grid)
    found = bundle.stage1.predict_coarse(turn.apply(image.array), turn.spacing(image.grid.spacing_mm))
    spread = None if found.uncertainty is None else turn.undo(found.uncertainty)
    return CoarsePrediction(turn.undo(found.mask), turn.undo(found.probability), spread)


def _lungs(image: Volume, spec: CascadeSpec, given: Given) -> tuple[LungMask | None, tuple[str, ...]]:
    """Give the lungs, or none and the reason: a scan without lungs keeps its candidates and is flagged."""
    if given.lungs is not None:
        return given.lungs, ()
    try:
        return find_lungs(image, spec.lungs, case=given.case), ()
    except NoLungsError as error:
        return None, (str(error),)


def _refined(
    image: Volume, bundle: LoadedCascade, rois: tuple[Roi, ...]
) -> tuple[Image, Image | None, dict[int, tuple[Box, RoiVotes]]]:
    """Predict every region; probability and uncertainty on the whole grid, averaged where regions overlap.

    All of it happens in the orientation that the network sees, so that a flipped
    image gives the flipped result.
    """
    spec = bundle.spec
    turn = _turn(spec.stage2, image.grid)
    turned, spacing_mm = turn.apply(image.array), turn.spacing(image.grid.spacing_mm)
    at_least = patch_voxels(bundle.stage2.patch_size_mm, spacing_mm)
    probability, uncertainty = Canvas(as_index(turned.shape)), Canvas(as_index(turned.shape))
    votes: dict[int, tuple[Box, RoiVotes]] = {}
    for roi in rois:
        box = turn.box(roi.box, image.grid.shape)
        context = box.at_least(at_least)
        crop = crop_with_fill(turned, context, fill=AIR_HU)
        found = bundle.stage2.predict_roi(crop, spacing_mm, seed=roi_seed(spec.sampling, box))
        inside = box.relative_to(context).slices
        probability.paste(found.probability[inside], box)
        if found.uncertainty is not None and found.votes is not None:
            uncertainty.paste(found.uncertainty[inside], box)
            votes[roi.id] = roi.box, _turned_back(found.votes, inside, turn)
    sampled = bundle.stage2.sampling is not None
    return turn.undo(probability.mean()), turn.undo(uncertainty.mean()) if sampled else None, votes


def _turned_back(votes: RoiVotes, inside: tuple[slice, slice, slice], turn: AxisTurn) -> RoiVotes:
    """Give the votes inside a region as the image's axes run."""
    planes = votes.planes[(slice(None), slice(None), *inside)]
    turned = [np.stack([turn.undo(plane) for plane in member]) for member in planes]
    return replace(votes, planes=np.stack(turned))


def _described(
    found: Mask, tumor: Mask, sampled: Sampled | None, grid: Grid
) -> tuple[tuple[Lesion, ...], VolumeSpreads | None]:
    labels = label_lesions(tumor)
    volumes = None if sampled is None else volume_spreads(labels, found & ~tumor, sampled, grid.spacing_mm)
    of_lesions = None if volumes is None else volumes.lesions
    return describe_lesions(labels, grid.spacing_mm, sampled, of_lesions), volumes


def _turn(stage: StageSettings, grid: Grid) -> AxisTurn:
    if stage.orientation == "stored":
        return AxisTurn((0, 1, 2), (False, False, False))
    return AxisTurn.to_code(grid, stage.orientation)


def _flags(
    filtered: FilteredCandidates,
    lungs: LungMask | None,
    islands: Islands,
    rois: tuple[Roi, ...],
    clipped: tuple[int, ...],
) -> tuple[str, ...]:
    """Collect what a reader should look at, each once, in the order of the steps."""
    raised = {
        TUMOR_NOWHERE: not filtered.candidates,
        ROI_EMPTY: any(not islands.mask[roi.box.slices].any() for roi in rois),
        ISLANDS_DROPPED: islands.count > 0 and islands.dropped,
        ISLANDS_KEPT: islands.count > 0 and not islands.dropped,
        ROI_CLIPPED: bool(clipped),
        EMPTY_RESULT: not islands.mask.any(),
    }
    of_lungs = (LUNGS_NOT_FOUND,) if lungs is None else lungs.flags
    return tuple(dict.fromkeys((*of_lungs, *filtered.flags, *(flag for flag, up in raised.items() if up))))
