"""Bootstrap intervals: cases are drawn anew, with replacement, from the cases that are there."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation.statistics.samples import (
    FEWEST_CASES,
    Column,
    Sample,
    few_cases_note,
    is_constant,
    paired_samples,
)

BOOTSTRAP_DEFINITION = (
    "cases are drawn with replacement, the same draws for every metric with the same n; `percentile` is the interval "
    "between the quantiles of the redrawn statistics, `bca` the same corrected for bias and skew (Efron 1987)"
)
"""What the intervals are, in words for tables and files."""
ALL_THE_SAME = "all cases are the same: no interval"
_NUMBERS_AT_A_TIME = 4_000_000

Statistic = Callable[..., "Sample"]
"""Takes one or more arrays (…, n) of the same cases and reduces their last axis; NaN if it is undefined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampling:
    """How intervals are drawn.

    Attributes:
        resamples: How often the cases are drawn anew.
        level: Share of such intervals that are meant to hold the truth.
        seed: Of the draws.

    Raises:
        SettingsError: There are fewer than 100 resamples, or the level is not between 0 and 1.
    """

    resamples: int = 9999
    level: float = 0.95
    seed: int = 12345

    def __post_init__(self) -> None:
        if self.resamples < 100:
            raise SettingsError(f"{self.resamples} resamples; expected at least 100, better 9999")
        if not 0 < self.level < 1:
            raise SettingsError(f"level {self.level}; expected a share between 0 and 1, such as 0.95")
        if self.seed < 0:
            raise SettingsError(f"seed {self.seed}; expected 0 or more")


@dataclass(frozen=True, slots=True)
class Interval:
    """Two ends, both finite."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise SettingsError(f"found an interval from {self.low} to {self.high}; expected two finite ends in order")


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure and how sure it is.

    Attributes:
        value: Of the cases that are there; NaN if it is undefined.
        n: Cases with a number.
        percentile: Interval between quantiles, or None; `note` says why.
        bca: Bias-corrected and accelerated interval, or None; `note` says why.
        undefined_resamples: Draws in which the statistic was undefined; they are left out.
        note: What a reader must know of the intervals, or "".
    """

    value: float
    n: int
    percentile: Interval | None = None
    bca: Interval | None = None
    undefined_resamples: int = 0
    note: str = ""


def mean(sample: Sample) -> Sample:
    """Return the means along the last axis."""
    return np.asarray(sample.mean(axis=-1))


def median(sample: Sample) -> Sample:
    """Return the medians along the last axis."""
    return np.asarray(np.median(sample, axis=-1))


def estimate(columns: Sequence[Column], statistic: Statistic, resampling: Resampling) -> Estimate:
    """Return a statistic of cases with its bootstrap intervals.

    Args:
        columns: One or more numbers per case, each column in the same order of cases. Cases
            with NaN in any of them are left out.
        statistic: Of these columns.
        resampling: How to draw.

    Returns:
        The estimate. No interval below 3 cases, where the statistic is undefined, and where all
        cases are the same: a point would look like certainty.

    Raises:
        SettingsError: As `paired_samples`.

    Source:
        Efron, Better bootstrap confidence intervals, J Am Stat Assoc 82(397), 1987,
        https://doi.org/10.1080/01621459.1987.10478410. For one column equal to
        `scipy.stats.bootstrap` on the same draws.
    """
    samples = paired_samples(*columns)
    count = samples[0].size
    value = float(statistic(*samples)) if count else math.nan
    if count < FEWEST_CASES:
        return Estimate(value=value, n=count, note=few_cases_note(count))
    if math.isnan(value):
        return Estimate(value=value, n=count, note="undefined, and so is its interval")
    if all(map(is_constant, samples)):
        return Estimate(value=value, n=count, note=ALL_THE_SAME)
    drawn = _redrawn(samples, statistic, resampling)
    defined = drawn[~np.isnan(drawn)]
    undefined = drawn.size - defined.size
    bca = _bca_levels(value, defined, _jackknife(samples, statistic), resampling.level)
    notes = [few_cases_note(count)]
    notes += [f"undefined in {undefined} of {drawn.size} resamples, which are left out"] if undefined else []
    notes += ["BCa undefined"] if bca is None else []
    tail = (1 - resampling.level) / 2
    return Estimate(
        value=value,
        n=count,
        percentile=_between(defined, (tail, 1 - tail)),
        bca=None if bca is None else _between(defined, bca),
        undefined_resamples=undefined,
        note="; ".join(note for note in notes if note),
    )


def _redrawn(samples: tuple[Sample, ...], statistic: Statistic, resampling: Resampling) -> Sample:
    """Return the statistic of every draw, (resamples,)."""
    rng = np.random.default_rng(resampling.seed)
    count = samples[0].size
    at_a_time = max(1, _NUMBERS_AT_A_TIME // count)
    parts: list[Sample] = []
    for begun in range(0, resampling.resamples, at_a_time):
        rows = min(at_a_time, resampling.resamples - begun)
        drawn = rng.integers(0, count, size=(rows, count))
        parts.append(statistic(*(sample[drawn] for sample in samples)))
    return np.concatenate(parts)


def _jackknife(samples: tuple[Sample, ...], statistic: Statistic) -> Sample:
    """Return the statistic with each case left out, (n,)."""
    count = samples[0].size
    others = np.array([np.delete(np.arange(count), left_out) for left_out in range(count)])
    return statistic(*(sample[others] for sample in samples))


def _bca_levels(value: float, drawn: Sample, jackknife: Sample, level: float) -> tuple[float, float] | None:
    """Return which quantiles of the draws are the ends of the BCa interval; None if they are undefined."""
    deviations = jackknife.mean() - jackknife
    largest = float(np.abs(deviations).max(initial=0.0))
    if drawn.size == 0 or not largest > 0:
        return None
    deviations = deviations / largest  # the acceleration has no unit, and the squares of tiny ones would vanish
    spread = float((deviations**2).sum())
    below = (float((drawn < value).mean()) + float((drawn <= value).mean())) / 2
    bias = float(special.ndtri(below))
    if not math.isfinite(bias):
        return None
    acceleration = float((deviations**3).sum()) / (6 * spread**1.5)
    tail = float(special.ndtri((1 - level) / 2))
    low, high = (float(special.ndtr(bias + (bias + z) / (1 - acceleration * (bias + z)))) for z in (tail, -tail))
    return (low, high) if low <= high else None


def _between(drawn: Sample, levels: tuple[float, float]) -> Interval | None:
    if drawn.size == 0:
        return None
    low, high = np.quantile(drawn, levels)
    return Interval(float(low), float(high))
