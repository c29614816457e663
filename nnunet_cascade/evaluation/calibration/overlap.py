"""Whether uncertain voxels are the wrong ones: how well uncertainty tells the errors of a mask."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from nnunet_cascade.errors import InputImageError
from nnunet_cascade.evaluation.calibration.regions import require_same_shape

Voxels = NDArray[np.floating]
Flags = NDArray[np.bool_]
_QUANTILE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorOverlap:
    """Overlap of uncertain voxels and errors in a region.

    Attributes:
        voxels: Of the region.
        errors: Those of them where truth and prediction differ.
        auroc: Chance that an error is more uncertain than a voxel that is none, ties
            counting half; NaN without both kinds.
        best: Largest Dice over all thresholds; NaN without errors.
        best_threshold: Voxels above or at it are uncertain there, the largest one where
            several are as good; NaN without errors.
        at_quantile: Dice where the voxels at or above the quantile are uncertain; NaN without errors.
        quantile: Of the uncertainties of the region.
        quantile_threshold: Its value; NaN without voxels.
    """

    voxels: int
    errors: int
    auroc: float
    best: float
    best_threshold: float
    at_quantile: float
    quantile: float
    quantile_threshold: float


def error_overlap(uncertainty: Voxels, truth: Flags, prediction: Flags, region: Flags) -> ErrorOverlap:
    """Measure how well uncertain voxels overlap with the errors of a mask.

    The best threshold is chosen with the errors in view and so is an upper bound. The
    quantile is fixed beforehand: it says what a reader gets who marks the 5 % most
    uncertain voxels of the region.

    Args:
        uncertainty: (Z, Y, X), finite in the region.
        truth: (Z, Y, X).
        prediction: (Z, Y, X), the mask that the uncertainty belongs to.
        region: (Z, Y, X); nothing outside counts.

    Raises:
        GridMismatchError: The shapes differ.
        InputImageError: An uncertainty in the region is not finite.

    Source:
        Jungo and Reyes, MICCAI 2019, arXiv:1907.03338, "uncertainty-error overlap".
    """
    require_same_shape(uncertainty, truth, prediction, region)
    values, errors = uncertainty[region].astype(np.float64), (truth[region] != prediction[region])
    if not np.isfinite(values).all():
        raise InputImageError("an uncertainty in the region is not finite; expected numbers: predict again")
    count = int(np.count_nonzero(errors))
    best, best_threshold = _best(values, errors)
    threshold = float(np.quantile(values, _QUANTILE)) if values.size else math.nan
    return ErrorOverlap(
        voxels=values.size,
        errors=count,
        auroc=error_auroc(values, errors),
        best=best,
        best_threshold=best_threshold,
        at_quantile=overlap_at(values, errors, threshold) if count else math.nan,
        quantile=_QUANTILE,
        quantile_threshold=threshold,
    )


def error_auroc(uncertainty: Voxels, errors: Flags) -> float:
    """Measure the area under the ROC curve of telling errors by their uncertainty.

    Args:
        uncertainty: (n,).
        errors: (n,).

    Returns:
        0 … 1, 0.5 for an uncertainty that says nothing; NaN if there is no error, or nothing else.

    Source:
        Mann and Whitney, Ann Math Stat 18, 1947: the rank sum, ties at their mean rank.
    """
    count = int(np.count_nonzero(errors))
    others = errors.size - count
    if count == 0 or others == 0:
        return math.nan
    ranks = float(rankdata(uncertainty)[errors].sum())
    return (ranks - count * (count + 1) / 2) / (count * others)


def overlap_at(uncertainty: Voxels, errors: Flags, threshold: float) -> float:
    """Return the Dice of the voxels whose uncertainty is at least a threshold and the errors; NaN if both are none.

    Args:
        uncertainty: Any shape.
        errors: Same shape.
        threshold: Of the uncertainty.
    """
    marked = uncertainty >= threshold
    total = int(np.count_nonzero(marked)) + int(np.count_nonzero(errors))
    return 2 * int(np.count_nonzero(marked & errors)) / total if total else math.nan


def _best(values: NDArray[np.float64], errors: Flags) -> tuple[float, float]:
    """Try the threshold at each value that occurs, all voxels that tie at once."""
    count = int(np.count_nonzero(errors))
    if count == 0:
        return math.nan, math.nan
    order = np.argsort(-values, kind="stable")
    falling = values[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(falling)), falling.size - 1)
    dices = 2 * np.cumsum(errors[order])[last_of_tie] / (last_of_tie + 1 + count)
    at = int(np.argmax(dices))
    return float(dices[at]), float(falling[last_of_tie[at]])
