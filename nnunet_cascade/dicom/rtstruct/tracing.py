"""Pixels to polygons that fill the same pixels again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage import measure

from nnunet_cascade.dicom.ct.resampling import PlaneMask
from nnunet_cascade.dicom.rtstruct.keyholes import join_holes
from nnunet_cascade.dicom.rtstruct.polygons import Polygon


def trace(mask: PlaneMask) -> list[Polygon]:
    """Draw the outlines of a mask, holes joined to the outline around them.

    Outlines run half-way between pixels inside and outside, across corners; none
    comes nearer than a third of a pixel to a pixel's centre. `fill` therefore gives the
    mask back bit for bit, also after rounding, and so does whatever fills polygons one by one. Pixels that
    touch at a corner get outlines of their own. Vertices stand at corners, and where holes are joined.

    Args:
        mask: (Y, X). Pixels at its border are outlined outside of it.

    Returns:
        None if the mask is empty.

    Source:
        W. E. Lorensen, H. E. Cline, "Marching cubes: a high resolution 3D surface
        construction algorithm", SIGGRAPH 1987, doi:10.1145/37401.37422, in two dimensions.
    """
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if rows.size == 0:
        return []
    held = np.pad(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1)
    corner = np.array([rows[0] - 1, columns[0] - 1], dtype=np.float64)
    outlines = [closed[:-1] for closed in measure.find_contours(held, 0.5)]
    return [_corners(outline) + corner for outline in join_holes(outlines)]


def _corners(vertices: NDArray[np.float64]) -> Polygon:
    """Leave out the vertices in the midst of a straight line; coordinates are halves, so that nothing is rounded."""
    before = vertices - np.roll(vertices, 1, axis=0)
    after = np.roll(vertices, -1, axis=0) - vertices
    return vertices[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]
