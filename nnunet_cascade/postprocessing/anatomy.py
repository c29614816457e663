"""The anatomy filter: from a coarse tumor mask to candidates with verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nnunet_cascade.errors import GridMismatchError
from nnunet_cascade.geometry import Grid, Image, Labels, Mask
from nnunet_cascade.postprocessing.candidates import Candidate, Verdict
from nnunet_cascade.postprocessing.measures import LungReference, measure_candidates
from nnunet_cascade.postprocessing.merging import label_candidates
from nnunet_cascade.postprocessing.rules import (
    KeepWithoutLungs,
    LungOverlap,
    MinimumVolume,
    Rescue,
    Rule,
    decide,
    keep_top,
)
from nnunet_cascade.postprocessing.settings import AnatomySettings

__all__ = ["AnatomySettings", "FilteredCandidates", "filter_candidates"]

LUNGS_MISSING = "lungs_missing"
LUNGS_EMPTY = "lungs_empty"
LUNGS_IMPLAUSIBLE = "lungs_implausible"
ALL_REJECTED = "all_rejected"
BEST_KEPT = "best_kept"
_MM3_PER_ML = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FilteredCandidates:
    """All candidates of a tumor mask, each with its verdict.

    Attributes:
        labels: (Z, Y, X), int32: the candidates' ids on the tumor mask, 0 elsewhere.
        candidates: In order of id, kept and dropped; none where the mask is empty.
        flags: What a reader of the result should know: "lungs_missing",
            "lungs_empty", "lungs_implausible", "all_rejected", "best_kept".
    """

    labels: Labels
    candidates: tuple[Candidate, ...]
    flags: tuple[str, ...]

    @property
    def kept(self) -> tuple[Candidate, ...]:
        """The candidates that were kept, in order of id."""
        return tuple(candidate for candidate in self.candidates if candidate.kept)

    def kept_mask(self) -> Mask:
        """Give the kept candidates as one mask (Z, Y, X), a subset of the tumor mask; empty where none was kept."""
        chosen = np.zeros(len(self.candidates) + 1, dtype=np.bool_)
        chosen[[candidate.id for candidate in self.kept]] = True
        return chosen[self.labels]

    def to_json(self) -> dict[str, Any]:
        """Give candidates and flags as plain values, for a JSON report."""
        return {"candidates": [candidate.to_json() for candidate in self.candidates], "flags": list(self.flags)}


def filter_candidates(
    tumor: Mask,
    grid: Grid,
    lungs: Mask | None,
    settings: AnatomySettings,
    *,
    probability: Image | None = None,
) -> FilteredCandidates:
    """Find the candidates of a tumor mask and decide which are kept.

    The rules, in order: too small → drop; enough of it in the lungs → keep; near a
    lung and large enough → keep; else drop; then the first `top_k` of those kept.
    A lung mask that is missing, empty or of an implausible volume drops nothing.

    Args:
        tumor: (Z, Y, X). Left unchanged. May be empty.
        grid: The grid of all arrays.
        lungs: (Z, Y, X); None where there is none.
        settings: What the rules ask.
        probability: (Z, Y, X), tumor probability; needed to rank by it.

    Returns:
        Every candidate with its verdict. An empty mask has none.

    Raises:
        GridMismatchError: An array is not of the grid's shape.
        SettingsError: Ranked by probability without a probability.

    Source:
        Isler et al., anatomy-aware post-processing; digest P2 to P6.
    """
    _require_shapes(grid, {"tumor mask": tumor, "lung mask": lungs, "probability map": probability})
    labels = label_candidates(tumor, grid, settings.merge)
    problem = _lung_problem(lungs, grid, settings)
    reference = None if problem is not None or lungs is None or not labels.any() else _reference(lungs, grid, settings)
    measured = measure_candidates(labels, grid, reference, probability=probability)
    judged = tuple(decide(candidate, _rules(settings, problem)) for candidate in measured)
    chosen = keep_top(judged, settings.top_k, by=settings.rank_by)
    flags = () if problem is None else (problem[0],)
    if chosen and not any(candidate.kept for candidate in chosen):
        flags = (*flags, ALL_REJECTED)
        if settings.keep_best_if_none:
            chosen, flags = _keep_largest(chosen), (*flags, BEST_KEPT)
    return FilteredCandidates(labels=labels, candidates=chosen, flags=flags)


def _require_shapes(grid: Grid, arrays: dict[str, Mask | Image | None]) -> None:
    for what, array in arrays.items():
        if array is not None and array.shape != grid.shape:
            raise GridMismatchError(f"{what} has shape {array.shape}, the image {grid.shape}; resample it to the image")


def _lung_problem(lungs: Mask | None, grid: Grid, settings: AnatomySettings) -> tuple[str, str] | None:
    """Give the flag and the words for a lung mask that cannot be used, or None for one that can."""
    if lungs is None:
        return LUNGS_MISSING, "there is no lung mask"
    volume_ml = np.count_nonzero(lungs) * grid.voxel_volume_mm3 / _MM3_PER_ML
    if volume_ml == 0:
        return LUNGS_EMPTY, "the lung mask is empty"
    if not settings.min_lungs_ml <= volume_ml <= settings.max_lungs_ml:
        expected = f"{settings.min_lungs_ml:g} to {settings.max_lungs_ml:g} ml"
        return LUNGS_IMPLAUSIBLE, f"the lung mask has {volume_ml:.0f} ml (plausible are {expected})"
    return None


def _reference(lungs: Mask, grid: Grid, settings: AnatomySettings) -> LungReference:
    return LungReference.of(lungs, grid, near_mm=settings.rescue_distance_mm, central_share=settings.central_zone_share)


def _rules(settings: AnatomySettings, problem: tuple[str, str] | None) -> Sequence[Rule]:
    size = MinimumVolume(min_volume_mm3=settings.min_volume_mm3)
    if problem is not None:
        return size, KeepWithoutLungs(why=problem[1])
    overlap = LungOverlap(min_share=settings.min_lung_overlap, min_share_central=settings.min_lung_overlap_central)
    rescue = Rescue(
        max_distance_mm=settings.rescue_distance_mm,
        min_volume_mm3=settings.rescue_min_volume_mm3,
        min_near_surface_central=settings.rescue_near_surface_share_central,
    )
    return size, overlap, rescue


def _keep_largest(candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
    largest = candidates[0]
    reason = f"the rules rejected all {len(candidates)} and this is the largest ({largest.volume_mm3:.0f} mm³)"
    return (replace(largest, verdict=Verdict(kept=True, rule="best_kept", reason=reason)), *candidates[1:])
