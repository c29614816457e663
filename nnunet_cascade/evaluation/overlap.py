"""Overlap of two masks, voxel by voxel."""

import math

import numpy as np

from nnunet_cascade.evaluation.mask_pair import require_pair
from nnunet_cascade.geometry import Mask


def dice(truth: Mask, prediction: Mask) -> float:
    """Measure the Dice coefficient, 2·|A ∩ B| / (|A| + |B|).

    Args:
        truth: (Z, Y, X).
        prediction: (Z, Y, X), same grid.

    Returns:
        0 … 1. NaN if both masks are empty, 0 if one is.

    Raises:
        SettingsError: A mask is not a boolean volume.
        GridMismatchError: The shapes differ.

    Source:
        Dice, Ecology 26(3), 1945, https://doi.org/10.2307/1932409.
    """
    require_pair(truth, prediction)
    voxels = int(np.count_nonzero(truth)) + int(np.count_nonzero(prediction))
    return dice_of_counts(int(np.count_nonzero(truth & prediction)), voxels)


def dice_of_counts(shared_voxels: int, voxels: int) -> float:
    """Return Dice from the voxels that both masks share and those of both, added; NaN if there is none."""
    return 2.0 * shared_voxels / voxels if voxels else math.nan
