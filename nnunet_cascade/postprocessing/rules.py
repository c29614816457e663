"""The anatomy rules: what keeps or drops a candidate, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.postprocessing.candidates import Candidate, Verdict
from nnunet_cascade.postprocessing.settings import AnatomySettings, RankBy

UNDECIDED, OUTSIDE_LUNGS = "undecided", "outside_lungs"
_TOLERANCE = 1e-6
_TIE_DECIMALS = 9


def decide(
    candidate: Candidate, settings: AnatomySettings, *, no_lungs: str = "", ask_stage2: bool = False
) -> Candidate:
    """Ask the rules in order and give the candidate with its verdict.

    The first rule that settles it decides. A candidate that no rule keeps is dropped, and why they could not keep it
    is the reason; or it is undecided, if stage 2 can be asked and it is not too far from the lungs.

    Args:
        candidate: As measured.
        settings: What the rules ask.
        no_lungs: Why there are no lungs to judge by, where the candidate's distance to them is unknown.
        ask_stage2: Whether stage 2 looks at what the rules cannot decide, and a score judges it then.
    """
    if candidate.volume_mm3 < settings.min_volume_mm3 - _TOLERANCE:
        reason = f"its volume is {candidate.volume_mm3:.0f} mm³ (needs {settings.min_volume_mm3:g} mm³)"
        return _judged(candidate, "minimum_volume", reason, kept=False)
    if candidate.lung_distance_mm is None:
        reason = f"{no_lungs}, so where its {candidate.volume_mm3:.0f} mm³ lie was not judged"
        return _judged(candidate, "no_lungs", reason, kept=True)
    inside, overlap = _in_lungs(candidate, settings)
    if inside:
        return _judged(candidate, "lung_overlap", overlap, kept=True)
    rescued, place = _near_lungs(candidate, candidate.lung_distance_mm, settings)
    if rescued:
        return _judged(candidate, "rescue", place, kept=True)
    if ask_stage2 and candidate.lung_distance_mm <= settings.undecided_distance_mm + _TOLERANCE:
        return _judged(candidate, UNDECIDED, f"{overlap}, and {place}", kept=True)
    return _judged(candidate, OUTSIDE_LUNGS, f"{overlap}, and {place}", kept=False)


def without_stage2(candidate: Candidate) -> Candidate:
    """Return a candidate with the verdict that the rules give alone: what they could not decide is dropped."""
    if candidate.verdict.rule != UNDECIDED:
        return candidate
    return _judged(candidate, OUTSIDE_LUNGS, candidate.verdict.reason, kept=False)


def _judged(candidate: Candidate, rule: str, reason: str, *, kept: bool) -> Candidate:
    return replace(candidate, verdict=Verdict(kept=kept, rule=rule, reason=reason))


def _in_lungs(candidate: Candidate, settings: AnatomySettings) -> tuple[bool, str]:
    """Tell whether enough of a candidate lies in the lungs, and the numbers."""
    needed = settings.min_lung_overlap_central if candidate.central else settings.min_lung_overlap
    share = candidate.lung_overlap or 0.0
    where = " in the central zone" if candidate.central else ""
    reason = f"{_percent(share)} of it lies in the lungs (needs {_percent(needed)}{where})"
    return share >= needed - _TOLERANCE, reason


def _near_lungs(candidate: Candidate, distance_mm: float, settings: AnatomySettings) -> tuple[bool, str]:
    """Tell whether a candidate is near a lung and large enough, and the numbers, or the first that it fails."""
    reach_mm, needed = settings.rescue_distance_mm, settings.rescue_near_surface_share_central
    distance = f"it lies {distance_mm:.1f} mm from the nearest lung (may lie {reach_mm:g} mm)"
    if distance_mm > reach_mm + _TOLERANCE:
        return False, distance
    size = f"its volume is {candidate.volume_mm3:.0f} mm³"
    if candidate.volume_mm3 < settings.rescue_min_volume_mm3 - _TOLERANCE:
        return False, f"{size} (needs {settings.rescue_min_volume_mm3:g} mm³ to be rescued)"
    if not candidate.central or needed == 0:
        return True, f"{distance} and {size}"
    near = candidate.near_surface_share or 0.0
    share = f"{_percent(near)} of its surface lies within {reach_mm:g} mm of a lung"
    surface = f"{share} (needs {_percent(needed)} in the central zone)"
    return (True, f"{distance} and {size}, and {surface}") if near >= needed - _TOLERANCE else (False, surface)


def keep_top(candidates: Sequence[Candidate], count: int | Literal["all"], *, by: RankBy) -> tuple[Candidate, ...]:
    """Drop all but the best of the kept candidates.

    Returns:
        All candidates in the same order, those beyond the count with a new verdict.

    Raises:
        SettingsError: Ranked by a map that was not given.
    """
    if count == "all":
        return tuple(candidates)
    ranked = best_first([candidate for candidate in candidates if candidate.kept], by=by)
    left = f"and only the first {count} of those kept stay"
    outranked = {
        each.id: _judged(each, "top_k", f"it comes {rank}. by {in_words(each, by)} {left}", kept=False)
        for rank, each in enumerate(ranked[count:], start=count + 1)
    }
    return tuple(outranked.get(candidate.id, candidate) for candidate in candidates)


def keep_best(candidates: tuple[Candidate, ...], by: RankBy) -> tuple[Candidate, ...]:
    """Keep the best of candidates that the rules have all rejected."""
    best = best_first(candidates, by=by)[0]
    reason = f"the rules rejected all {len(candidates)} and this is the first by {in_words(best, by)}"
    kept = replace(best, verdict=Verdict(kept=True, rule="best_kept", reason=reason))
    return tuple(kept if candidate is best else candidate for candidate in candidates)


def best_first(candidates: Sequence[Candidate], *, by: RankBy) -> tuple[Candidate, ...]:
    """Return candidates from the best to the worst: the largest volume, highest probability or lowest uncertainty.

    Ties go to the lower id.

    Raises:
        SettingsError: Ranked by a map that was not given.
    """
    sign = 1 if by == "mean_uncertainty" else -1
    # Sums depend on the order of the array in their last digits, which must decide nothing.
    return tuple(sorted(candidates, key=lambda c: (sign * round(_measure_of(c, by), _TIE_DECIMALS), c.id)))


def in_words(candidate: Candidate, by: RankBy) -> str:
    """Return what a candidate is ranked by, such as "mean probability (0.91)"."""
    value = _measure_of(candidate, by)
    written = {"volume": f"{value:.0f} mm³", "mean_probability": f"{value:.2f}", "mean_uncertainty": f"{value:.3g}"}
    return f"{by.replace('_', ' ')} ({written[by]})"


def _measure_of(candidate: Candidate, by: RankBy) -> float:
    value: float | None = candidate.volume_mm3 if by == "volume" else getattr(candidate, by)
    if value is None:
        kind = by.removeprefix("mean_")
        raise SettingsError(f"candidates are ranked by mean {kind}, but no {kind} map was given; give one")
    return value


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
