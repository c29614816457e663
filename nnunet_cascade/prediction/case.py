"""One case through the whole cascade."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

from nnunet_cascade.errors import BundleError, NoLungsError
from nnunet_cascade.geometry import Grid, Image, Mask
from nnunet_cascade.images import Volume, require_ct
from nnunet_cascade.postprocessing.anatomy import filter_candidates
from nnunet_cascade.postprocessing.lungs.result import LungMask
from nnunet_cascade.postprocessing.lungs.source import find_lungs
from nnunet_cascade.prediction.judgement import limit_candidates
from nnunet_cascade.prediction.loaded import LoadedCascade
from nnunet_cascade.prediction.preprocessing import Prepared
from nnunet_cascade.prediction.refinement import crop_regions, predict_regions, stage_turn
from nnunet_cascade.prediction.result import AnatomyResult, CaseResult, LungsOrReason, RefinedCase, assemble_result
from nnunet_cascade.prediction.roi import plan_rois
from nnunet_cascade.prediction.spec import CascadeSpec
from nnunet_cascade.prediction.stage_model import CoarsePrediction, StageModel
from nnunet_cascade.prediction.steps import CaseSteps, Clock, Step, one_step, run_steps
from nnunet_cascade.scans.scans import LoadedScan


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecomputedInputs:
    """What a user hands in instead of having it made.

    Attributes:
        case: Name of the case, by which files are found.
        stage1: (Z, Y, X), a mask instead of stage 1's prediction.
        stage1_probability: (Z, Y, X), the tumor probability that the mask was made of; None if it is not known.
        lungs: A lung mask instead of the one the bundle's source would make.
    """

    case: str = "case"
    stage1: Mask | None = None
    stage1_probability: Image | None = None
    lungs: LungMask | None = None


def case_steps(
    read: Callable[[], tuple[LoadedScan, PrecomputedInputs]], bundle: LoadedCascade, clock: Clock
) -> CaseSteps[CaseResult]:
    """Take the CT that is read through the cascade, as `predict_case` does; the clock gets the time of each step.

    Nothing is held longer than the next step needs it.
    """
    refined = yield from refinement_steps(read, bundle, clock)
    described = clock.timed("lesions", assemble_result, refined, bundle.spec)
    del refined
    result = yield from one_step(Step("processor", described))
    return replace(result, seconds=dict(clock.seconds))


def refinement_steps(
    read: Callable[[], tuple[LoadedScan, PrecomputedInputs]], bundle: LoadedCascade, clock: Clock
) -> CaseSteps[RefinedCase]:
    """Take the CT as far as through stage 2."""

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
    given_mask = prepared is None
    del prepared, given
    rules = clock.timed("anatomy", apply_anatomy_rules, grid, coarse, lungs, bundle.spec, stage1_given=given_mask)
    judgement = yield from one_step(Step("processor", rules))
    del coarse, lungs, rules
    crops = yield from one_step(Step("processor", partial(crop_regions, scan.volume, bundle, judgement.rois)))
    del scan
    refinement = yield from one_step(
        Step("networks", clock.timed("stage2", predict_regions, crops, grid, bundle)),
    )
    return RefinedCase(
        grid=grid,
        judgement=judgement,
        refinement=refinement,
        sampling=bundle.stage2.sampling,
        stage1_sampling=bundle.stage1.sampling if bundle.stage1 and not given_mask else None,
        flags=flags,
        notes=notes,
    )


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
    return run_steps(case_steps(_reader(image, given), bundle, Clock()))


def refine_case(
    image: Volume | LoadedScan, bundle: LoadedCascade, given: PrecomputedInputs | None = None
) -> RefinedCase:
    """Run the cascade on one CT as `predict_case` does, up to what `assemble_result` makes a result of."""
    return run_steps(refinement_steps(_reader(image, given), bundle, Clock()))


def _reader(
    image: Volume | LoadedScan, given: PrecomputedInputs | None
) -> Callable[[], tuple[LoadedScan, PrecomputedInputs]]:
    scan = image if isinstance(image, LoadedScan) else LoadedScan(volume=image)
    known = given or PrecomputedInputs()

    def read() -> tuple[LoadedScan, PrecomputedInputs]:
        require_ct(scan.volume.array, name=known.case)
        return scan, known

    return read


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
        return CoarsePrediction(cast(Mask, given.stage1), given.stage1_probability)
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


def apply_anatomy_rules(
    grid: Grid, coarse: CoarsePrediction, lungs: LungsOrReason, spec: CascadeSpec, *, stage1_given: bool = False
) -> AnatomyResult:
    """Ask the anatomy rules, and draw regions around what they keep; and, with a score, what they leave undecided.

    Raises:
        GridMismatchError: A mask is not of the image's shape.
    """
    filtered = filter_candidates(
        coarse.mask,
        grid,
        lungs.mask,
        spec.anatomy,
        probability=coarse.probability,
        uncertainty=coarse.uncertainty,
        ask_stage2=spec.scoring is not None,
    )
    filtered = limit_candidates(filtered, spec)
    return AnatomyResult(
        coarse=replace(coarse, probability=None),  # nobody looks at it any more
        lungs=lungs,
        filtered=filtered,
        rois=plan_rois(filtered.kept, grid, spec.roi),
        stage1_given=stage1_given,
    )
