"""Temperature scaling: one number that makes probabilities less, or more, sure of themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit

from nnunet_cascade.errors import CascadeError, SettingsError
from nnunet_cascade.evaluation.calibration.counts import CERTAIN, CalibrationCounts, Sums, added, binned
from nnunet_cascade.evaluation.statistics.bootstrap import Interval, Resampling
from nnunet_cascade.evaluation.statistics.replicates import (
    RESAMPLING,
    case_weights,
    percentile_interval,
    replicated_sums,
)

SMALLEST, LARGEST = 0.05, 20.0
"""Between these a temperature is looked for."""


class TemperatureError(CascadeError, ValueError):
    """No temperature can be fitted to these voxels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TemperatureFit:
    """The temperature with the least negative log-likelihood.

    Attributes:
        temperature: T; above 1 the probabilities were too sure.
        voxels: Fitted on.
        tumor_voxels: Of these.
        nll_before: Mean over the voxels at T = 1, in nats.
        nll_after: The same at T.
        at_bound: Whether T is one of the bounds and would go further if it could.
    """

    temperature: float
    voxels: int
    tumor_voxels: int
    nll_before: float
    nll_after: float
    at_bound: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Each case at the temperature fitted to the others.

    Attributes:
        temperatures: By case.
        before: By case, its counts at T = 1.
        after: By case, its counts at its temperature.
        without: Cases whose others no temperature can be fitted to, and why; in none of the above.
    """

    temperatures: Mapping[str, float]
    before: Mapping[str, CalibrationCounts]
    after: Mapping[str, CalibrationCounts]
    without: Mapping[str, str]


def scaled_counts(counts: CalibrationCounts, temperature: float) -> CalibrationCounts:
    """Return the counts that probabilities scaled by sigmoid(logit(p) / T) have, from the bins of logit p alone.

    Of each of the 4,000 bins, tumor and what is none move as one voxel each; p = 0 and p = 1
    stay. With a width of 0.014 that changes the mean NLL by less than 1e-5 for T ≥ 1,
    and by less than 1e-5 / T² below; ECE by about the share of voxels in bins that
    lie across the end of one of its own.

    Raises:
        SettingsError: T is not positive.

    Source:
        Guo et al., ICML 2017, arXiv:1706.04599, section 4.2, for two classes.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise SettingsError(f"a temperature of {temperature}; expected a positive number")
    voxels, tumor, logits = _groups(counts)
    return binned(expit(logits / temperature), voxels, tumor)


def nll_at(counts: CalibrationCounts, temperature: float) -> float:
    """Return the mean negative log-likelihood of scaled probabilities in nats; NaN without voxels.

    Raises:
        SettingsError: T is not positive.
    """
    found = scaled_counts(counts, temperature)
    return found.nll / found.voxels if found.voxels else math.nan


def fit_temperature(counts: CalibrationCounts) -> TemperatureFit:
    """Find the temperature with the least negative log-likelihood.

    NLL is convex in 1/T; its derivative has one root, which is found to a relative
    1e-9. It is taken over the bins of logit p, which changes T by less than 1e-4 of
    itself for T ≥ 0.3. Voxels with p = 0 or p = 1 have no say, and no likelihood is
    raised to 1e-7 here, for which NLL would not be convex.

    Args:
        counts: Of all voxels together, so that large tumors count more.

    Raises:
        TemperatureError: There is no tumor voxel or no other; or every voxel is on its
            side of 0.5, so that NLL falls for ever as T goes to 0.
    """
    voxels, tumor, logits = _groups(counts)
    moved = np.isfinite(logits)
    voxels, tumor, logits = voxels[moved], tumor[moved], logits[moved]
    _require_fittable(voxels, tumor, logits)
    true = float((voxels * logits)[tumor].sum())

    def slope(inverse: float) -> float:
        return float((voxels * logits * expit(inverse * logits)).sum()) - true

    ends = (1 / LARGEST, 1 / SMALLEST)
    if slope(ends[0]) >= 0:
        inverse, at_bound = ends[0], True
    elif slope(ends[1]) <= 0:
        inverse, at_bound = ends[1], True
    else:
        find_root = cast(Any, brentq)  # typed as if it always gave a pair
        inverse, at_bound = float(find_root(slope, *ends, rtol=1e-9)), False
    return TemperatureFit(
        temperature=1 / inverse,
        voxels=counts.voxels,
        tumor_voxels=counts.tumor_voxels,
        nll_before=nll_at(counts, 1.0),
        nll_after=nll_at(counts, 1 / inverse),
        at_bound=at_bound,
    )


def temperature_interval(
    cases: Mapping[str, CalibrationCounts], resampling: Resampling = RESAMPLING
) -> Interval | None:
    """Return the interval of the temperature over cases; None for fewer than 3.

    Draws to which no temperature can be fitted are left out.
    """
    stacked = np.stack([each.flat() for each in cases.values()])
    found = np.array(
        [_temperature_or_nan(row) for row in replicated_sums(stacked, case_weights(len(cases), resampling))]
    )
    return percentile_interval(found, cases=len(cases), resampling=resampling)


def leave_one_out(
    cases: Mapping[str, CalibrationCounts], *, fitted_to: Mapping[str, CalibrationCounts] | None = None
) -> HeldOut:
    """Scale each case by the temperature fitted to all others.

    Before and after come from the same bins, so that they differ by the scaling alone.

    Args:
        cases: Counts to scale.
        fitted_to: Counts of the same cases to fit to, such as those of another region; None takes `cases`.
    """
    fitted_to = cases if fitted_to is None else fitted_to
    temperatures: dict[str, float] = {}
    without: dict[str, str] = {}
    for case in cases:
        others = added(counts for name, counts in fitted_to.items() if name != case)
        try:
            temperatures[case] = fit_temperature(others).temperature
        except TemperatureError as error:
            without[case] = str(error)
    return HeldOut(
        temperatures=temperatures,
        before={case: scaled_counts(cases[case], 1.0) for case in temperatures},
        after={case: scaled_counts(cases[case], found) for case, found in temperatures.items()},
        without=without,
    )


def _temperature_or_nan(row: Sums) -> float:
    try:
        return fit_temperature(CalibrationCounts.of_flat(row)).temperature
    except TemperatureError:
        return math.nan


def _groups(counts: CalibrationCounts) -> tuple[Sums, NDArray[np.bool_], Sums]:
    """Part each bin of logit p by truth.

    Returns:
        Of each group that has any: its voxels (n,), whether they are tumor, and the logit of their mean p,
        infinite where p is 0 or 1.
    """
    all_voxels, all_promised, tumor_voxels, tumor_promised = counts.logit
    voxels = np.concatenate([all_voxels - tumor_voxels, tumor_voxels])
    promised = np.concatenate([all_promised - tumor_promised, tumor_promised])
    tumor = np.repeat([False, True], all_voxels.size)
    certain = np.zeros(all_voxels.size, dtype=np.bool_)
    certain[[0, -1]] = True
    filled = voxels > 0
    means = (promised[filled] / voxels[filled]).clip(0, 1)
    kept = np.where(np.tile(certain, 2)[filled], means.round(), np.clip(means, CERTAIN, 1 - CERTAIN))
    return voxels[filled], tumor[filled], logit(kept)


def _require_fittable(voxels: Sums, tumor: NDArray[np.bool_], logits: Sums) -> None:
    total = f"{voxels.sum():.0f}"
    if tumor.all() or not tumor.any():
        none = "voxel that is none" if tumor.any() else "tumor voxel"
        raise TemperatureError(
            f"{total} voxels without a {none}; a temperature needs both: give more cases with tumors"
        )
    if not (np.where(tumor, logits, -logits) < 0).any():
        raise TemperatureError(
            f"all {total} voxels are on their side of 0.5, so that the best temperature is 0; "
            "give cases that the models were not trained on"
        )
