"""What the cascade found in one image, and how it is put together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnunet_cascade.flags import Flag
from nnunet_cascade.geometry import Grid, Image, Labels, Mask
from nnunet_cascade.postprocessing.anatomy import FilteredCandidates
from nnunet_cascade.postprocessing.lungs.result import LungMask
from nnunet_cascade.prediction.findings import Findings, find_components, measure_findings
from nnunet_cascade.prediction.judgement import judge_by_score
from nnunet_cascade.prediction.refinement import Refinement
from nnunet_cascade.prediction.roi import Islands, Roi, apply_island_policy, is_clipped, roi_map
from nnunet_cascade.prediction.spec import CascadeSpec
from nnunet_cascade.prediction.stage_model import CoarsePrediction
from nnunet_cascade.scans.flags import grid_flags
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
        proposals: Label map of all that stage 2 drew for candidates, by their ids, also of those that the score
            dropped; None where no score judged.
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
    proposals: Labels | None
    lungs: LungMask | None
    islands: Islands
    flags: tuple[str, ...]
    notes: tuple[str, ...]
    moved_results: tuple[str, ...]
    seconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class LungsOrReason:
    """The lungs of a case; without a mask, the notes say why none could be made."""

    mask: LungMask | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AnatomyResult:
    """What stage 1 found or was handed in, all its candidates with the rules' verdicts, and where stage 2 looks."""

    coarse: CoarsePrediction
    lungs: LungsOrReason
    filtered: FilteredCandidates
    rois: tuple[Roi, ...]
    stage1_given: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RefinedCase:
    """A case after stage 2, before it is decided what stays; of its scan, what the result tells.

    Attributes:
        grid: Of the image.
        judgement: Of the rules.
        refinement: What stage 2 found.
        sampling: What was sampled in stage 2, or None.
        stage1_sampling: What was sampled in stage 1, or None.
        flags: Of the scan.
        notes: What explains them.
    """

    grid: Grid
    judgement: AnatomyResult
    refinement: Refinement
    sampling: SamplingSummary | None
    stage1_sampling: SamplingSummary | None = None
    flags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def assemble_result(refined: RefinedCase, spec: CascadeSpec) -> CaseResult:
    """Make the final mask of what stage 2 found, and describe it; no step has a time yet."""
    grid, judgement, refinement = refined.grid, refined.judgement, refined.refinement
    rois, coarse = judgement.rois, judgement.coarse
    regions = roi_map(rois, grid.shape)
    probability = _scaled(refinement.probability, rois, regions, spec.stage2.temperature)
    found = _found(probability, rois, spec.stage2.threshold)
    scored = _scored(found, refined, spec)
    islands = apply_island_policy(scored.found, scored.filtered.kept_mask(), spec.roi, grid.spacing_mm)
    clipped = tuple(roi.id for roi in rois if is_clipped(islands.mask, roi, regions))
    spread = refinement.uncertainty
    sampled = (
        None if spread is None else Sampled(uncertainty=spread, regions=regions, sample_masks=refinement.sample_masks)
    )
    lesions, volumes = _described(_without(found, islands.mask, rois), islands.mask, sampled, grid)
    moved = {"stage1": coarse.moved_results, "stage2": refinement.moved_results}
    of_grid = grid_flags(grid, as_stored="stored" in {spec.stage1.orientation, spec.stage2.orientation})
    return CaseResult(
        grid=grid,
        tumor=islands.mask,
        probability=probability,
        uncertainty=spread,
        sampling=refined.sampling,
        lesions=lesions,
        volumes=volumes,
        regions=regions,
        rois=rois,
        clipped_rois=clipped,
        stage1=coarse.mask,
        stage1_given=judgement.stage1_given,
        stage1_uncertainty=coarse.uncertainty,
        stage1_sampling=refined.stage1_sampling,
        filtered=scored.filtered,
        proposals=scored.proposals,
        lungs=judgement.lungs.mask,
        islands=islands,
        flags=(
            *refined.flags,
            *of_grid,
            *_flags(scored.filtered, judgement.lungs.mask, islands, rois, clipped),
        ),
        notes=(*refined.notes, *of_grid.values(), *judgement.lungs.notes),
        moved_results=tuple(stage for stage, was in moved.items() if was),
        seconds={},
    )


@dataclass(frozen=True, slots=True)
class _Scored:
    """What stage 2 found for candidates that stay, or for none; all candidates; what it drew for each."""

    found: Mask
    filtered: FilteredCandidates
    proposals: Labels | None


def _scored(found: Mask, refined: RefinedCase, spec: CascadeSpec) -> _Scored:
    """Let the score judge the candidates; without a score what was found stays as it is."""
    asked = refined.judgement.filtered
    if spec.scoring is None:
        return _Scored(found, asked, None)
    measured, findings = _measured(found, refined, spec)
    judged = judge_by_score(measured, spec.scoring, spec.anatomy)
    ids = {each.id for each in asked.kept}
    ranked = sorted((each for each in judged.candidates if each.id in ids), key=lambda c: (-(c.score or 0.0), c.id))
    return _Scored(
        findings.without(found, ids, {each.id for each in judged.kept}),
        judged,
        findings.proposals(refined.grid.shape, [each.id for each in ranked]),
    )


def measured_candidates(refined: RefinedCase, spec: CascadeSpec) -> tuple[FilteredCandidates, Findings]:
    """Return the candidates with what stage 2 drew for each, before a score judges; and what it drew."""
    rois, stage = refined.judgement.rois, spec.stage2
    regions = roi_map(rois, refined.grid.shape)
    probability = _scaled(refined.refinement.probability, rois, regions, stage.temperature)
    return _measured(_found(probability, rois, stage.threshold), refined, spec)


def _measured(found: Mask, refined: RefinedCase, spec: CascadeSpec) -> tuple[FilteredCandidates, Findings]:
    """Measure what was found by the probability as the network gave it: a temperature must not move the score."""
    asked = refined.judgement.filtered
    findings = find_components(found, asked, spec.roi.island_reach_mm, refined.grid)
    return measure_findings(asked, findings, refined.refinement, refined.judgement.rois, refined.grid), findings


def _scaled(probability: Image, rois: tuple[Roi, ...], regions: Labels, temperature: float) -> Image:
    """Return the probability, scaled by the temperature inside the regions; the same array where that is 1."""
    if temperature == 1:
        return probability
    scaled = np.zeros(probability.shape, dtype=probability.dtype)  # takes no memory outside the regions
    for roi in rois:
        here = roi.box.slices
        mine = regions[here] == roi.id  # what regions share is scaled once
        scaled[here][mine] = with_temperature(probability[here][mine], temperature)
    return scaled


def _found(probability: Image, rois: tuple[Roi, ...], threshold: float) -> Mask:
    """Mark what passes the threshold inside the regions."""
    found = np.zeros(probability.shape, dtype=np.bool_)
    for roi in rois:
        found[roi.box.slices] = probability[roi.box.slices] >= threshold
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
    kept = {each.id for each in filtered.kept}
    raised = {
        Flag.NO_CANDIDATE: not filtered.candidates,
        Flag.ROI_WITHOUT_TUMOR: any(
            not islands.mask[roi.box.slices].any() for roi in rois if kept.intersection((roi.candidate, *roi.merged))
        ),
        Flag.ISLANDS_DROPPED: islands.count > 0 and islands.dropped,
        Flag.ISLANDS_KEPT: islands.count > 0 and not islands.dropped,
        Flag.ROI_CLIPPED: bool(clipped),
        Flag.EMPTY_RESULT: not islands.mask.any(),
    }
    of_lungs = (Flag.LUNGS_NOT_FOUND,) if lungs is None else lungs.flags
    return tuple(dict.fromkeys((*of_lungs, *filtered.flags, *(flag for flag, up in raised.items() if up))))
