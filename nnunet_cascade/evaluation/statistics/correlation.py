"""Whether two numbers of the same cases go together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from scipy import special, stats

from nnunet_cascade.evaluation.statistics.bootstrap import Estimate, Interval, Resampling, estimate
from nnunet_cascade.evaluation.statistics.samples import FEWEST_CASES, Column, Sample, is_constant, paired_samples

CORRELATION_DEFINITION = (
    "Pearson's r with p of the t distribution and Fisher's z interval; Spearman's ρ of mean ranks with p of the t "
    "distribution and the interval of Bonett and Wright (2000); both with bootstrap intervals too; undefined below 3 "
    "cases and where one of the two is constant"
)
"""What the correlations are, in words for tables and files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficient:
    """A correlation coefficient.

    Attributes:
        value: −1 … 1; NaN if it is undefined.
        p: Two-sided, of no correlation; NaN if it is undefined.
        interval: By Fisher's z, from 4 cases on; None if it is undefined or the coefficient is ±1.
        bootstrap: The same value with intervals from redrawn cases, which do not take normal distributions for granted.
    """

    value: float
    p: float
    interval: Interval | None
    bootstrap: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation:
    """How two numbers go together.

    Attributes:
        n: Cases with both.
        undefined: Cases without one of them.
        pearson: Of the numbers.
        spearman: Of their ranks.
        note: Why they are undefined, or "".
    """

    n: int
    undefined: int
    pearson: Coefficient
    spearman: Coefficient
    note: str = ""


def correlate(first: Column, second: Column, resampling: Resampling) -> Correlation:
    """Correlate two numbers of the same cases.

    Args:
        first: One number per case; NaN if it is undefined.
        second: The same cases in the same order.
        resampling: How to draw the bootstrap's intervals; its level is that of both intervals.

    Returns:
        The correlation; undefined, with a note, below 3 cases or where one of the two is constant.

    Raises:
        SettingsError: The lengths differ, or a number is infinite.

    Source:
        Bonett and Wright, Sample size requirements for estimating Pearson, Kendall and Spearman
        correlations, Psychometrika 65, 2000, https://doi.org/10.1007/BF02294183.
    """
    x, y = paired_samples(first, second)
    note = _why_undefined(x, y)
    if note:
        nothing = Estimate(value=math.nan, n=x.size, note=note)
        none = Coefficient(value=math.nan, p=math.nan, interval=None, bootstrap=nothing)
        return Correlation(n=x.size, undefined=len(first) - x.size, pearson=none, spearman=none, note=note)
    r, p = map(float, cast(Any, stats.pearsonr(x, y)))
    rho, p_rho = map(float, cast(Any, stats.spearmanr(x, y)))
    of_ranks = math.sqrt(1 + rho**2 / 2)
    return Correlation(
        n=x.size,
        undefined=len(first) - x.size,
        pearson=Coefficient(
            value=r,
            p=p,
            interval=_fisher(r, 1.0, x.size, resampling.level),
            bootstrap=estimate([x, y], pearson, resampling),
        ),
        spearman=Coefficient(
            value=rho,
            p=p_rho,
            interval=_fisher(rho, of_ranks, x.size, resampling.level),
            bootstrap=estimate([x, y], spearman, resampling),
        ),
    )


def _why_undefined(x: Sample, y: Sample) -> str:
    if x.size < FEWEST_CASES:
        return f"undefined: {x.size} cases, fewer than {FEWEST_CASES}"
    constant = [name for name, sample in (("first", x), ("second", y)) if is_constant(sample)]
    return f"undefined: the {' and the '.join(constant)} number is the same in all cases" if constant else ""


def pearson(x: Sample, y: Sample) -> Sample:
    """Return Pearson's r along the last axis; NaN if one of the two is constant."""
    a, b = (values - values.mean(axis=-1, keepdims=True) for values in (x, y))
    constant = (np.ptp(x, axis=-1) == 0) | (np.ptp(y, axis=-1) == 0)
    squares = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    return np.where(constant, math.nan, (a * b).sum(axis=-1) / np.where(squares > 0, squares, 1.0)).clip(-1, 1)


def spearman(x: Sample, y: Sample) -> Sample:
    """Return Spearman's ρ along the last axis; NaN if one of the two is constant."""
    return pearson(np.asarray(stats.rankdata(x, axis=-1)), np.asarray(stats.rankdata(y, axis=-1)))


def _fisher(value: float, factor: float, count: int, level: float) -> Interval | None:
    """Return the interval that is symmetric in artanh; `factor` widens its standard error 1/√(n − 3)."""
    if count < 4 or abs(value) >= 1 - 1e-12:
        return None
    half = float(special.ndtri((1 + level) / 2)) * factor / math.sqrt(count - 3)
    centre = math.atanh(value)
    return Interval(math.tanh(centre - half), math.tanh(centre + half))
