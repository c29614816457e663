"""Polygons to pixels: even–odd parity at pixel centres, and contours that stand twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.dicom.ct.resampling import PlaneMask

Polygon = NDArray[np.float64]
"""(N, 2), row and column of its vertices as fractional pixel indices; the last joins the first."""

_DECIMALS = 6  # of a pixel: hides the noise of world coordinates, so that ties fall alike
_TWINS_APART = 0.25  # of a pixel, on the average
_TWINS_ENDS = 1.0  # of a pixel: how far apart the ends of twins may lie
_LINES = 64  # that small twins are compared on


def fill(polygons: Sequence[Polygon], shape: tuple[int, int]) -> PlaneMask:
    """Mark the pixels whose centres lie inside an odd number of polygons.

    Holes, islands in holes and keyholes thus come out right without being told
    apart. A centre on an outline belongs to the polygon on its upper and left side,
    not on its lower and right one, so that neighbours share no pixel and leave none out.

    Args:
        polygons: Any number, of at least three vertices each. They may reach outside.
        shape: Pixels along (Y, X).

    Returns:
        (Y, X), all False without polygons.

    Source:
        docs/decisions/0024-contours-to-voxels.md.
    """
    if not polygons:
        return np.zeros(shape, dtype=np.bool_)
    rows, columns = _crossings(polygons, shape[0])
    width = shape[1] + 1
    columns = np.clip(columns, 0, shape[1])
    toggles = np.bincount(rows * width + columns, minlength=shape[0] * width).reshape(shape[0], width) & 1
    return np.bitwise_xor.accumulate(toggles[:, :-1].astype(np.bool_), axis=1)


def without_twins(polygons: Sequence[Polygon]) -> list[int]:
    """Find the polygons that do not repeat an earlier one.

    Parity would turn a contour that stands twice into a hole. Twins may differ in their
    vertices. What counts is the area between the outlines: divided by their length it is
    how far apart they run, and outlines less than a quarter of a pixel apart that share
    most of what they cover mean the same. The wall of a thin shell is wider, whatever the
    size of the shell; twins in real files are less than a hundredth apart.

    Returns:
        Which to keep, by place, ascending.
    """
    ends = np.array([(*polygon.min(axis=0), *polygon.max(axis=0)) for polygon in polygons]).reshape(-1, 4)
    kept: list[int] = []
    for place, polygon in enumerate(polygons):
        near = np.abs(ends[kept] - ends[place]).max(axis=1) <= _TWINS_ENDS
        if not any(_are_twins(polygons[kept[other]], polygon) for other in np.flatnonzero(near)):
            kept.append(place)
    return kept


def _are_twins(one: Polygon, other: Polygon) -> bool:
    both = np.concatenate([one, other])
    corner = both.min(axis=0) - 1.0
    extent = both.max(axis=0) - corner + 1.0
    # Pixels of a small contour are too few to tell: it is drawn finer.
    finer = max(1, int(np.ceil(_LINES / extent.max())))
    rows, columns = np.ceil(extent * finer).astype(int).tolist()
    first, second = (fill([(polygon - corner) * finer], (rows, columns)) for polygon in (one, other))
    between, covered = (np.count_nonzero(pixels) / finer**2 for pixels in (first ^ second, first | second))
    return bool(between <= min(covered / 2, _TWINS_APART * min(_length(one), _length(other))))


def _length(polygon: Polygon) -> float:
    return float(np.linalg.norm(polygon - np.roll(polygon, -1, axis=0), axis=1).sum())


def _crossings(polygons: Sequence[Polygon], rows: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Give, for each row of pixel centres that an edge crosses, the row and the first column beyond the edge."""
    start = np.round(np.concatenate(polygons), _DECIMALS)
    end = np.round(np.concatenate([np.roll(polygon, -1, axis=0) for polygon in polygons]), _DECIMALS)
    # An edge and the same edge the other way must cross a row at the same bits: a keyhole's banks cancel.
    downward = (start[:, 0] <= end[:, 0])[:, None]
    top, bottom = np.where(downward, start, end), np.where(downward, end, start)
    first = np.clip(np.ceil(top[:, 0]), 0, rows).astype(np.intp)
    last = np.clip(np.ceil(bottom[:, 0]), 0, rows).astype(np.intp)
    counts = last - first
    edges = np.repeat(np.arange(len(counts)), counts)
    row = np.arange(len(edges)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edges]
    drop = (bottom - top)[edges]
    across = top[edges, 1] + (row - top[edges, 0]) * drop[:, 1] / drop[:, 0]
    return row, np.ceil(np.round(across, _DECIMALS)).astype(np.intp)
