"""What users hand in, whatever its type: paths, images and masks, turned into the package's own values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import SimpleITK as sitk
from numpy.typing import NDArray

from nnunet_cascade.errors import GridMismatchError, InputImageError, require_type
from nnunet_cascade.geometry import Grid, Mask, as_mask
from nnunet_cascade.images import Volume, from_sitk, read_labels
from nnunet_cascade.scans.search import search_scans

if TYPE_CHECKING:
    from nnunet_cascade.scans.scans import Scan

CtSource: TypeAlias = "str | Path | Volume | sitk.Image"
"""An image file, a folder with one CT, a volume or a SimpleITK image."""
MaskSource: TypeAlias = "str | Path | NDArray[Any]"
"""A file of labels, or an array (Z, Y, X) of booleans or labels; all but 0 is inside."""
_EXPECTED_CT = "a path (str or Path), a Volume or a SimpleITK image"


def find_scan(source: str | Path, series: str | None) -> Scan:
    """Find the one CT of a file or a folder.

    Args:
        source: An image file, or a folder of DICOM files in any layout, or of image files.
        series: SeriesInstanceUID of the CT, needed where a folder holds several.

    Raises:
        InputImageError: There is none, or there are several; the message lists them.
        DicomError: There is no CT series.
    """
    if not Path(source).exists():
        raise InputImageError(f"{source} does not exist; expected an image file, or a folder with the slices of one CT")
    found = search_scans(source).scans
    chosen = [scan for scan in found.values() if series in {None, scan.series_uid}]
    if len(chosen) == 1:
        return chosen[0]
    listed = "; ".join(f"{scan.series_uid or scan.path.name} ({case})" for case, scan in found.items())
    way_out = "give series=UID" if all(scan.is_dicom for scan in found.values()) else "give one of the files"
    asked = "" if series is None else f" and no series {series}"
    raise InputImageError(f"{source} holds {len(found)} CT(s){asked}; expected one: {way_out} of: {listed}")


def as_volume(source: object) -> Volume:
    """Return an image that is in memory as a volume.

    Raises:
        WrongTypeError: It is no Volume and no SimpleITK image.
        GridMismatchError: The array is not of the grid's shape.
        InputImageError: The image has other than three dimensions, or several channels.
    """
    require_type(source, (Volume, sitk.Image), _EXPECTED_CT, what="source")
    if isinstance(source, sitk.Image):
        return from_sitk(source)
    volume = cast(Volume, source)
    if volume.array.shape != volume.grid.shape:
        raise GridMismatchError(
            f"the array has the shape {volume.array.shape}, its grid {volume.grid.shape}; give the grid of the array"
        )
    return volume if volume.array.dtype in ("int16", "float32") else Volume(volume.array.astype("float32"), volume.grid)


def labels_on(source: object, grid: Grid, *, what: str) -> NDArray[Any]:
    """Return labels or a mask (Z, Y, X) that lie on a grid, as they are.

    Raises:
        WrongTypeError, GridMismatchError, InputImageError: As `mask_on`.
    """
    if isinstance(source, (str, Path)):
        return read_labels(Path(source), grid, what=what)
    shape = as_mask(source, what=what).shape
    if shape != grid.shape:
        raise GridMismatchError(f"{what} has the shape {shape}, the image {grid.shape}; resample it to the image")
    return cast("NDArray[Any]", source)


def mask_on(source: object, grid: Grid, *, what: str) -> Mask:
    """Return a mask (Z, Y, X) that lies on a grid.

    Raises:
        WrongTypeError: It is neither a path nor an array of booleans or labels.
        GridMismatchError: It lies on another grid; the message names `what`.
        InputImageError: A file cannot be read, or holds no labels.
    """
    return as_mask(labels_on(source, grid, what=what), what=what)
