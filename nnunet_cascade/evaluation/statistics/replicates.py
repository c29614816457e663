"""Cases drawn again, with replacement, for figures that are pooled over what the cases hold: voxels or lesions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.evaluation.statistics.bootstrap import Interval, Resampling
from nnunet_cascade.evaluation.statistics.samples import FEWEST_CASES

RESAMPLING = Resampling(resamples=2000)
"""How intervals of calibration are drawn where nobody says otherwise."""

Values = NDArray[np.float64]
_AT_ONCE = 64


def case_weights(cases: int, resampling: Resampling) -> Values:
    """Return (resamples, cases), how often each replicate draws each case.

    The same number of cases is drawn the same way, so that methods are paired. Voxels and
    lesions of one case are not independent, which is why cases are drawn.
    """
    drawn = np.random.default_rng(resampling.seed).integers(0, cases, (resampling.resamples, cases))
    rows = np.arange(resampling.resamples)[:, None] * cases
    flat = np.bincount((drawn + rows).ravel(), minlength=resampling.resamples * cases)
    return flat.reshape(resampling.resamples, cases).astype(np.float64)


def replicated_sums(sums: Values, weights: Values) -> Iterator[Values]:
    """Return the sums (m,) of each replicate, from those of cases (cases, m) and how often it draws each."""
    for start in range(0, len(weights), _AT_ONCE):
        yield from weights[start : start + _AT_ONCE] @ sums


def percentile_interval(replicates: Values, *, cases: int, resampling: Resampling) -> Interval | None:
    """Return the interval between the percentiles of a figure's replicates.

    Args:
        replicates: Of the figure; those that are NaN are left out.
        cases: How many the figure rests on.
        resampling: Says the level.

    Returns:
        None for fewer than 3 cases, or where no replicate is defined.
    """
    known = replicates[~np.isnan(replicates)]
    if cases < FEWEST_CASES or known.size == 0:
        return None
    low, high = np.percentile(known, [50 * (1 - resampling.level), 50 * (1 + resampling.level)])
    return Interval(float(low), float(high))
