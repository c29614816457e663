"""Images on disk: read with every check a run overnight needs, written beside and renamed."""

from __future__ import annotations

import errno
import gzip
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.nifti1 import Nifti1Image
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from nnunet_cascade.errors import InputImageError, one_line
from nnunet_cascade.files import atomic_file
from nnunet_cascade.geometry import Grid, Image, Labels, Mask, Stored

if TYPE_CHECKING:
    import SimpleITK as sitk

ENDING = ".nii.gz"
"""Of every image this package writes."""
AIR_HU = -1024.0
"""What lies where a CT ends."""
_AIR_BELOW_HU = -300.0
_SOFT_TISSUE_ABOVE_HU = -100.0
_PLAUSIBLE_HU = (-4096.0, 32767.0)
_NIFTI_HEADER_BYTES = 352
_LABEL_TOLERANCE = 0.01
_LABEL_TYPES = (np.int16, np.int32, np.int64)
_READ_BYTES = 1 << 20
_DICOM_MARK_AT, _DICOM_MARK = 128, b"DICM"
_GZIP_SIZE_BYTES = 4  # at the end of the file: how many bytes it holds uncompressed


@dataclass(frozen=True, slots=True)
class Volume:
    """An image and the grid its voxels lie on.

    Attributes:
        array: (Z, Y, X), float32; or int16 as a CT's file holds it: whoever computes with it converts what it takes.
        grid: Of the same shape.

    Example:
        >>> array = np.full((4, 8, 8), -1000, np.int16)
        >>> ct = nnc.Volume(array, nnc.Grid(shape=(4, 8, 8), spacing_mm=(3, 1, 1)))
    """

    array: Stored
    grid: Grid


@dataclass(frozen=True, slots=True)
class RealVolume(Volume):
    """A volume in float32, whatever its file holds."""

    array: Image


def require_image_file(path: Path) -> None:
    """Raise an InputImageError where a path is not there, is a folder or a DICOM file, which is no whole image."""
    if path.is_dir():
        raise InputImageError(f"{path} is a folder; expected an image file")
    if not path.is_file():
        raise InputImageError(f"{path} does not exist; expected an image file")
    if is_dicom(path):
        raise InputImageError(f"{path} is a DICOM file; expected an image file such as {ENDING}")


def is_dicom(path: Path) -> bool:
    """Tell whether a file has the mark of DICOM; False where it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(_DICOM_MARK_AT)
            return file.read(len(_DICOM_MARK)) == _DICOM_MARK
    except OSError:
        return False  # whoever reads it says what is wrong


def read_volume(path: str | Path) -> RealVolume:
    """Read a three-dimensional image.

    Raises:
        InputImageError: The file is missing, truncated or DICOM, has other than three
            dimensions or several channels, or holds NaN or infinite values.
    """
    path = Path(path)
    stored, grid = _read(path)
    return RealVolume(_checked(stored, path), grid)


def read_ct(path: str | Path) -> Volume:
    """Read a CT in Hounsfield units, in 16 bits where its file has them.

    Raises:
        InputImageError: As `read_volume`, or the values cannot be Hounsfield
            units of a body: no air, no soft tissue, or out of range.
    """
    path = Path(path)
    stored, grid = _read(path)
    array = _checked(stored, path) if stored.dtype != np.int16 else stored
    require_ct(array, name=str(path))
    return Volume(array, grid)


def require_ct(array: Stored, *, name: str) -> None:
    """Raise an InputImageError unless the values look like a CT in Hounsfield units.

    A thorax has air (below −300 HU) and tissue (above −100 HU), each in at least
    one voxel in a thousand. MR, images scaled to 0…1 and masks have no air.
    """
    low, high = float(array.min()), float(array.max())
    found = f"{name}: values from {low:.0f} to {high:.0f}"
    if not _PLAUSIBLE_HU[0] <= low <= high <= _PLAUSIBLE_HU[1]:  # NaN is none of it
        raise InputImageError(f"{found} are out of the range of Hounsfield units; rescale the image to HU")
    air = np.count_nonzero(array < _AIR_BELOW_HU) / array.size
    tissue = np.count_nonzero(array > _SOFT_TISSUE_ABOVE_HU) / array.size
    if air < 1e-3 or tissue < 1e-3:
        raise InputImageError(
            f"{found}, {air:.1%} air and {tissue:.1%} tissue: not a CT of a thorax in Hounsfield units; give a CT"
        )


def read_labels(path: Path, grid: Grid, *, what: str) -> Labels:
    """Read a label map or mask that must lie on a given grid.

    Returns:
        (Z, Y, X), int16, or the smallest of int32 and int64 that holds its values.

    Raises:
        InputImageError: As `read_volume`, or a value is no whole number or too large for one.
        GridMismatchError: The file lies on another grid; the message names `what`.
    """
    stored, there = _read(path)
    grid.require_same(there, what=f"{what} {path}")
    if stored.dtype.kind != "f":
        return _as_labels(stored, path)
    _require_finite(stored, path)
    labels = np.rint(stored)
    between = np.abs(stored - labels) > _LABEL_TOLERANCE
    if between.any():
        found = float(stored[between][0])
        raise InputImageError(f"{what} {path} holds the value {found:g}; expected labels, whole numbers")
    return _as_labels(labels, path)


def _as_labels(numbers: NDArray[Any], path: Path) -> Labels:
    """Return whole numbers in the smallest type of `_LABEL_TYPES` that holds them all."""
    if np.can_cast(numbers.dtype, np.int16):
        return numbers.astype(np.int16)
    low, high = int(numbers.min(initial=0)), int(numbers.max(initial=0))
    for kind in _LABEL_TYPES:
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return numbers.astype(kind)
    raise InputImageError(f"{path} holds values from {low:g} to {high:g}; expected labels, whole numbers")


def grid_of(image: sitk.Image | sitk.ImageFileReader) -> Grid:
    """Return the grid of a three-dimensional SimpleITK image or file, its (x, y, z) turned to (Z, Y, X)."""
    nx, ny, nz = image.GetSize()
    sx, sy, sz = image.GetSpacing()
    direction = np.array(image.GetDirection()).reshape(3, 3)
    ox, oy, oz = image.GetOrigin()
    z, y, x = (tuple(float(v) + 0.0 for v in direction[:, column]) for column in (2, 1, 0))  # no −0.0
    return Grid(shape=(nz, ny, nx), spacing_mm=(sz, sy, sx), origin_mm=(ox, oy, oz), axes=cast(Any, (z, y, x)))


def from_sitk(image: sitk.Image) -> Volume:
    """Return a three-dimensional SimpleITK image with one channel as a volume, in 16 bits if it has them, else float32.

    Raises:
        InputImageError: It has other than three dimensions, or several channels.
    """
    import SimpleITK as sitk  # noqa: PLC0415 - 60 MB: processes that touch no image do without

    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        size, channels = image.GetSize(), image.GetNumberOfComponentsPerPixel()
        raise InputImageError(f"size {size} with {channels} channel(s); expected one three-dimensional image")
    array = sitk.GetArrayFromImage(image)
    return Volume(array if array.dtype == np.int16 else array.astype(np.float32), grid_of(image))


def to_sitk(array: NDArray[Any], grid: Grid) -> sitk.Image:
    """Return an array (Z, Y, X) as a SimpleITK image on a grid of the same shape.

    Booleans become 8-bit integers.
    """
    import SimpleITK as sitk  # noqa: PLC0415 - 60 MB: processes that touch no image do without

    image = sitk.GetImageFromArray(array.astype(np.uint8) if array.dtype == np.bool_ else array)
    image.SetSpacing(grid.spacing_mm[::-1])
    image.SetOrigin(grid.origin_mm)
    image.SetDirection(np.array(grid.axes)[::-1].T.ravel().tolist())
    return image


def write_image(array: NDArray[Any] | Mask, grid: Grid, path: Path) -> None:
    """Write an array (Z, Y, X) as an image; a file of that name appears whole or not at all.

    Raises:
        InputImageError: The file cannot be written.
    """
    import SimpleITK as sitk  # noqa: PLC0415 - 60 MB: processes that touch no image do without

    try:
        with atomic_file(path) as beside:
            sitk.WriteImage(to_sitk(array, grid), str(beside), useCompression=True)
            if path.name.endswith(ENDING):
                _require_whole_gzip(beside, array.nbytes)
    except (RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputImageError(f"{path} cannot be written ({reason}); check the folder and the space left") from error


def _require_whole_gzip(path: Path, size: int) -> None:
    """Raise an OSError where an image was cut short: on a full disk ITK says nothing."""
    with path.open("rb") as file:
        file.seek(-_GZIP_SIZE_BYTES, os.SEEK_END)
        written = int.from_bytes(file.read(), "little")
    if written != (_NIFTI_HEADER_BYTES + size) % (1 << 8 * _GZIP_SIZE_BYTES):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _checked(stored: NDArray[Any], path: Path) -> Image:
    """Return voxels as float32, all of them finite."""
    array = stored.astype(np.float32, copy=False)
    if stored.dtype.kind == "f":
        _require_finite(array, path)
    return array


def _require_finite(array: NDArray[Any], path: Path) -> None:
    if not np.isfinite(array).all():
        count = int(np.count_nonzero(~np.isfinite(array)))
        raise InputImageError(f"{path}: {count} voxels are NaN or infinite; expected finite values; repair the image")


def _read(path: Path) -> tuple[NDArray[Any], Grid]:
    """Read the voxels (Z, Y, X) as they are stored, or scaled where the file says so, and their grid.

    ITK says where a NIfTI's voxels lie and nibabel what they are, for ITK reads zeros for
    what is missing or NaN; where they are stored scaled, ITK applies its own rounding to them.
    """
    import SimpleITK as sitk  # noqa: PLC0415 - 60 MB: processes that touch no image do without

    require_image_file(path)
    stored = _nifti_voxels(path) if path.name.endswith((".nii", ENDING)) else None
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        if reader.GetDimension() != 3 or reader.GetNumberOfComponents() != 1:
            size, channels = reader.GetSize(), reader.GetNumberOfComponents()
            raise InputImageError(
                f"{path}: size {size} with {channels} channel(s); expected one three-dimensional image"
            )
        if stored is None:
            stored = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputImageError(f"{path} cannot be read ({reason}); {_way_out(reason)}") from error
    grid = grid_of(reader)
    return stored.reshape(grid.shape), grid


def _way_out(reason: str) -> str:
    if "orthonormal" in reason:
        return "its slices are sheared, as a tilted gantry leaves them: convert the DICOM by nnc-convert-dicom"
    return "it may be truncated: copy it again"


def _nifti_voxels(path: Path) -> NDArray[Any] | None:
    """Return the voxels (…, Z, Y, X) of a NIfTI file as stored; None if they are scaled or not plain numbers.

    Raises:
        InputImageError: The file does not hold all its voxels, its checksum is wrong, or a voxel is NaN.
    """
    try:
        with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
            proxy = cast(Any, Nifti1Image.from_stream(file).dataobj)
            stored: NDArray[Any] = proxy.get_unscaled()
            while file.read(_READ_BYTES):  # at its end the checksum is compared
                pass
    except (OSError, EOFError, ValueError, zlib.error, ImageFileError, WrapStructError) as error:
        reason = one_line(error)
        raise InputImageError(f"{path} cannot be read ({reason}); it may be truncated: copy it again") from error
    if stored.dtype.kind == "f":
        _require_finite(stored, path)
    plain = stored.dtype.kind in "iuf" and (proxy.slope, proxy.inter) == (1.0, 0.0)
    return stored.T if plain else None
