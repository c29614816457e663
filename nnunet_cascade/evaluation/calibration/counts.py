"""What all figures of calibration are made of: sums per bin, added up over voxels and cases."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.errors import InputImageError, SettingsError
from nnunet_cascade.evaluation.calibration.regions import require_same_shape

WIDTH_BINS = 15
LOGIT_BINS = 4000
LEAST = 1e-7
"""What the probability of the truth is raised to in likelihoods: where float32 cannot tell 1 − p from 0."""
CERTAIN = 1e-12
"""Nearer to 0 and 1 logits are not told apart."""
_LARGEST_LOGIT = math.log((1 - CERTAIN) / CERTAIN)
_LOGIT_COLUMNS = LOGIT_BINS + 2
_CHUNK_VOXELS = 1 << 19

Sums = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationCounts:
    """Sums over the voxels of a region; counts of several cases can be added.

    Attributes:
        width: (3, 15), rows n, Σp and Σy in bins of equal width of the probability p;
            bin i holds i/15 ≤ p < (i + 1)/15, the last also p = 1.
        logit: (4, 4002), the same rows and Σ p·y in 4000 bins of equal width of logit p between those
            of 1e-12 and 1 − 1e-12, the outermost of which also hold what lies beyond; p = 0 and
            p = 1, which no scaling moves, have the first and the last column to themselves.
        squares: Σ(p − y)².
        nll: Σ −ln of the probability of the truth, p where tumor and 1 − p elsewhere, at least 1e-7.
    """

    width: Sums
    logit: Sums
    squares: float
    nll: float

    @property
    def voxels(self) -> int:
        """Voxels of the region."""
        return round(float(self.logit[0].sum()))

    @property
    def tumor_voxels(self) -> int:
        """Voxels of the region that are tumor in truth."""
        return round(float(self.logit[2].sum()))

    def flat(self) -> Sums:
        """Return all sums as one row, for weighted sums of many cases."""
        return np.concatenate([self.width.ravel(), self.logit.ravel(), [self.squares, self.nll]])

    @classmethod
    def of_flat(cls, row: Sums) -> CalibrationCounts:
        """Take back what `flat` gave."""
        end = 3 * WIDTH_BINS
        return cls(
            width=row[:end].reshape(3, WIDTH_BINS),
            logit=row[end:-2].reshape(4, _LOGIT_COLUMNS),
            squares=float(row[-2]),
            nll=float(row[-1]),
        )


def count_voxels(
    probability: NDArray[np.floating], truth: NDArray[np.bool_], region: NDArray[np.bool_] | None = None
) -> CalibrationCounts:
    """Sum up what calibration needs of the voxels of a region, a few slices at a time.

    Memory is that of the sums, whatever the number of voxels; all sums are float64.

    Args:
        probability: Of the tumor, 0 … 1, any shape, (Z, Y, X) as a rule.
        truth: Same shape, True in the tumor.
        region: Same shape; voxels outside it are left out. None takes all.

    Returns:
        The sums; all are 0 if the region is empty.

    Raises:
        SettingsError: `truth` or `region` is not boolean.
        GridMismatchError: The shapes differ.
        InputImageError: A value in the region is not a probability.
    """
    for name, mask in (("truth", truth), ("region", region)):
        if mask is not None and mask.dtype != np.bool_:
            raise SettingsError(f"the {name} is {mask.dtype}; expected a boolean mask: compare labels with a number")
    require_same_shape(probability, truth, *([] if region is None else [region]))
    return added(binned(values, np.ones(values.shape), tumor) for values, tumor in _chunks(probability, truth, region))


def added(counts: Iterable[CalibrationCounts]) -> CalibrationCounts:
    """Add up the counts of several cases; those of none are all 0."""
    total = np.zeros(3 * WIDTH_BINS + 4 * _LOGIT_COLUMNS + 2)
    for each in counts:
        total += each.flat()
    return CalibrationCounts.of_flat(total)


def binned(means: Sums, voxels: Sums, tumor: NDArray[np.bool_]) -> CalibrationCounts:
    """Return the counts of groups of voxels that share probability and truth.

    Args:
        means: (n,), the probability of each group.
        voxels: (n,), how many voxels it has.
        tumor: (n,), whether they are tumor.
    """
    kept = np.clip(means, CERTAIN, 1 - CERTAIN)
    log_p, log_q = np.log(kept), np.log1p(-kept)
    counted = (voxels, means * voxels)
    width_index = np.minimum((means * WIDTH_BINS).astype(np.int64), WIDTH_BINS - 1)
    return CalibrationCounts(
        width=_table(width_index, counted, tumor, WIDTH_BINS)[:3],
        logit=_table(_logit_index(means, log_p - log_q), counted, tumor, _LOGIT_COLUMNS),
        squares=float(np.sum(voxels * (means - tumor) ** 2)),
        nll=-float(np.sum(voxels * np.maximum(np.where(tumor, log_p, log_q), math.log(LEAST)))),
    )


def _chunks(
    probability: NDArray[np.floating], truth: NDArray[np.bool_], region: NDArray[np.bool_] | None
) -> Iterator[tuple[Sums, NDArray[np.bool_]]]:
    """Return values and truth of the region, some slices along the first axis at a time, any memory order alike."""
    slices = max(1, _CHUNK_VOXELS // max(1, math.prod(probability.shape[1:])))
    for start in range(0, len(probability), slices):
        part = slice(start, start + slices)
        if region is None:
            values, tumor = probability[part].ravel(), truth[part].ravel()
        else:
            values, tumor = probability[part][region[part]], truth[part][region[part]]
        if values.size == 0:
            continue
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high <= 1):
            raise InputImageError(f"found values from {low:g} to {high:g}; expected probabilities, 0 … 1")
        yield values.astype(np.float64), tumor


def _logit_index(values: Sums, logit: Sums) -> NDArray[np.int64]:
    place = (logit + _LARGEST_LOGIT) * (LOGIT_BINS / (2 * _LARGEST_LOGIT))
    index = np.clip(place.astype(np.int64), 0, LOGIT_BINS - 1) + 1
    index[values == 0] = 0
    index[values == 1] = LOGIT_BINS + 1
    return index


def _table(index: NDArray[np.int64], counted: tuple[Sums, Sums], tumor: NDArray[np.bool_], bins: int) -> Sums:
    """Return n, Σp, Σy and Σ p·y per bin; tumor is a small part of a region, and is picked out but once."""
    inside = index[tumor]
    of_all = [np.bincount(index, row, bins) for row in counted]
    of_tumor = [np.bincount(inside, row[tumor], bins) for row in counted]
    return np.stack([*of_all, *of_tumor], dtype=np.float64)
