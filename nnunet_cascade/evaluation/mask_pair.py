"""A truth and a prediction that can be compared, and which of them is empty."""

from typing import Literal

import numpy as np

from nnunet_cascade.errors import GridMismatchError, SettingsError
from nnunet_cascade.geometry import Grid, Mask, Spacing

EmptyMasks = Literal["none", "truth", "prediction", "both"]
"""Which of the two masks has no voxel."""

EMPTY_POLICY = (
    "Both masks empty: Dice, surface distances and NSD are undefined (NaN), the case is counted and left out of their "
    "means. One mask empty: Dice 0, NSD 0, every surface distance the image diagonal. No case is dropped."
)
"""What every measure of this package does with empty masks, in words for tables and files."""


def require_pair(truth: Mask, prediction: Mask) -> None:
    """Raise unless both are boolean volumes of one shape.

    Raises:
        SettingsError: An array is not boolean or not three-dimensional.
        GridMismatchError: The shapes differ.
    """
    for name, mask in (("truth", truth), ("prediction", prediction)):
        if mask.dtype != np.bool_ or mask.ndim != 3:
            raise SettingsError(
                f"the {name} is {mask.dtype} with {mask.ndim} dimensions; expected a boolean mask (Z, Y, X): "
                "compare the labels with one number first"
            )
    if truth.shape != prediction.shape:
        raise GridMismatchError(
            f"the prediction has shape {prediction.shape}, the truth {truth.shape}; resample it to the truth's grid"
        )


def shared_grid(truth: Mask, prediction: Mask, spacing_mm: Spacing) -> Grid:
    """Return the grid of two masks (Z, Y, X) with voxels of `spacing_mm`; its place in the world is not known.

    Raises:
        SettingsError: As `require_pair`, or a voxel size is not positive, or the masks hold no voxels at all.
        GridMismatchError: The shapes differ.
    """
    require_pair(truth, prediction)
    depth, height, width = truth.shape
    return Grid(shape=(depth, height, width), spacing_mm=spacing_mm)
