"""What becomes of a claim of the paper on these cases."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from nnunet_cascade.evaluation.calibration.comparison import compare_methods
from nnunet_cascade.evaluation.calibration.counts import CalibrationCounts
from nnunet_cascade.evaluation.calibration.figures import MEASURES
from nnunet_cascade.evaluation.comparison import ComparisonSettings, compare
from nnunet_cascade.evaluation.metric_info import CaseValues
from nnunet_cascade.evaluation.statistics.bootstrap import Interval, Resampling
from nnunet_cascade.evaluation.statistics.paired import holm
from nnunet_cascade.reproduction.tables import BOUNDARY, Claim

_Cases = TypeVar("_Cases", bound=Mapping[str, Any])
Outcome = Literal["holds", "contradicted", "undecided", "too_few", "untested"]
FEWEST_CASES = 6
"""Below it the signed-rank test cannot reach p = 0.05, and intervals are far too narrow."""
MARGINS = {"dice": 0.02, "hd95_mm": 2.0}
"""What counts as no difference, where a claim says that there is none."""
RULE = (
    "A claim holds or is contradicted where the 95 % interval of the paired difference leaves out 0; one of no "
    f"difference holds where the interval lies within ± {MARGINS['dice']} Dice, and is contradicted where it lies "
    f"outside. Fewer than {FEWEST_CASES} cases decide nothing, nor does the same difference in all of them, unless "
    "no difference was claimed and there is hardly any. p is of the "
    "signed-rank test or the correlation, with Holm's correction over all claims of the page that have one."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimResult:
    """A claim of the paper and what these cases say of it.

    Attributes:
        claim: What the paper says.
        outcome: By `RULE`; "untested" where a row is missing or has no such figure.
        difference: Mean paired difference, first less second, or the correlation; NaN where it is not known.
        interval: Of it; None where there is none.
        cases: That it is of.
        p: Of no difference or correlation; NaN where there is no test.
        p_holm: The same, corrected over the claims of a page.
    """

    claim: Claim
    outcome: Outcome
    difference: float = math.nan
    interval: tuple[float, float] | None = None
    cases: int = 0
    p: float = math.nan
    p_holm: float = math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What claims of a table are judged by.

    Attributes:
        scores: By row, then case.
        boundary: Counts in the band at the true surface, by row, then case; empty where nothing was counted.
        resampling: How intervals are drawn.
    """

    scores: Mapping[str, CaseValues]
    boundary: Mapping[str, Mapping[str, CalibrationCounts]]
    resampling: Resampling


def evaluate_claim(claim: Claim, evidence: Evidence) -> ClaimResult:
    """Compare the two rows of a claim, case by case."""
    found = (_boundary if claim.metric.startswith(BOUNDARY) else _score)(claim, evidence)
    return found or ClaimResult(claim=claim, outcome="untested")


def _judged(
    claim: Claim, value: float, interval: Interval | None, cases: int, p: float = math.nan
) -> ClaimResult | None:
    if math.isnan(value):
        return None
    bounds = None if interval is None else (interval.low, interval.high)
    outcome = _outcome(claim, value, bounds, cases)
    return ClaimResult(claim=claim, outcome=outcome, difference=value, interval=bounds, cases=cases, p=p)


def corrected(claims: Sequence[ClaimResult]) -> tuple[ClaimResult, ...]:
    """Return the claims of a page with their p after Holm."""
    tested = [place for place, claim in enumerate(claims) if not math.isnan(claim.p)]
    adjusted = dict(zip(tested, holm([claims[place].p for place in tested]), strict=True))
    return tuple(
        replace(claim, p_holm=adjusted[place]) if place in adjusted else claim for place, claim in enumerate(claims)
    )


def _pair(claim: Claim, rows: Mapping[str, _Cases]) -> dict[str, _Cases] | None:
    both = (claim.second, claim.first)
    return {label: rows[label] for label in both} if all(rows.get(label) for label in both) else None


def _score(claim: Claim, evidence: Evidence) -> ClaimResult | None:
    """Look a claim up in the comparison of its two rows: their paired difference, or a correlation."""
    pair = _pair(claim, evidence.scores)
    if pair is None:
        return None
    contrast = compare(pair, ComparisonSettings(resampling=evidence.resampling)).contrasts[claim.first]
    if claim.of_correlation:
        found = next((each for name, each in contrast.correlations.items() if name.startswith(claim.metric)), None)
        return found and _judged(claim, found.pearson.value, found.pearson.interval, found.n, found.pearson.p)
    found = contrast.paired.get(claim.metric)
    return found and _judged(claim, found.mean.value, found.mean.bca or found.mean.percentile, found.n, found.ranks.p)


def _boundary(claim: Claim, evidence: Evidence) -> ClaimResult | None:
    measure = claim.metric.removeprefix(BOUNDARY)
    pair = _pair(claim, evidence.boundary)
    if measure not in MEASURES or pair is None or not set(pair[claim.first]) & set(pair[claim.second]):
        return None
    compared = compare_methods(pair, baseline=claim.second, resampling=evidence.resampling)
    found = compared.row(claim.first, measure).per_case_difference
    return found and _judged(claim, found.value, found.interval, found.cases)


def _outcome(claim: Claim, value: float, interval: tuple[float, float] | None, cases: int) -> Outcome:
    """Judge a value; where every case differs alike there is no interval."""
    if cases < FEWEST_CASES:
        return "too_few"
    if interval is None:
        return "holds" if claim.expected == "equal" and abs(value) <= MARGINS[claim.metric] else "too_few"
    low, high = interval
    if claim.expected == "equal":
        margin = MARGINS[claim.metric]
        if -margin <= low and high <= margin:
            return "holds"
        return "contradicted" if low > margin or high < -margin else "undecided"
    if low <= 0 <= high:
        return "undecided"
    rises = low > 0
    return "holds" if rises == (claim.expected == "higher") else "contradicted"
