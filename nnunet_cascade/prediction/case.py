"""One case through the whole cascade."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import numpy as np

from nnunet_cascade.errors import BundleError, NoLungsError
from nnunet_cascade.flags import Flag
from nnunet_cascade.geometry import Grid, Image, Labels, Mask
from nnunet_cascade.images import Volume, require_ct
from nnunet_cascade.postprocessing.anatomy import FilteredCandidates, filter_candidates
from nnunet_cascade.postprocessing.lungs.result import LungMask
from nnunet_cascade.postprocessing.lungs.source import find_lungs
from nnunet_cascade.prediction.loaded import LoadedCascade
from nnunet_cascade.prediction.preprocessing import Prepared
from nnunet_cascade.prediction.refinement import Refinement, crop_regions, predict_regions, stage_turn
from nnunet_cascade.prediction.roi import Islands, Roi, apply_island_policy, is_clipped, plan_rois, roi_map
from nnunet_cascade.prediction.spec import CascadeSpec, StageSettings
from nnunet_cascade.prediction.stage_model import CoarsePrediction, StageModel
from nnunet_cascade.prediction.steps import CaseSteps, Clock, Step, one_step, run_steps
from nnunet_cascade.scans.flags import grid_flags
from nnunet_cascade.scans.scans import LoadedScan
from nnunet_cascade.uncertainty.lesions import Lesion, describe_lesions, label_lesions
from nnunet_cascade.uncertainty.sampling_types import SamplingSummary
from nnunet_cascade.uncertainty.temperature import with_temperature
from nnunet_cascade.uncertainty.volumes import Sampled, VolumeSpreads, volume_spreads


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
        moved_results: Stages whose results did not fit on the device and went to the computer's own memory.
        seconds: Time each step took.

    Example:
        >>> isinstance(cascade.predict("ct.nii.gz"), nnc.CaseResult)
        True
    """

    grid: Grid
    tumor: Mask
    probability: Image
    uncertainty: Image | None
    sampling: SamplingSummary | None
    lesions: tuple[Lesion, ...]
    volumes: VolumeSpreads | None
    regions: Labels
    rois: tuple[Roi, ...]
    clipped_rois: tuple[int, ...]
    stage1: Mask
    stage1_given: bool
    stage1_uncertainty: Image | None
    stage1_sampling: SamplingSummary | None
    filtered: FilteredCandidates
    lungs: LungMask | None
    islands: Islands
    flags: tuple[str, ...]
    notes: tuple[str, ...]
    moved_results: tuple[str, ...]
    seconds: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecomputedInputs:
    """What a user hands in instead of having it made.

    Attributes:
        case: Name of the case, by which files are found.
        stage1: (Z, Y, X), a mask instead of stage 1's prediction.
        lungs: A lung mask instead of the one the bundle's source would make.
    """

    case: str = "case"
    stage1: Mask | None = None
    lungs: LungMask | None = None


@dataclass(frozen=True, slots=True)
class LungsOrReason:
    """The lungs of a case; without a mask, the notes say why none could be made."""

    mask: LungMask | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AnatomyResult:
    """What stage 1 found or was handed in, all its candidates with their verdicts, and where stage 2 looks."""

    coarse: CoarsePrediction
    lungs: LungsOrReason
    filtered: FilteredCandidates
    rois: tuple[Roi, ...]
    stage1_given: bool


def case_steps(
    read: Callable[[], tuple[LoadedScan, PrecomputedInputs]], bundle: LoadedCascade, clock: Clock
) -> CaseSteps[CaseResult]:
    """Take the CT that is read through the cascade, as `predict_case` does; the clock gets the time of each step.

    Nothing is held longer than the next step needs it.
    """

    def read_and_prepare() -> tuple[LoadedScan, PrecomputedInputs, Prepared | None]:
        with clock.step("read"):
            scan, given = read()
        return scan, given, clock.timed("prepare", prepare_stage1, scan.volume, bundle, given)()

    scan, given, prepared = yield from one_step(Step("reading", read_and_prepare))
    grid, flags, notes = scan.volume.grid, scan.flags, scan.notes
    coarse, lungs = yield (
        Step("networks", clock.timed("stage1", predict_stage1, prepared, grid, bundle, given)),
        Step("lungs", clock.timed("lungs", find_lungs_or_reason, scan.volume, bundle.spec, given)),
    )
    del prepared, given
    rules = clock.timed("anatomy", apply_anatomy_rules, grid, coarse, lungs, bundle.spec)
    judgement = yield from one_step(Step("processor", rules))
    del coarse, lungs, rules
    crops = yield from one_step(Step("processor", partial(crop_regions, scan.volume, bundle, judgement.rois)))
    del scan
    refinement = yield from one_step(
        Step("networks", clock.timed("stage2", predict_regions, crops, grid, bundle)),
    )
    del crops
    described = clock.timed("lesions", assemble_result, grid, bundle, judgement, refinement)
    del judgement, refinement
    result = yield from one_step(Step("processor", described))
    return replace(result, flags=(*flags, *result.flags), notes=(*notes, *result.notes), seconds=dict(clock.seconds))


def predict_case(
    image: Volume | LoadedScan, bundle: LoadedCascade, given: PrecomputedInputs | None = None
) -> CaseResult:
    """Run the cascade on one CT, step by step.

    Args:
        image: The CT in HU, in any orientation, or as it was read, with what its slices' headers tell. Left unchanged.
        bundle: As `load_cascade` returns it.
        given: What is handed in instead of made.

    Returns:
        The result on the image's own grid. No candidate, or every candidate
        rejected, gives an empty mask and a flag, never an error.

    Raises:
        InputImageError: The image is no CT.
        GridMismatchError: A given mask is not of the image's shape.
        BundleError: The bundle was loaded without stage 1 and no mask is given.
        LungMaskError, GridMismatchError, InputImageError: A lung mask cannot be had or does not fit.
        DeviceError: The device has not the memory for one window.
    """
    scan = image if isinstance(image, LoadedScan) else LoadedScan(volume=image)
    known = given or PrecomputedInputs()

    def read() -> tuple[LoadedScan, PrecomputedInputs]:
        require_ct(scan.volume.array, name=known.case)
        return scan, known

    return run_steps(case_steps(read, bundle, Clock()))


def prepare_stage1(image: Volume, bundle: LoadedCascade, given: PrecomputedInputs) -> Prepared | None:
    """Preprocess an image for stage 1; None where its mask is given.

    Raises:
        BundleError: The bundle was loaded without stage 1 and no mask is given.
    """
    if given.stage1 is not None:
        return None
    if bundle.stage1 is None:
        raise BundleError(f"{given.case}: the bundle was loaded without stage 1 and no stage-1 mask is given; give one")
    turn = stage_turn(bundle.spec.stage1, image.grid)
    return bundle.stage1.prepare_coarse(image.array, image.grid.spacing_mm, turn)


def predict_stage1(
    prepared: Prepared | None, grid: Grid, bundle: LoadedCascade, given: PrecomputedInputs
) -> CoarsePrediction:
    """Run stage 1, or take the mask that is given instead."""
    if prepared is None:
        return CoarsePrediction(cast(Mask, given.stage1), None)
    return cast(StageModel, bundle.stage1).predict_coarse(prepared, stage_turn(bundle.spec.stage1, grid))


def find_lungs_or_reason(image: Volume, spec: CascadeSpec, given: PrecomputedInputs) -> LungsOrReason:
    """Return the lungs, or none and the reason: a scan without lungs keeps its candidates and is flagged.

    Raises:
        LungMaskError, GridMismatchError, InputImageError: A lung mask cannot be had or does not fit.
    """
    if given.lungs is not None:
        return LungsOrReason(given.lungs)
    try:
        return LungsOrReason(find_lungs(image, spec.lungs, case=given.case))
    except NoLungsError as error:
        return LungsOrReason(None, (str(error),))


def apply_anatomy_rules(grid: Grid, coarse: CoarsePrediction, lungs: LungsOrReason, spec: CascadeSpec) -> AnatomyResult:
    """Ask the anatomy rules, and draw regions around what they keep.

    Raises:
        GridMismatchError: A mask is not of the image's shape.
    """
    filtered = filter_candidates(
        coarse.mask, grid, lungs.mask, spec.anatomy, probability=coarse.probability, uncertainty=coarse.uncertainty
    )
    return AnatomyResult(
        coarse=replace(coarse, probability=None),  # nobody looks at it any more
        lungs=lungs,
        filtered=filtered,
        rois=plan_rois(filtered.kept, grid, spec.roi),
        stage1_given=coarse.probability is None,
    )


def assemble_result(grid: Grid, bundle: LoadedCascade, judgement: AnatomyResult, refinement: Refinement) -> CaseResult:
    """Make the final mask of what stage 2 found, and describe it; no step has a time yet.

    The refinement's probability is scaled in place.
    """
    spec, rois, coarse = bundle.spec, judgement.rois, judgement.coarse
    regions = roi_map(rois, grid.shape)
    found = _found(refinement.probability, rois, regions, spec.stage2)
    islands = apply_island_policy(found, judgement.filtered.kept_mask(), spec.roi, grid.spacing_mm)
    clipped = tuple(roi.id for roi in rois if is_clipped(islands.mask, roi, regions))
    spread = refinement.uncertainty
    sampled = (
        None if spread is None else Sampled(uncertainty=spread, regions=regions, sample_masks=refinement.sample_masks)
    )
    lesions, volumes = _described(_without(found, islands.mask, rois), islands.mask, sampled, grid)
    moved = {"stage1": coarse.moved_results, "stage2": refinement.moved_results}
    of_grid = grid_flags(grid, as_stored="stored" in {spec.stage1.orientation, spec.stage2.orientation})
    given = judgement.stage1_given
    return CaseResult(
        grid=grid,
        tumor=islands.mask,
        probability=refinement.probability,
        uncertainty=spread,
        sampling=bundle.stage2.sampling,
        lesions=lesions,
        volumes=volumes,
        regions=regions,
        rois=rois,
        clipped_rois=clipped,
        stage1=coarse.mask,
        stage1_given=given,
        stage1_uncertainty=coarse.uncertainty,
        stage1_sampling=bundle.stage1.sampling if bundle.stage1 and not given else None,
        filtered=judgement.filtered,
        lungs=judgement.lungs.mask,
        islands=islands,
        flags=(*of_grid, *_flags(judgement.filtered, judgement.lungs.mask, islands, rois, clipped)),
        notes=(*of_grid.values(), *judgement.lungs.notes),
        moved_results=tuple(stage for stage, was in moved.items() if was),
        seconds={},
    )


def _found(probability: Image, rois: tuple[Roi, ...], regions: Labels, stage: StageSettings) -> Mask:
    """Scale the probability by the temperature, in place, and mark what passes the threshold inside the regions."""
    found = np.zeros(probability.shape, dtype=np.bool_)
    for roi in rois:
        here = roi.box.slices
        if stage.temperature != 1:
            mine = regions[here] == roi.id  # what regions share is scaled once
            probability[here][mine] = with_temperature(probability[here][mine], stage.temperature)
    for roi in rois:
        found[roi.box.slices] = probability[roi.box.slices] >= stage.threshold
    return found


def _without(found: Mask, kept: Mask, rois: tuple[Roi, ...]) -> Mask:
    """Return what was found and not kept, all of it inside the regions."""
    dropped = np.zeros(found.shape, dtype=np.bool_)
    for roi in rois:
        dropped[roi.box.slices] = found[roi.box.slices] & ~kept[roi.box.slices]
    return dropped


def _described(
    dropped: Mask, tumor: Mask, sampled: Sampled | None, grid: Grid
) -> tuple[tuple[Lesion, ...], VolumeSpreads | None]:
    labels = label_lesions(tumor)
    volumes = None if sampled is None else volume_spreads(labels, dropped, sampled, grid.spacing_mm)
    of_lesions = None if volumes is None else volumes.lesions
    return describe_lesions(labels, grid.spacing_mm, sampled, of_lesions), volumes


def _flags(
    filtered: FilteredCandidates,
    lungs: LungMask | None,
    islands: Islands,
    rois: tuple[Roi, ...],
    clipped: tuple[int, ...],
) -> tuple[str, ...]:
    """Collect what a reader should look at, each once, in the order of the steps."""
    raised = {
        Flag.NO_CANDIDATE: not filtered.candidates,
        Flag.ROI_WITHOUT_TUMOR: any(not islands.mask[roi.box.slices].any() for roi in rois),
        Flag.ISLANDS_DROPPED: islands.count > 0 and islands.dropped,
        Flag.ISLANDS_KEPT: islands.count > 0 and not islands.dropped,
        Flag.ROI_CLIPPED: bool(clipped),
        Flag.EMPTY_RESULT: not islands.mask.any(),
    }
    of_lungs = (Flag.LUNGS_NOT_FOUND,) if lungs is None else lungs.flags
    return tuple(dict.fromkeys((*of_lungs, *filtered.flags, *(flag for flag, up in raised.items() if up))))
