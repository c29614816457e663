"""One metric of one method over its cases."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nnunet_cascade.evaluation.statistics.bootstrap import Estimate, Resampling, estimate, mean, median
from nnunet_cascade.evaluation.statistics.samples import Column, Sample, paired_samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a metric is over cases; without a defined case all but the counts is NaN.

    Attributes:
        n: Cases with a number.
        undefined: Cases without one; they are in nothing else here.
        mean: With intervals.
        median: With intervals.
        sd: Standard deviation, divided by n − 1; NaN below 2 cases.
        lowest: Smallest number.
        highest: Largest number.
        total: Sum of the numbers, 0 without cases.
    """

    n: int
    undefined: int
    mean: Estimate
    median: Estimate
    sd: float
    lowest: float
    highest: float
    total: float


def describe(values: Column, resampling: Resampling) -> Description:
    """Describe a metric over cases.

    Args:
        values: One number per case; NaN if it is undefined. May be empty.
        resampling: How to draw the intervals.

    Raises:
        SettingsError: A number is infinite.
    """
    (found,) = paired_samples(values)
    return Description(
        n=found.size,
        undefined=len(values) - found.size,
        mean=estimate([found], mean, resampling),
        median=estimate([found], median, resampling),
        sd=float(found.std(ddof=1)) if found.size > 1 else math.nan,
        lowest=float(found.min()) if found.size else math.nan,
        highest=float(found.max()) if found.size else math.nan,
        total=math.fsum(found),
    )


def pooled_share(parts: Column, wholes: Column, resampling: Resampling) -> Estimate:
    """Return the sum of parts of the sum of wholes, such as lesions found of all lesions, each lesion counting once.

    Args:
        parts: One number per case, such as lesions found; NaN if it is undefined.
        wholes: The same cases in the same order, such as lesions.
        resampling: How to draw the intervals: cases are drawn, with all their lesions.

    Returns:
        NaN if the wholes are 0 in all cases.

    Raises:
        SettingsError: The lengths differ, or a number is infinite.
    """
    return estimate([parts, wholes], _share, resampling)


def _share(parts: Sample, wholes: Sample) -> Sample:
    whole = wholes.sum(axis=-1)
    return np.where(whole > 0, parts.sum(axis=-1) / np.where(whole > 0, whole, 1.0), math.nan)
