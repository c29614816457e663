"""The files behind a figure: chosen slices of a volume, drawn radiologically, without the rest of it in memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import IOBase
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from isal import igzip, isal_zlib
from nibabel.filebasedimages import ImageFileError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from nnunet_cascade.case_folders.case_record import CaseRecord
from nnunet_cascade.case_folders.prediction_files import TumorLabel
from nnunet_cascade.errors import CascadeError, InputImageError, one_line
from nnunet_cascade.geometry import AxisTurn, Box, Grid, Index, Spacing, as_index
from nnunet_cascade.images import ENDING, grid_of, read_volume
from nnunet_cascade.report.figures.request import FigureRequest
from nnunet_cascade.report.reading.privacy import without_paths
from nnunet_cascade.scans.scans import Scan

_TOWARDS = ("RL", "AP", "IS")
_OBLIQUE_ABOVE = 0.25
_RADIOLOGICAL = "LPS"
"""How the axes (x, y, z) of an array run whose planes go from the feet to the head and are drawn from the top."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeLetters:
    """What of the patient lies towards each edge of a picture: R, L, A, P, I or S; two letters where it is oblique."""

    left: str
    right: str
    top: str
    bottom: str


def edge_letters(grid: Grid) -> EdgeLetters:
    """Return the letters of a radiological axial picture of a grid."""
    turn = AxisTurn.to_code(grid, _RADIOLOGICAL)
    right, bottom = (np.array(grid.axes[turn.order[axis]]) * (-1.0 if turn.flipped[axis] else 1.0) for axis in (2, 1))
    return EdgeLetters(left=_letters(-right), right=_letters(right), top=_letters(-bottom), bottom=_letters(bottom))


def _letters(direction: NDArray[np.float64]) -> str:
    """Name the way a direction (x, y, z) points, the larger part first, what is within 14° of an axis by one letter."""
    ordered = sorted(range(3), key=lambda world: -abs(float(direction[world])))
    shown = [world for place, world in enumerate(ordered) if place == 0 or abs(direction[world]) > _OBLIQUE_ABOVE]
    return "".join(_TOWARDS[world][int(direction[world] > 0)] for world in shown)


_NIFTI = (".nii", ENDING)
_BYTES_AT_A_TIME = 1 << 24
_ISAL_ERROR = cast("type[Exception]", isal_zlib.error)
_NOT_WHOLE = (OSError, EOFError, ValueError, zlib.error, _ISAL_ERROR, ImageFileError, WrapStructError)


def read_grid(path: Path) -> Grid:
    """Read where the voxels of an image file lie, without its voxels.

    Raises:
        InputImageError: There is no such file, or it is no image of three dimensions and one channel.
    """
    if not path.is_file():
        raise InputImageError(f"{path.name} does not exist; expected an image file")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise InputImageError(f"{path.name} cannot be read; it may be truncated: copy it again") from error
    if reader.GetDimension() != 3 or reader.GetNumberOfComponents() != 1:
        raise InputImageError(f"{path.name} has size {reader.GetSize()}; expected one three-dimensional image")
    return grid_of(reader)


def read_planes(path: Path, axis: int, places: Sequence[int]) -> NDArray[Any]:
    """Read some planes of an image file.

    Of a compressed NIfTI nothing behind the last plane is unpacked, so that damage there is not found. Planes
    that lie across the file's own slices need all of it to be unpacked, but never held.

    Args:
        path: Of NIfTI, or of anything else that `read_volume` reads, which is then read whole.
        axis: Of the array (Z, Y, X), across which the planes lie.
        places: Indices along the axis, ascending, at least one.

    Returns:
        (Z, Y, X) with as many planes along the axis as `places`: in the type of the file, or
        float32 where it stores scaled values; finite.

    Raises:
        InputImageError: The file is missing or truncated, has other than three dimensions, or a value is not finite.
    """
    if not path.is_file():
        raise InputImageError(f"{path.name} does not exist; expected an image file")
    planes = _nifti_planes(path, axis, places) if path.name.endswith(_NIFTI) else None
    if planes is None:
        planes = read_volume(path).array.take(places, axis=axis)
    if planes.dtype.kind == "f" and not np.isfinite(planes).all():
        raise InputImageError(f"{path.name} has voxels that are NaN or infinite; expected finite values; repair it")
    return planes


def read_scan_planes(scan: Scan, axis: int, places: Sequence[int], *, grid: Grid) -> NDArray[Any]:
    """Read some planes of a CT in Hounsfield units, as `read_planes` does; of regular DICOM series only their files.

    Args:
        scan: The CT.
        axis: Of the array, across which the planes lie.
        places: Indices along the axis, ascending, at least one.
        grid: The CT must lie on it.

    Raises:
        InputImageError, DicomError: It cannot be read.
        GridMismatchError: It lies elsewhere.
    """
    if not scan.is_dicom:
        grid.require_same(read_grid(scan.path), what="the CT")
        return read_planes(scan.path, axis, places)
    from nnunet_cascade.dicom.ct.reading import read_slice  # noqa: PLC0415 - for DICOM alone

    files = scan.stacked()
    grid.require_same(files.stack.grid, what="the CT")
    if axis != 0 or files.stack.irregularities:
        return scan.read().array.take(places, axis=axis)
    return np.stack([read_slice(files.headers[place]) for place in places])


def _nifti_planes(path: Path, axis: int, places: Sequence[int]) -> NDArray[Any] | None:
    """Read planes of a NIfTI file; None where its voxels are no plain numbers of three dimensions."""
    try:
        # python-isal takes a third of the time of Python's own gzip
        with igzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb") as file:
            stored = cast(Any, nib.Nifti1Image.from_stream(cast(IOBase, file))).dataobj
            if stored.dtype.kind not in "iuf" or len(stored.shape) != 3:
                return None
            planes = _consecutive(stored, places) if axis == 0 else _across(stored, axis, places)
    except _NOT_WHOLE as error:
        reason = one_line(error).replace(str(path), path.name)
        raise InputImageError(f"{path.name} cannot be read ({reason}); it may be truncated: copy it again") from error
    if (stored.slope, stored.inter) != (1.0, 0.0):
        return planes.astype(np.float32)
    return planes.astype(planes.dtype.newbyteorder("="), copy=False)


def _consecutive(stored: Any, places: Sequence[int]) -> NDArray[Any]:
    """Read planes that lie one behind the other in the file, runs of neighbours at once."""
    runs = np.split(places, np.flatnonzero(np.diff(places) != 1) + 1)
    return np.concatenate([np.asarray(stored[..., run[0] : run[-1] + 1]).T for run in runs])


def _across(stored: Any, axis: int, places: Sequence[int]) -> NDArray[Any]:
    """Read planes across the file's slices, some of its slices at a time."""
    columns, rows, slices = stored.shape
    at_a_time = max(1, _BYTES_AT_A_TIME // (columns * rows * stored.dtype.itemsize))
    slabs = (np.asarray(stored[..., first : first + at_a_time]).T for first in range(0, slices, at_a_time))
    return np.concatenate([slab.take(places, axis=axis) for slab in slabs])


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
        record: What is known of it; empty without a record.
        grid: Of all its maps.
        turn: From the array to planes as they are drawn.
    """

    request: FigureRequest
    record: CaseRecord
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
        record = request.record or CaseRecord()
        grid = record.grid or _grid_of_files(request)
        return cls(request=request, record=record, grid=grid, turn=AxisTurn.to_code(grid, _RADIOLOGICAL))

    @property
    def shape(self) -> Index:
        """Slices, rows and columns."""
        return as_index(self.grid.shape[axis] for axis in self.turn.order)

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
        with suppress(CascadeError):
            return read_grid(path)
    scan = request.scan
    if scan is not None:
        return scan.stacked().stack.grid if scan.is_dicom else read_grid(scan.path)
    raise InputImageError(
        f"there is nothing of {request.case} to draw: neither a record with its grid nor a map; predict it first"
    )


def _in_words(error: CascadeError, what: str, *paths: Path) -> str:
    said = without_paths(one_line(error), paths)
    return f"The {what} cannot be shown: {said}"
