"""The voxel sizes of the two stages, from what nnU-Net knows of a dataset: its fingerprint."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape
from numpy.typing import NDArray

from nnunet_cascade.errors import DatasetError

PlannedGrid = Literal["coarse", "fine"]
"""The grid of stage 1, on which a whole image takes few windows, or that of stage 2, which keeps the detail."""

MOST_WINDOWS = 8
"""Windows that the median image takes at most on the coarse grid."""
_COARSER_THAN_FINE = 1.5
_FINEST_COARSE_MM = 2.0
_WINDOW_STEP = 0.5  # nnU-Net's own, as a share of the patch
_STEP_MM = 0.1
_DIGITS = 2  # 0.01 mm


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Voxel sizes and shapes of a dataset's images.

    Attributes:
        spacings_mm: (N, 3), voxel size of each image along (Z, Y, X).
        shapes: (N, 3), of each image in voxels, without its margin of zeros.
    """

    spacings_mm: NDArray[np.float64]
    shapes: NDArray[np.float64]

    @classmethod
    def of(cls, content: Mapping[str, Any], *, where: str) -> Fingerprint:
        """Take from nnU-Net's dataset_fingerprint.json what grids depend on.

        Raises:
            DatasetError: It has no image, or one with a size that is not positive.
        """
        try:
            spacings = np.array(content["spacings"], dtype=np.float64)
            shapes = np.array(content["shapes_after_crop"], dtype=np.float64)
            valid = shapes.shape == spacings.shape == (len(spacings), 3) and len(spacings) > 0
            valid = valid and bool(np.isfinite(spacings).all()) and min(spacings.min(), shapes.min()) > 0
        except (KeyError, TypeError, ValueError):
            valid, spacings, shapes = False, np.empty((0, 3)), np.empty((0, 3))
        if not valid:
            raise DatasetError(
                f"{where} has no images with sizes above 0, so no grid can be planned; check the dataset, remove the "
                "file and run nnUNetv2_extract_fingerprint"
            )
        return cls(spacings, shapes)

    def median_shape(self, spacing_mm: float) -> tuple[float, ...]:
        """Return the median shape (Z, Y, X) of the images on cubic voxels, as nnU-Net's planner computes it."""
        target = [spacing_mm] * 3
        pairs = zip(self.shapes, self.spacings_mm, strict=True)
        return tuple(np.median([compute_new_shape(shape, spacing, target) for shape, spacing in pairs], axis=0))


def fine_spacing_mm(fingerprint: Fingerprint) -> float:
    """Return the edge of the cubic voxels of stage 2: the median in-plane spacing, to 0.01 mm.

    The pixels of a CT are square, so the middle one of an image's three spacings is its in-plane spacing, in any
    order of axes.
    """
    spacing = float(np.median(np.median(fingerprint.spacings_mm, axis=1)))
    return max(round(spacing, _DIGITS), 10.0**-_DIGITS)


def coarse_spacing_mm(fingerprint: Fingerprint, patch_at: Callable[[float], Sequence[int]]) -> float:
    """Return the edge of the cubic voxels of stage 1, to 0.01 mm.

    It is at least 1.5 times that of stage 2 and at least 2 mm. From there it grows in steps of 0.1 mm until the median
    image takes at most 8 windows.

    Args:
        fingerprint: Of the dataset with whole images.
        patch_at: Returns the patch (Z, Y, X), in voxels, that stage 1 would have at a spacing in mm.
    """
    least = round(_COARSER_THAN_FINE * fine_spacing_mm(fingerprint), 6)
    spacing = max(_FINEST_COARSE_MM, math.ceil(round(least * 10**_DIGITS, 3)) / 10**_DIGITS)
    while count_windows(fingerprint.median_shape(spacing), patch_at(spacing)) > MOST_WINDOWS:
        spacing = round(spacing + _STEP_MM, _DIGITS)
    return spacing


def count_windows(shape: Sequence[float], patch: Sequence[int]) -> int:
    """Return how many windows of a patch nnU-Net's sliding window takes for an image; both are (Z, Y, X), voxels."""
    padded = tuple(max(math.ceil(edge), side) for edge, side in zip(shape, patch, strict=True))
    steps = compute_steps_for_sliding_window(padded, tuple(patch), _WINDOW_STEP)
    return math.prod(len(of_axis) for of_axis in steps)
