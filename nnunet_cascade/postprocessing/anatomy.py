"""The anatomy filter: from a coarse tumor mask to candidates with verdicts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nnunet_cascade.errors import GridMismatchError, require_type
from nnunet_cascade.flags import Flag
from nnunet_cascade.geometry import MM3_PER_ML, Grid, Image, Labels, Mask, as_mask
from nnunet_cascade.postprocessing.candidates import Candidate
from nnunet_cascade.postprocessing.lungs.result import LEFT, RIGHT, UNKNOWN_SIDE, LungMask
from nnunet_cascade.postprocessing.measures import LungReference, measure_candidates
from nnunet_cascade.postprocessing.merging import label_candidates
from nnunet_cascade.postprocessing.rules import decide, keep_best, keep_top
from nnunet_cascade.postprocessing.settings import AnatomySettings

__all__ = ["AnatomySettings", "FilteredCandidates", "filter_candidates"]

_TOLERANCE_ML = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class FilteredCandidates:
    """All candidates of a tumor mask, each with its verdict.

    Attributes:
        labels: (Z, Y, X), int32: the candidates' ids on the tumor mask, 0 elsewhere.
        candidates: In order of id, kept and dropped; none if the mask is empty.
        flags: What a reader of the result should know: "lungs_missing", "lungs_empty", "lungs_implausible",
            "lungs_misplaced", "one_lung_small", "all_rejected", "best_kept".

    Example:
        >>> grid = nnc.Grid(shape=(8, 8, 8), spacing_mm=(3, 3, 3))
        >>> nnc.filter_candidates(np.zeros((8, 8, 8), bool), grid, None).candidates
        ()
    """

    labels: Labels
    candidates: tuple[Candidate, ...]
    flags: tuple[str, ...]

    @property
    def kept(self) -> tuple[Candidate, ...]:
        """The candidates that were kept, in order of id."""
        return tuple(candidate for candidate in self.candidates if candidate.kept)

    def kept_mask(self) -> Mask:
        """Return the kept candidates as one mask (Z, Y, X), a subset of the tumor mask; empty if none was kept."""
        mask = np.zeros(self.labels.shape, dtype=np.bool_)
        for candidate in self.kept:
            here = candidate.box.slices
            mask[here] |= self.labels[here] == candidate.id
        return mask


def filter_candidates(  # noqa: PLR0913 - two maps and a choice by name are plainer than a type for them
    tumor: Mask,
    grid: Grid,
    lungs: LungMask | Mask | None,
    settings: AnatomySettings | None = None,
    *,
    probability: Image | None = None,
    uncertainty: Image | None = None,
    ask_stage2: bool = False,
) -> FilteredCandidates:
    """Find the candidates of a tumor mask and decide which are kept.

    The rules, in order: too small → drop; enough of it in the lungs → keep; near a lung and large enough → keep; else
    drop; then the first `top_k`. A lung mask that is missing, empty or implausible drops nothing.

    Args:
        tumor: (Z, Y, X), as SimpleITK reads it from a file on the CT's grid. Left unchanged. May be empty.
        grid: The grid of all arrays, such as `nnc.read_ct("ct.nii.gz").grid`.
        lungs: With sides and flags, or a bare mask (Z, Y, X), whose sides nobody knows; None if there is none.
        settings: What the rules ask; None is the recommended preset.
        probability: (Z, Y, X), tumor probability; needed to rank by it.
        uncertainty: (Z, Y, X), in any measure; needed to rank by it.
        ask_stage2: Keep also what the rules leave undecided, whatever `top_k` says, for stage 2 and a score to judge.

    Returns:
        Every candidate with its verdict; its `kept_mask()` is the mask that remains. An empty mask has none.

    Raises:
        WrongTypeError, GridMismatchError: An argument is of a wrong type, or an array not of the grid's shape.
        InputImageError: A map is not finite inside a candidate.
        SettingsError: Ranked by a map that was not given.

    Source:
        Isler et al., anatomy-aware post-processing; docs/paper-departures.md, P2 to P6.

    Example:
        >>> tumor, grid = np.ones((1, 1, 1), bool), nnc.Grid(shape=(1, 1, 1), spacing_mm=(3, 3, 3))
        >>> nnc.filter_candidates(tumor, grid, None).candidates[0].verdict.reason
        'its volume is 27 mm³ (needs 100 mm³)'
    """
    tumor, settings = as_mask(tumor, what="tumor"), settings or AnatomySettings()
    require_type(grid, Grid, "a Grid", what="grid")
    require_type(settings, AnatomySettings, "AnatomySettings", what="settings")
    mask = lungs.mask if isinstance(lungs, LungMask) else None if lungs is None else as_mask(lungs, what="lungs")
    maps = {"probability map": probability, "uncertainty map": uncertainty}
    _require_shapes(grid, {"tumor mask": tumor, "lung mask": mask, **maps})
    labels = label_candidates(tumor, grid, settings.merge)
    problem = _volume_problem(mask, grid, settings) or _sides_problem(lungs, settings)
    reference = None
    if mask is not None and problem is None and tumor.any():
        near_mm, central_share = settings.rescue_distance_mm, settings.central_zone_share
        reference = LungReference.of(mask, grid, near_mm=near_mm, central_share=central_share)
    measured = measure_candidates(labels, grid, reference, probability=probability, uncertainty=uncertainty)
    flags, no_lungs = ((problem[0],), problem[1]) if problem is not None else ((), "")
    judged = [decide(candidate, settings, no_lungs=no_lungs, ask_stage2=ask_stage2) for candidate in measured]
    chosen = tuple(judged) if ask_stage2 else keep_top(judged, settings.top_k, by=settings.rank_by)
    return flagged_if_none_is_kept(FilteredCandidates(labels=labels, candidates=chosen, flags=flags), settings)


def flagged_if_none_is_kept(filtered: FilteredCandidates, settings: AnatomySettings) -> FilteredCandidates:
    """Return candidates with a flag where none of them is kept, and by setting with the best one kept."""
    if not filtered.candidates or filtered.kept:
        return filtered
    candidates, raised = filtered.candidates, [Flag.ALL_REJECTED]
    if settings.keep_best_if_none:
        candidates, raised = keep_best(candidates, settings.rank_by), [*raised, Flag.BEST_KEPT]
    return replace(filtered, candidates=candidates, flags=tuple(dict.fromkeys((*filtered.flags, *raised))))


def _require_shapes(grid: Grid, arrays: dict[str, Mask | Image | None]) -> None:
    for what, array in arrays.items():
        if array is not None and array.shape != grid.shape:
            raise GridMismatchError(f"{what} has shape {array.shape}, the image {grid.shape}; resample it to the image")


def _volume_problem(lungs: Mask | None, grid: Grid, settings: AnatomySettings) -> tuple[Flag, str] | None:
    """Return the flag and the words for a lung mask that cannot be used, or None for one that can."""
    if lungs is None:
        return Flag.LUNGS_MISSING, "there is no lung mask"
    volume_ml = np.count_nonzero(lungs) * grid.voxel_volume_mm3 / MM3_PER_ML
    if volume_ml == 0:
        return Flag.LUNGS_EMPTY, "the lung mask is empty"
    if not settings.min_lungs_ml - _TOLERANCE_ML <= volume_ml <= settings.max_lungs_ml + _TOLERANCE_ML:
        expected = f"{settings.min_lungs_ml:g} to {settings.max_lungs_ml:g} ml"
        return Flag.LUNGS_IMPLAUSIBLE, f"the lung mask has {volume_ml:.0f} ml (plausible are {expected})"
    return None


def _sides_problem(lungs: LungMask | Mask | None, settings: AnatomySettings) -> tuple[Flag, str] | None:
    """Return the flag and the words for lungs that are not the two of this body, or None."""
    if not isinstance(lungs, LungMask):
        return None
    if Flag.LUNGS_MISPLACED in lungs.flags:
        return Flag.LUNGS_MISPLACED, "hardly any of the lung mask is air inside the body"
    right, left, unknown = (int(np.count_nonzero(lungs.labels == side)) for side in (RIGHT, LEFT, UNKNOWN_SIDE))
    smaller, larger = sorted((right, left))
    if unknown > 0 and Flag.ONE_LUNG_SMALL in lungs.flags and settings.min_smaller_lung_share > 0:
        return Flag.ONE_LUNG_SMALL, "by its shape the lung mask is of one lung"
    if unknown == 0 and smaller < settings.min_smaller_lung_share * larger:
        share = f"{100 * smaller / larger:.0f} % of the other's volume"
        return Flag.ONE_LUNG_SMALL, f"one lung has {share} (needs {100 * settings.min_smaller_lung_share:g} %)"
    return None
