"""Two methods on the same cases: by how much they differ, and whether chance would do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation.statistics.bootstrap import Estimate, Resampling, estimate, mean, median
from nnunet_cascade.evaluation.statistics.samples import Column, Sample, paired_samples

WILCOXON_DEFINITION = (
    "Wilcoxon signed-rank test, two-sided; differences of zero are dropped and counted, equal ones share their mean "
    "rank; up to 100 other differences the p value is exact (of all signs they could have), above it is the normal "
    "approximation; 1 where all differences are zero"
)
"""Which of the several tests of that name this is, in words for tables and files."""
HOLM_DEFINITION = "p values of one metric are corrected for the number of methods compared (Holm 1979)"
_EXACT_UP_TO = 100
_ROUNDED = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRanks:
    """What the signed-rank test says.

    Attributes:
        statistic: Smaller of the two sums of ranks.
        p: Two-sided; NaN without cases.
        zeros: Differences of zero, which take no part.
        n: Differences that take part.
        exact: Whether p is exact.
    """

    statistic: float
    p: float
    zeros: int
    n: int
    exact: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedComparison:
    """A method less the reference, on the cases that both have.

    Attributes:
        n: Cases with a number from both.
        undefined: Cases of both without one.
        mean: Of the differences.
        median: Of the differences.
        rises: Cases in which the method has more than the reference.
        falls: Cases in which it has less.
        ranks: The signed-rank test.
        p_holm: Corrected for the number of methods compared; NaN until `with_holm`, and where p is.
    """

    n: int
    undefined: int
    mean: Estimate
    median: Estimate
    rises: int
    falls: int
    ranks: SignedRanks
    p_holm: float = math.nan


def compare_paired(method: Column, reference: Column, resampling: Resampling) -> PairedComparison:
    """Compare a method with the reference on the same cases.

    Args:
        method: One number per case; NaN if it is undefined.
        reference: The same cases in the same order.
        resampling: How to draw intervals: cases are drawn, their two numbers stay together.

    Raises:
        SettingsError: The lengths differ, or a number is infinite.
    """
    ours, theirs = paired_samples(method, reference)
    differences = _differences(ours, theirs)
    return PairedComparison(
        n=differences.size,
        undefined=len(method) - differences.size,
        mean=estimate([differences], mean, resampling),
        median=estimate([differences], median, resampling),
        rises=int((differences > 0).sum()),
        falls=int((differences < 0).sum()),
        ranks=signed_ranks(differences),
    )


def _differences(ours: Sample, theirs: Sample) -> Sample:
    """Subtract; what differs by rounding alone is equal, or ties and zeros would be missed."""
    differences = ours - theirs
    scale = np.maximum(np.abs(ours), np.abs(theirs))
    return np.where(np.abs(differences) <= 1e-12 * scale, 0.0, differences)


def signed_ranks(differences: Column) -> SignedRanks:
    """Test whether differences lie about zero.

    Args:
        differences: Finite. May be empty: p is NaN.

    Source:
        Wilcoxon, Individual comparisons by ranking methods, Biometrics Bulletin 1(6), 1945,
        https://doi.org/10.2307/3001968; exact with ties as the permutation distribution of the ranks.
    """
    found = np.asarray(differences, dtype=np.float64)
    others = found[found != 0]
    zeros = found.size - others.size
    if others.size == 0:
        return SignedRanks(statistic=0.0, p=1.0 if zeros else math.nan, zeros=zeros, n=0, exact=True)
    ranks = np.asarray(stats.rankdata(_rounded(np.abs(others))))
    positive = float(ranks[others > 0].sum())
    statistic = min(positive, float(ranks.sum()) - positive)
    exact = others.size <= _EXACT_UP_TO
    p = _exact_p(ranks, statistic) if exact else _approximate_p(ranks, statistic)
    return SignedRanks(statistic=statistic, p=p, zeros=zeros, n=others.size, exact=exact)


def _rounded(values: Sample) -> Sample:
    """Round to significant digits, so that equal differences are found equal whatever they were subtracted from."""
    digits = np.power(10.0, _ROUNDED - 1 - np.floor(np.log10(values)))
    return np.round(values * digits) / digits


def _exact_p(ranks: Sample, statistic: float) -> float:
    """Count, over all signs, how often a sum of ranks is as small; mean ranks are halves, so twice them are whole."""
    doubled = np.rint(2 * ranks).astype(int)
    chances = np.zeros(int(doubled.sum()) + 1)
    chances[0] = 1.0
    for rank in doubled:
        with_it = np.zeros_like(chances)
        with_it[rank:] = chances[: chances.size - rank]
        chances = (chances + with_it) / 2
    return min(1.0, 2 * float(chances[: round(2 * statistic) + 1].sum()))


def _approximate_p(ranks: Sample, statistic: float) -> float:
    """Approximate by a normal distribution, corrected for continuity; ties are in the sum of squares."""
    deviation = math.sqrt(float((ranks**2).sum()) / 4)
    distance = max(0.0, float(ranks.sum()) / 2 - statistic - 0.5)
    return min(1.0, 2 * float(stats.norm.sf(distance / deviation)))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Correct p values for their number.

    Args:
        p_values: Of one family of tests; NaN is not a test, stays NaN and does not count. May be empty.

    Returns:
        Adjusted p values in the same order, each at least as large as before and at most 1.

    Raises:
        SettingsError: A p value is not 0 … 1.

    Source:
        Holm, A simple sequentially rejective multiple test procedure, Scand J Stat 6(2), 1979,
        https://www.jstor.org/stable/4615733.
    """
    if any(p < 0 or p > 1 for p in p_values):
        raise SettingsError(f"found the p values {list(p_values)}; expected 0 … 1, or NaN for no test")
    order = sorted((place for place, p in enumerate(p_values) if not math.isnan(p)), key=lambda place: p_values[place])
    adjusted = [math.nan] * len(p_values)
    largest = 0.0
    for done, place in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - done) * p_values[place]))
        adjusted[place] = largest
    return tuple(adjusted)


def with_holm(comparisons: Sequence[PairedComparison]) -> tuple[PairedComparison, ...]:
    """Correct the p values of several methods compared with the same reference in the same metric."""
    corrected = holm([comparison.ranks.p for comparison in comparisons])
    return tuple(replace(comparison, p_holm=p) for comparison, p in zip(comparisons, corrected, strict=True))
