"""The files behind a figure, as planes drawn radiologically: rows run to the back, columns to the patient's left."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.case_folders.prediction_files import TumorLabel
from nnunet_cascade.errors import CascadeError, InputImageError, one_line
from nnunet_cascade.geometry import AxisTurn, Box, Grid, Index, Spacing
from nnunet_cascade.images import ENDING
from nnunet_cascade.report.figures.facts import FigureFacts, facts_of
from nnunet_cascade.report.figures.orientation import radiological_turn
from nnunet_cascade.report.figures.request import FigureRequest
from nnunet_cascade.report.figures.slices import read_grid, read_planes, read_scan_grid, read_scan_planes
from nnunet_cascade.report.reading.privacy import without_paths

_MAPS = ("", "_stage1", "_candidates", "_lungs", "_roi", "_probability")
_NO_CT = "The CT is not where it was read from; give its folder by --images."


@dataclass(frozen=True, slots=True)
class FigureLayer:
    """Planes of one map, or why there are none.

    Attributes:
        planes: (slices, rows, columns), from the feet up; None where they are missing.
        missing: Why, in words; "" where they are there.
    """

    planes: NDArray[Any] | None
    missing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureSources:
    """What there is of a case; heights count slices from the feet up.

    Attributes:
        request: Which case.
        facts: What its record tells.
        grid: Of all its maps.
        turn: From the array to planes as they are drawn.
    """

    request: FigureRequest
    facts: FigureFacts
    grid: Grid
    turn: AxisTurn

    @classmethod
    def of(cls, request: FigureRequest) -> FigureSources:
        """Look at a case.

        Raises:
            InputImageError: There is neither a record with a grid nor any image to tell it, or the name is a path.
        """
        if Path(request.case).name != request.case:
            raise InputImageError(f"{request.case!r} is no name of a case: it leads out of the folder of the results")
        facts = facts_of(request.record)
        grid = facts.grid or _grid_of_files(request)
        return cls(request=request, facts=facts, grid=grid, turn=radiological_turn(grid))

    @property
    def shape(self) -> Index:
        """Slices, rows and columns."""
        rows: Any = tuple(self.grid.shape[axis] for axis in self.turn.order)
        return rows

    @property
    def spacing_mm(self) -> Spacing:
        """Distance of slices, rows and columns."""
        return self.turn.spacing(self.grid.spacing_mm)

    def turned(self, boxes: Iterable[Box]) -> tuple[Box, ...]:
        """Return boxes of the array as slices, rows and columns; what lies outside the volume is left out."""
        inside = (box.intersection(Box.whole(self.grid.shape)) for box in boxes)
        return tuple(self.turn.box(box, self.grid.shape) for box in inside if box is not None)

    def height_mm(self, height: int) -> float:
        """Return how far up (S) the middle of a slice lies in the patient's coordinates."""
        _, rows, columns = self.shape
        middle = np.array([height, (rows - 1) / 2, (columns - 1) / 2])
        flips = zip(middle, self.shape, self.turn.flipped, strict=True)
        unflipped = [size - 1 - at if flip else at for at, size, flip in flips]
        z, y, x = (float(unflipped[self.turn.order.index(axis)]) for axis in range(3))
        return self.grid.world_mm((z, y, x))[2]

    def map_path(self, suffix: str) -> Path:
        """Return where a map of the case would lie."""
        return self.request.folder / f"{self.request.case}{suffix}{ENDING}"

    def map_layer(self, suffix: str, heights: Sequence[int], *, what: str) -> FigureLayer:
        """Read slices of a map by its ending, such as "_lungs"; heights ascend."""
        path = self.map_path(suffix)
        if not path.is_file():
            return FigureLayer(None, f"The {what} is missing.")
        return self._layer(path, heights, what=what)

    def ct_layer(self, heights: Sequence[int]) -> FigureLayer:
        """Read slices of the CT in Hounsfield units; heights ascend."""
        scan = self.request.scan
        if scan is None or not scan.files or not scan.files[0].is_file():
            return FigureLayer(None, _NO_CT)
        try:
            places = self._places(heights)
            return FigureLayer(self.turn.apply(read_scan_planes(scan, self.turn.order[0], places, grid=self.grid)))
        except CascadeError as error:
            return FigureLayer(None, _in_words(error, "CT", *scan.files[:1], scan.path))

    def truth_layer(self, heights: Sequence[int]) -> FigureLayer:
        """Read slices of the true tumor; heights ascend."""
        path = self.request.truth
        if path is None or not path.is_file():
            return FigureLayer(None, "The ground truth is missing.")
        found = self._layer(path, heights, what="ground truth")
        if found.planes is None:
            return found
        try:
            tumor = self.request.truth_tumor or TumorLabel.of(path)
        except CascadeError as error:
            return FigureLayer(None, _in_words(error, "ground truth", path, path.parent))
        return FigureLayer(tumor.mask(found.planes))

    def _layer(self, path: Path, heights: Sequence[int], *, what: str) -> FigureLayer:
        try:
            self.grid.require_same(read_grid(path), what=f"the {what}")
            return FigureLayer(self.turn.apply(read_planes(path, self.turn.order[0], self._places(heights))))
        except CascadeError as error:
            return FigureLayer(None, _in_words(error, what, path, path.parent))

    def _places(self, heights: Sequence[int]) -> list[int]:
        """Return where slices lie along the array's axis, ascending."""
        if not self.turn.flipped[0]:
            return list(heights)
        return [self.shape[0] - 1 - height for height in reversed(heights)]


def _grid_of_files(request: FigureRequest) -> Grid:
    """Return the grid of the first of a case's images that can be read."""
    maps = [request.folder / f"{request.case}{suffix}{ENDING}" for suffix in _MAPS]
    for path in (*maps, *([request.truth] if request.truth else [])):
        if path.is_file():
            try:
                return read_grid(path)
            except CascadeError:
                continue
    if request.scan is not None:
        return read_scan_grid(request.scan)
    raise InputImageError(
        f"there is nothing of {request.case} to draw: neither a record with its grid nor a map; predict it first"
    )


def _in_words(error: CascadeError, what: str, *paths: Path) -> str:
    said = without_paths(one_line(error), paths)
    return f"The {what} cannot be shown: {said}"
