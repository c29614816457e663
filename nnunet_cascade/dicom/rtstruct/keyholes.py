"""Holes of a contour, told in the one way that every reader understands."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.dicom.rtstruct.polygons import Polygon


def join_holes(outlines: Sequence[Polygon]) -> list[Polygon]:
    """Join the outline of each hole to the one around it by a cut without width, a keyhole.

    Parity, winding numbers and a union of all contours then fill the same pixels. Cuts run
    along the columns, half-way between the centers of pixels.

    Args:
        outlines: (N, 2) each, row and column in pixels: of a mask, with a vertex half-way between each two
            neighbors that they part, those of holes in the other sense of rotation.

    Returns:
        As many as there are outer outlines.

    Source:
        DICOM PS3.3 C.8.8.6.3, "Representing inner and outer contours": the other way is the type
        CLOSEDPLANAR_XOR, which came later and which many readers do not know.
    """
    is_hole = [_area(outline) < 0 for outline in outlines]
    if not any(is_hole):
        return list(outlines)
    paths = [_from_the_top(outline) if hole else outline for outline, hole in zip(outlines, is_hole, strict=True)]
    crossings = _Crossings.of(paths)
    holes = np.flatnonzero(is_hole)
    lowest_first = holes[np.argsort([-paths[hole][0, 0] for hole in holes])].tolist()
    cuts: dict[int, list[_Cut]] = defaultdict(list)
    for hole in lowest_first:  # what hangs below a hole is joined to it before it is joined itself
        around, cut = crossings.above(_joined(paths[hole], cuts.pop(hole, [])))
        cuts[around].append(cut)
    return [_joined(path, cuts.get(number, [])) for number, path in enumerate(paths) if not is_hole[number]]


@dataclass(frozen=True, slots=True)
class _Cut:
    """Where a path is left for a hole and entered again.

    Attributes:
        after: The vertex before the place.
        gate: (1, 2), the place.
        hole: (N, 2), the way around it.
    """

    after: int
    gate: Polygon
    hole: Polygon


@dataclass(frozen=True, slots=True)
class _Crossings:
    """Where outlines run between two columns of pixels, sorted by column, then row.

    Attributes:
        places: (N, 2), column and row.
        outlines: (N,), number of the outline.
        edges: (N,), number of the vertex its edge begins at.
    """

    places: Polygon
    outlines: NDArray[np.intp]
    edges: NDArray[np.intp]

    @classmethod
    def of(cls, paths: Sequence[Polygon]) -> _Crossings:
        """Find them, in outlines whose vertices part neighbors."""
        start = np.concatenate(paths)
        end = np.concatenate([np.roll(path, -1, axis=0) for path in paths])
        outlines = np.repeat(np.arange(len(paths)), [len(path) for path in paths])
        edges = np.concatenate([np.arange(len(path)) for path in paths])
        low, high = np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1])
        columns = np.ceil(low - 0.5) + 0.5
        met = np.flatnonzero((low < high) & (columns <= high))  # by an edge between neighbors, one column at the most
        columns, start, end = columns[met], start[met], end[met]
        rows = start[:, 0] + (columns - start[:, 1]) * (end[:, 0] - start[:, 0]) / (end[:, 1] - start[:, 1])
        order = np.lexsort((rows, columns))
        return cls(np.stack([columns, rows], axis=1)[order], outlines[met[order]], edges[met[order]])

    def above(self, hole: Polygon) -> tuple[int, _Cut]:
        """Return the outline that is met first on the way up from where a hole begins, and the cut to it."""
        row, column = hole[0]
        low, high = np.searchsorted(self.places[:, 0], (column, column + 0.25))
        met = low + np.searchsorted(self.places[low:high, 1], row) - 1
        gate = self.places[met : met + 1, ::-1]
        return int(self.outlines[met]), _Cut(int(self.edges[met]), gate, hole)


def _area(outline: Polygon) -> float:
    """Return the area inside, below 0 for the sense of rotation of holes."""
    after = np.roll(outline, -1, axis=0)
    return float((outline[:, 1] * after[:, 0] - outline[:, 0] * after[:, 1]).sum()) / 2


def _from_the_top(hole: Polygon) -> Polygon:
    """Let a hole begin where it is highest of all its vertices between two columns of pixels."""
    between = np.flatnonzero(hole[:, 1] % 1 == 0.5)
    return np.roll(hole, -between[hole[between, 0].argmin()], axis=0)


def _joined(path: Polygon, cuts: Sequence[_Cut]) -> Polygon:
    """Go along a path, at each cut down to a hole, around it, and up again."""
    pieces: list[Polygon] = []
    begin = 0
    for cut in sorted(cuts, key=lambda cut: (cut.after, float(np.abs(cut.gate - path[cut.after]).sum()))):
        pieces += [path[begin : cut.after + 1], cut.gate, cut.hole, cut.hole[:1], cut.gate]
        begin = cut.after + 1
    joined = np.concatenate([*pieces, path[begin:]])
    repeated = (joined == np.roll(joined, -1, axis=0)).all(axis=1)  # a gate at a vertex; the first vertex stays
    return joined[~repeated]
