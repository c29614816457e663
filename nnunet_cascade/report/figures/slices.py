"""Chosen slices of a volume, without the rest of it in memory and, where files allow it, without reading it."""

from __future__ import annotations

import zlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
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

from nnunet_cascade.errors import InputImageError, one_line
from nnunet_cascade.geometry import Grid
from nnunet_cascade.images import ENDING, grid_of, read_volume
from nnunet_cascade.scans.scans import Scan

_NIFTI = (".nii", ENDING)
_BYTES_AT_A_TIME = 1 << 24
_NOT_WHOLE: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    ValueError,
    zlib.error,
    cast("type[Exception]", isal_zlib.error),
    ImageFileError,
    WrapStructError,
)


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


def read_scan_grid(scan: Scan) -> Grid:
    """Read where the voxels of a CT lie.

    Raises:
        InputImageError, DicomError: It cannot be read.
    """
    return scan.stacked().stack.grid if scan.is_dicom else read_grid(scan.path)


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
        with _opened(path) as file:
            stored = cast(Any, nib.Nifti1Image.from_stream(file)).dataobj
            if stored.dtype.kind not in "iuf" or len(stored.shape) != 3:
                return None
            planes = _consecutive(stored, places) if axis == 0 else _across(stored, axis, places)
    except _NOT_WHOLE as error:
        reason = one_line(error).replace(str(path), path.name)
        raise InputImageError(f"{path.name} cannot be read ({reason}); it may be truncated: copy it again") from error
    if (stored.slope, stored.inter) != (1.0, 0.0):
        return planes.astype(np.float32)
    return planes.astype(planes.dtype.newbyteorder("="), copy=False)


@contextmanager
def _opened(path: Path) -> Generator[IOBase, None, None]:
    """Open a file to read what it unpacks to; python-isal takes a third of the time of Python's own gzip."""
    with igzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb") as file:
        yield cast(IOBase, file)


def _consecutive(stored: Any, places: Sequence[int]) -> NDArray[Any]:
    """Read planes that lie one behind the other in the file, runs of neighbours at once."""
    return np.concatenate([np.asarray(stored[..., first:stop]).T for first, stop in _runs(places)])


def _across(stored: Any, axis: int, places: Sequence[int]) -> NDArray[Any]:
    """Read planes across the file's slices, some of its slices at a time."""
    columns, rows, slices = stored.shape
    at_a_time = max(1, _BYTES_AT_A_TIME // (columns * rows * stored.dtype.itemsize))
    slabs = (np.asarray(stored[..., first : first + at_a_time]).T for first in range(0, slices, at_a_time))
    return np.concatenate([slab.take(places, axis=axis) for slab in slabs])


def _runs(places: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Return first and last but one of neighbours among ascending places."""
    first = before = places[0]
    for place in places[1:]:
        if place != before + 1:
            yield first, before + 1
            first = place
        before = place
    yield first, before + 1
