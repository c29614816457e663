"""Whether two measurements of the same thing, such as true and predicted volumes, agree."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from nnunet_cascade.evaluation.statistics.bootstrap import Estimate, Interval, Resampling, estimate
from nnunet_cascade.evaluation.statistics.samples import (
    FEWEST_CASES,
    Column,
    Sample,
    few_cases_note,
    is_constant,
    paired_samples,
)

CONCORDANCE_DEFINITION = (
    "Lin's concordance correlation coefficient with variances divided by n (Lin 1989); interval by its Z transform "
    "with Lin's correction of 2000, and by the bootstrap"
)
BLAND_ALTMAN_DEFINITION = (
    "second less first; limits of agreement at 1.96 standard deviations about the bias; intervals by the t "
    "distribution (Bland and Altman 1999); relative differences are in % of the mean of both, so that one empty mask "
    "gives ±200 %; both zero has no relative difference"
)
_WIDTH = 1.96
"""Of the limits, in standard deviations, as Bland and Altman define them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Concordance:
    """How near pairs of numbers lie to the line of identity.

    Attributes:
        value: −1 … 1; NaN if it is undefined.
        n: Cases with both numbers.
        interval: By Lin's Z transform; None below 3 cases and where it is undefined.
        bootstrap: The same value with intervals from redrawn cases.
        note: Why value or interval is undefined, or "".
    """

    value: float
    n: int
    interval: Interval | None
    bootstrap: Estimate
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlandAltman:
    """Bias and limits of agreement.

    Attributes:
        n: Cases with a difference.
        undefined: Cases without one.
        bias: Mean difference, second less first; NaN without cases.
        sd: Standard deviation of the differences, divided by n − 1; NaN below 2 cases.
        lower: Limit of agreement; NaN below 2 cases.
        upper: Limit of agreement; NaN below 2 cases.
        bias_interval: None below 3 cases.
        lower_interval: None below 3 cases.
        upper_interval: None below 3 cases.
        note: Why there is no interval, or what few cases mean, or "".
    """

    n: int
    undefined: int
    bias: float
    sd: float
    lower: float
    upper: float
    bias_interval: Interval | None
    lower_interval: Interval | None
    upper_interval: Interval | None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How two measurements agree: by concordance, and by absolute and relative differences."""

    concordance: Concordance
    absolute: BlandAltman
    relative_percent: BlandAltman


def agree(first: Column, second: Column, resampling: Resampling) -> Agreement:
    """Compare two measurements of the same cases, such as true and predicted volumes.

    Args:
        first: One number of at least 0 per case, such as the true one; NaN if it is undefined.
        second: The same cases in the same order.
        resampling: How to draw the bootstrap's intervals; its level is that of all intervals.

    Raises:
        SettingsError: The lengths differ, or a number is infinite.
    """
    x, y = paired_samples(first, second)
    both = x + y
    relative = np.full(x.shape, math.nan)
    np.divide(200 * (y - x), both, out=relative, where=both > 0)
    return Agreement(
        concordance=concordance(first, second, resampling),
        absolute=bland_altman(np.subtract(second, first), level=resampling.level),
        relative_percent=bland_altman(
            np.concatenate([relative, np.full(len(first) - x.size, math.nan)]), level=resampling.level
        ),
    )


def concordance(first: Column, second: Column, resampling: Resampling) -> Concordance:
    """Measure Lin's concordance correlation coefficient, 2·s₁₂ / (s₁² + s₂² + (x̄₁ − x̄₂)²).

    Args:
        first: One number per case; NaN if it is undefined.
        second: The same cases in the same order.
        resampling: How to draw the bootstrap's intervals; its level is that of both intervals.

    Returns:
        1 just where all pairs are equal. Undefined where both are one and the same constant.

    Raises:
        SettingsError: The lengths differ, or a number is infinite.

    Source:
        Lin, A concordance correlation coefficient to evaluate reproducibility, Biometrics 45, 1989,
        https://doi.org/10.2307/2532051, equation 2 for the coefficient; its variance as corrected in
        Biometrics 56, 2000, https://doi.org/10.1111/j.0006-341X.2000.00324.x.
    """
    x, y = paired_samples(first, second)
    drawn = estimate([x, y], concordance_of, resampling)
    interval, note = _lin_interval(x, y, resampling.level)
    return Concordance(value=drawn.value, n=x.size, interval=interval, bootstrap=drawn, note=note)


def concordance_of(x: Sample, y: Sample) -> Sample:
    """Return Lin's coefficient along the last axis; NaN if both are one and the same constant."""
    means = x.mean(axis=-1), y.mean(axis=-1)
    a, b = x - means[0][..., None], y - means[1][..., None]
    covariance = (a * b).mean(axis=-1)
    apart = (a**2).mean(axis=-1) + (b**2).mean(axis=-1) + (means[0] - means[1]) ** 2
    return np.where(apart > 0, 2 * covariance / np.where(apart > 0, apart, 1.0), math.nan)


def _lin_interval(x: Sample, y: Sample, level: float) -> tuple[Interval | None, str]:
    if x.size < FEWEST_CASES:
        return None, few_cases_note(x.size)
    if is_constant(x) or is_constant(y):
        return None, "one of the two is the same in all cases: no interval"
    value = float(concordance_of(x, y))
    r = float(np.corrcoef(x, y)[0, 1])
    if abs(r) < 1e-9 or abs(value) > 1 - 1e-12:
        return None, "no correlation, or a perfect one: no interval by Lin's transform"
    shift = (x.mean() - y.mean()) ** 2 / (x.std() * y.std())
    variance = _lin_variance(value, r, float(shift)) / (x.size - 2)
    half = float(special.ndtri((1 + level) / 2)) * math.sqrt(max(0.0, variance))
    centre = math.atanh(value)
    return Interval(math.tanh(centre - half), math.tanh(centre + half)), few_cases_note(x.size)


def _lin_variance(value: float, r: float, shift: float) -> float:
    """Return (n − 2) times the variance of artanh of the coefficient; `shift` is u² of the paper."""
    rest = 1 - value**2
    return (
        (1 - r**2) * value**2 / (rest * r**2)
        + 2 * value**3 * (1 - value) * shift / (r * rest**2)
        - value**4 * shift**2 / (2 * r**2 * rest**2)
    )


def bland_altman(differences: Column, *, level: float) -> BlandAltman:
    """Return bias and limits of agreement of differences, each with its interval.

    Args:
        differences: Second less first; NaN if it is undefined. May be empty.
        level: Of the intervals.

    Raises:
        SettingsError: A number is infinite.

    Source:
        Bland and Altman, Measuring agreement in method comparison studies, Stat Methods Med Res 8,
        1999, https://doi.org/10.1177/096228029900800204: the variance of a limit is
        s²·(1/n + 1.96²/(2(n − 1))).
    """
    (found,) = paired_samples(list(differences))
    count, undefined = found.size, len(differences) - found.size
    bias = float(found.mean()) if count else math.nan
    sd = float(found.std(ddof=1)) if count > 1 else math.nan
    lower, upper = bias - _WIDTH * sd, bias + _WIDTH * sd
    intervals: tuple[Interval | None, ...] = (None, None, None)
    if count >= FEWEST_CASES:
        quantile = float(special.stdtrit(count - 1, (1 + level) / 2))
        half = quantile * sd / math.sqrt(count)
        half_of_limit = quantile * sd * math.sqrt(1 / count + _WIDTH**2 / (2 * (count - 1)))
        around = ((bias, half), (lower, half_of_limit), (upper, half_of_limit))
        intervals = tuple(Interval(centre - reach, centre + reach) for centre, reach in around)
    return BlandAltman(
        n=count,
        undefined=undefined,
        bias=bias,
        sd=sd,
        lower=lower,
        upper=upper,
        bias_interval=intervals[0],
        lower_interval=intervals[1],
        upper_interval=intervals[2],
        note=few_cases_note(count) if count < FEWEST_CASES else "",
    )
