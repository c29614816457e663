"""The anatomy rules: small objects that say keep, drop or pass, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.postprocessing.candidates import Candidate, Verdict

Say = Literal["keep", "drop", "pass"]
RankBy = Literal["volume", "mean_probability", "mean_uncertainty"]
_TOLERANCE = 1e-6
_TIE_DECIMALS = 9


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a rule says of a candidate.

    Attributes:
        say: "keep" and "drop" settle it; "pass" leaves it to the next rule.
        reason: Why, with the numbers; of a pass, why the rule could not keep it.
    """

    say: Say
    reason: str = ""


class Rule(Protocol):
    """A rule has a name and an opinion of any candidate."""

    @property
    def name(self) -> str:
        """What the report calls it."""
        ...

    def judge(self, candidate: Candidate) -> Opinion:
        """Return what becomes of a candidate."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MinimumVolume:
    """Drop what is too small to judge.

    Attributes:
        min_volume_mm3: Smallest volume that passes.
    """

    min_volume_mm3: float
    name: str = "minimum_volume"

    def judge(self, candidate: Candidate) -> Opinion:
        """Drop a candidate below the minimum, pass any other."""
        if candidate.volume_mm3 >= self.min_volume_mm3 - _TOLERANCE:
            return Opinion("pass")
        return Opinion("drop", f"its volume is {candidate.volume_mm3:.0f} mm³ (needs {self.min_volume_mm3:g} mm³)")


@dataclass(frozen=True, slots=True, kw_only=True)
class LungOverlap:
    """Keep what lies mostly in the lungs.

    Attributes:
        min_share: Share of the volume that must lie in the lungs.
        min_share_central: The same for candidates in the central zone.
    """

    min_share: float
    min_share_central: float
    name: str = "lung_overlap"

    def judge(self, candidate: Candidate) -> Opinion:
        """Keep a candidate with enough overlap; pass any other, and any without lungs."""
        needed = self.min_share_central if candidate.central else self.min_share
        share = candidate.lung_overlap or 0.0
        where = " in the central zone" if candidate.central else ""
        reason = f"{_percent(share)} of it lies in the lungs (needs {_percent(needed)}{where})"
        return Opinion("keep" if share >= needed - _TOLERANCE else "pass", reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescue:
    """Keep what lies near a lung and is large enough, though little of it lies inside.

    Attributes:
        max_distance_mm: Farthest from a lung.
        min_volume_mm3: Smallest volume that is rescued.
        min_near_surface_central: Share of the surface that must lie near a lung, asked
            in the central zone alone; 0 asks nothing.
    """

    max_distance_mm: float
    min_volume_mm3: float
    min_near_surface_central: float
    name: str = "rescue"

    def judge(self, candidate: Candidate) -> Opinion:
        """Keep a candidate that meets every condition; pass any other with the first it fails."""
        if candidate.lung_distance_mm is None:
            return Opinion("pass", "its distance to the lungs is unknown")
        distance = f"it lies {_millimetres(candidate.lung_distance_mm)} from the nearest lung"
        if candidate.lung_distance_mm > self.max_distance_mm + _TOLERANCE:
            return Opinion("pass", f"{distance} (may lie {self.max_distance_mm:g} mm)")
        size = f"its volume is {candidate.volume_mm3:.0f} mm³"
        if candidate.volume_mm3 < self.min_volume_mm3 - _TOLERANCE:
            return Opinion("pass", f"{size} (needs {self.min_volume_mm3:g} mm³ to be rescued)")
        near = candidate.near_surface_share or 0.0
        if candidate.central and near < self.min_near_surface_central - _TOLERANCE:
            return Opinion("pass", self._surface(near))
        surface = f", and {self._surface(near)}" if candidate.central and self.min_near_surface_central > 0 else ""
        return Opinion("keep", f"{distance} (may lie {self.max_distance_mm:g} mm) and {size}{surface}")

    def _surface(self, near: float) -> str:
        needed = _percent(self.min_near_surface_central)
        share = f"{_percent(near)} of its surface lies within {self.max_distance_mm:g} mm of a lung"
        return f"{share} (needs {needed} in the central zone)"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepWithoutLungs:
    """Keep everything where the lung mask cannot be trusted.

    Attributes:
        why: What is wrong with the mask.
    """

    why: str
    name: str = "no_lungs"

    def judge(self, candidate: Candidate) -> Opinion:
        """Keep any candidate."""
        return Opinion("keep", f"{self.why}, so where its {candidate.volume_mm3:.0f} mm³ lie was not judged")


def decide(candidate: Candidate, rules: Sequence[Rule]) -> Candidate:
    """Ask the rules in order and give the candidate with its verdict.

    The first rule that does not pass decides. Where all pass the candidate is
    dropped, and the reasons of the passes are the reason.
    """
    passed: list[str] = []
    for rule in rules:
        opinion = rule.judge(candidate)
        if opinion.say != "pass":
            kept = opinion.say == "keep"
            return replace(candidate, verdict=Verdict(kept=kept, rule=rule.name, reason=opinion.reason))
        passed.extend([opinion.reason] if opinion.reason else [])
    reason = ", and ".join(passed) or "no rule kept it"
    return replace(candidate, verdict=Verdict(kept=False, rule="outside_lungs", reason=reason))


def keep_top(
    candidates: Sequence[Candidate], count: int | Literal["all"], *, by: RankBy = "volume"
) -> tuple[Candidate, ...]:
    """Drop all but the best of the kept candidates.

    Args:
        candidates: In order of id.
        count: How many to leave, or "all".
        by: What is best: the largest volume, the highest mean probability, or the lowest
            mean uncertainty. Ties go to the lower id.

    Returns:
        All candidates in the same order, those beyond the count with a new verdict.

    Raises:
        SettingsError: Ranked by a map that was not given.
    """
    if count == "all":
        return tuple(candidates)
    ranked = best_first([candidate for candidate in candidates if candidate.kept], by=by)
    beyond = {c.id: rank for rank, c in enumerate(ranked, start=1) if rank > count}
    return tuple(
        replace(c, verdict=_outranked(c, beyond[c.id], count, by)) if c.id in beyond else c for c in candidates
    )


def best_first(candidates: Sequence[Candidate], *, by: RankBy) -> tuple[Candidate, ...]:
    """Return candidates from the best to the worst, ties by id.

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


def _outranked(candidate: Candidate, rank: int, count: int, by: RankBy) -> Verdict:
    reason = f"it comes {rank}. by {in_words(candidate, by)} and only the first {count} of those kept stay"
    return Verdict(kept=False, rule="top_k", reason=reason)


def _measure_of(candidate: Candidate, by: RankBy) -> float:
    values = {
        "volume": candidate.volume_mm3,
        "mean_probability": candidate.mean_probability,
        "mean_uncertainty": candidate.mean_uncertainty,
    }
    value = values[by]
    if value is None:
        kind = by.removeprefix("mean_")
        raise SettingsError(f"candidates are ranked by mean {kind}, but no {kind} map was given; give one")
    return value


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _millimetres(distance_mm: float) -> str:
    return f"{distance_mm:.1f} mm"
