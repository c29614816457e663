"""ECE, ACE, Brier score and negative log-likelihood of counted voxels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nnunet_cascade.evaluation.calibration.counts import LEAST, WIDTH_BINS, CalibrationCounts

Measure = Literal["ece", "ace", "brier", "nll"]
EQUAL_MASS_BINS = 15
MEASURES: dict[Measure, str] = {
    "ece": f"expected calibration error, {WIDTH_BINS} bins of equal width of the tumor probability",
    "ace": f"adaptive calibration error, {EQUAL_MASS_BINS} bins of equal mass",
    "brier": "mean of (p − y)²",
    "nll": f"mean −ln of the probability of the truth, at least {LEAST:g}, in nats",
}
"""What the figures are, in words for tables and files. Of each, less is better and 0 the least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationFigures:
    """How far the tumor probability of a region's voxels is from what it promises.

    Attributes:
        voxels: Of the region.
        tumor_voxels: Those that are tumor in truth.
        mean_probability: Mean p; NaN without voxels, as all that follows.
        ece: Σ over bins of equal width of (n / N)·|mean p − share of tumor|.
        ace: The same over bins of equal mass, each of N / 15 voxels.
        brier: Mean of (p − y)².
        nll: Mean of −ln p in the tumor and −ln(1 − p) outside, in nats, both p and 1 − p at least 1e-7.
    """

    voxels: int
    tumor_voxels: int
    mean_probability: float
    ece: float
    ace: float
    brier: float
    nll: float


def figures_of(counts: CalibrationCounts) -> CalibrationFigures:
    """Measure calibration of counted voxels.

    ECE, Brier score and NLL are exact. For ACE the voxels are in order of p up to
    one of the 4,000 bins of logit p; a bin that lies across the end of an equal-mass
    bin gives each side its share of n, Σp and Σy, so that ties need no rule.

    Source:
        Naeini et al., AAAI 2015 (ECE, here of the tumor's probability); Nixon et al., CVPR
        workshops 2019, arXiv:1904.01685 (ACE, one class); Brier, Mon Weather Rev 78, 1950.
    """
    voxels = float(counts.logit[0].sum()) or math.nan
    return CalibrationFigures(
        voxels=counts.voxels,
        tumor_voxels=counts.tumor_voxels,
        mean_probability=float(counts.logit[1].sum()) / voxels,
        ece=float(np.abs(counts.width[1] - counts.width[2]).sum()) / voxels,
        ace=_voxels_off(counts) / voxels,
        brier=counts.squares / voxels,
        nll=counts.nll / voxels,
    )


def _voxels_off(counts: CalibrationCounts) -> float:
    """Part the voxels into bins of equal mass where the cumulated sums say so, linear within a bin of logit p."""
    filled = counts.logit[:3, counts.logit[0] > 0]
    sums = np.concatenate([np.zeros((3, 1)), filled.cumsum(axis=1)], axis=1)
    ends = np.linspace(0, sums[0, -1], EQUAL_MASS_BINS + 1)
    promised, true = (np.diff(np.interp(ends, sums[0], row)) for row in sums[1:])
    return float(np.abs(promised - true).sum())
