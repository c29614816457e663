"""An optional second channel of stage 2: how steep the CT is at each voxel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnunet_cascade.geometry import Image, Spacing, Stored

EDGE_CHANNEL = "edge_magnitude"
"""Its name in `dataset.json`, by which a trained model says that it wants the channel."""
_SIGMA_MM = 1.0


def edge_magnitude(image: Stored, spacing_mm: Spacing) -> Image:
    """Return the steepness of an image: the length of the gradient after smoothing with a Gaussian of sigma 1 mm.

    Central differences between voxels, one-sided ones at the faces of the array; an
    axis of one voxel has no slope. Sums are taken in float32.

    Args:
        image: (Z, Y, X), in HU. Left unchanged.
        spacing_mm: Voxel size along (Z, Y, X).

    Returns:
        (Z, Y, X), float32, HU per mm, never negative.

    Source:
        Isler et al., Fig. 1, edge enhancement ahead of cropping; docs/paper-departures.md, P17.
    """
    sigma_voxels = [_SIGMA_MM / size for size in spacing_mm]
    smooth = ndimage.gaussian_filter(image.astype(np.float32), sigma_voxels, mode="nearest")
    squares = np.zeros(image.shape, dtype=np.float32)
    for axis, size in enumerate(spacing_mm):
        if image.shape[axis] > 1:
            squares += np.square(np.gradient(smooth, size, axis=axis))
    return np.sqrt(squares)


def with_edge_channel(image: Stored, spacing_mm: Spacing) -> NDArray[np.float32]:
    """Return an image with its edge magnitude behind it, as stage 2 is trained and asked: (2, Z, Y, X), float32.

    The plans of the model say how it is scaled.
    """
    return np.stack([image.astype(np.float32), edge_magnitude(image, spacing_mm)])
