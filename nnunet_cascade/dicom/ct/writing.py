"""A volume as a CT series: one file for each plane."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, RLELossless

from nnunet_cascade.dicom.writing import Series, decimal_string, new_dataset, save, uid_from
from nnunet_cascade.errors import DicomError
from nnunet_cascade.geometry import Grid

Rescale = tuple[float, float]
"""Slope and intercept: Hounsfield units are stored pixels times the slope plus the intercept."""

_SAME_HU = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class CtStorage:
    """How the files of a CT series keep their pixels.

    Attributes:
        signed: Pixels are signed numbers; else unsigned ones, as most scanners write them.
        rescale: One for each plane, or one for all. None: slope 1 and intercept 0 for
            signed pixels, −1024 for unsigned ones.
        compressed: By run lengths, without loss.
        image_type: Its third value tells slices (AXIAL) from overviews (LOCALIZER).

    Raises:
        DicomError: A slope is 0.
    """

    signed: bool = False
    rescale: tuple[Rescale, ...] = ()
    compressed: bool = False
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "AXIAL")

    def __post_init__(self) -> None:
        if any(slope == 0 for slope, _ in self.rescale):
            raise DicomError("found a rescale slope of 0; expected any other number")

    def rescale_of(self, plane: int) -> Rescale:
        """Return slope and intercept of a plane."""
        if not self.rescale:
            return 1.0, 0.0 if self.signed else -1024.0
        return self.rescale[plane if len(self.rescale) > 1 else 0]


USUAL_STORAGE = CtStorage()
"""As most scanners write."""


def write_ct_series(
    voxels: NDArray[Any], grid: Grid, folder: Path, *, series: Series, storage: CtStorage = USUAL_STORAGE
) -> tuple[Path, ...]:
    """Write a volume as a CT series.

    Each plane says itself where it is, so that grids in any direction come out right;
    the planes of a left-handed one stand in descending order along their normal.

    Args:
        voxels: (Z, Y, X), Hounsfield units. Left unchanged.
        grid: Of the same shape.
        folder: Made where missing; files of the same names are replaced.
        series: What the files say of patient, study and series.
        storage: How pixels are kept.

    Returns:
        The files, in the order of the planes: `1-001.dcm`, `1-002.dcm` and so on.

    Raises:
        DicomError: Shapes differ, the storage cannot hold the voxels, or a file cannot be written.
    """
    _require_fitting(voxels, grid, storage)
    paths: list[Path] = []
    for plane, values in enumerate(voxels):
        pixels = _stored(values, storage, plane)
        dataset = new_dataset(
            series, sop_class_uid=CTImageStorage, sop_uid=uid_from(series.uid, str(plane)), modality="CT"
        )
        _add_description(dataset, series, storage, plane)
        _add_place(dataset, grid, plane)
        _add_pixels(dataset, pixels, storage, plane)
        paths.append(folder / f"1-{plane + 1:03d}.dcm")
        save(dataset, paths[-1])
    return tuple(paths)


def _require_fitting(voxels: NDArray[Any], grid: Grid, storage: CtStorage) -> None:
    if voxels.shape != grid.shape:
        raise DicomError(f"found voxels of shape {voxels.shape} for a grid of {grid.shape}; expected the same")
    planes = grid.shape[0]
    if len(storage.rescale) not in (0, 1, planes):
        raise DicomError(
            f"found {len(storage.rescale)} rescale pairs for {planes} planes; expected one for each, or none"
        )


def _stored(values: NDArray[Any], storage: CtStorage, plane: int) -> NDArray[Any]:
    """Return the pixels that read back as Hounsfield units (Y, X)."""
    kind = np.int16 if storage.signed else np.uint16
    slope, intercept = storage.rescale_of(plane)
    exact = (values.astype(np.float64) - intercept) / slope
    whole = np.rint(exact)
    fits = np.iinfo(kind).min <= whole.min() and whole.max() <= np.iinfo(kind).max
    if not fits or float(np.abs((exact - whole) * slope).max()) > _SAME_HU:
        raise DicomError(
            f"found {values.min():g} to {values.max():g} HU on plane {plane}; expected what {kind.__name__} pixels of "
            f"slope {slope:g} and intercept {intercept:g} hold without loss: choose others"
        )
    return whole.astype(kind)


def _add_description(dataset: Dataset, series: Series, storage: CtStorage, plane: int) -> None:
    dataset.ImageType = list(storage.image_type)
    dataset.AcquisitionDate = dataset.ContentDate = series.identity.date
    dataset.AcquisitionTime = dataset.ContentTime = series.identity.time
    dataset.AcquisitionNumber = 1
    dataset.InstanceNumber = plane + 1
    # Type 2: there, yet without a value where nobody knows one.
    dataset.KVP = None
    dataset.PatientPosition = ""


def _add_place(dataset: Dataset, grid: Grid, plane: int) -> None:
    position = grid.world_mm((plane, 0, 0))
    down, right = grid.axes[1:]
    normal = np.cross(right, down)
    dataset.ImagePositionPatient = [decimal_string(value) for value in position]
    dataset.ImageOrientationPatient = [decimal_string(value) for value in (*right, *down)]
    dataset.PixelSpacing = [decimal_string(size) for size in grid.spacing_mm[1:]]
    dataset.SliceThickness = decimal_string(grid.spacing_mm[0])
    dataset.SliceLocation = decimal_string(float(np.dot(position, normal)))


def _add_pixels(dataset: Dataset, pixels: NDArray[Any], storage: CtStorage, plane: int) -> None:
    slope, intercept = storage.rescale_of(plane)
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = int(storage.signed)
    dataset.WindowCenter, dataset.WindowWidth = "40", "400"
    dataset.RescaleSlope, dataset.RescaleIntercept = decimal_string(slope), decimal_string(intercept)
    dataset.RescaleType = "HU"
    dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    if storage.compressed:
        dataset.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
