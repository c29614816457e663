"""Masks and contours as an RTSTRUCT."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ImplicitVRLittleEndian, RTStructureSetStorage

from nnunet_cascade.dicom.ct.geometry import Heights
from nnunet_cascade.dicom.headers import Header
from nnunet_cascade.dicom.rtstruct.reading import Contour
from nnunet_cascade.dicom.rtstruct.tracing import trace
from nnunet_cascade.dicom.writing import (
    LONGEST_LABEL,
    Color,
    Series,
    decimal_string,
    new_dataset,
    require_color,
    require_text,
    save,
    uid_from,
)
from nnunet_cascade.errors import DicomError, GridMismatchError
from nnunet_cascade.geometry import Grid, Mask

InterpretedType = Literal["", "GTV", "CTV", "PTV", "ORGAN", "AVOIDANCE", "EXTERNAL"]
"""What a region is in radiotherapy; empty if nobody says."""
Algorithm = Literal["", "MANUAL", "SEMIAUTOMATIC", "AUTOMATIC"]
"""Who drew a region; empty if nobody says."""

_STUDY_CLASS_UID = "1.2.840.10008.3.1.2.3.1"
_CONTOUR_DATA = 0x30060050
_PARALLEL, _AT_A_SLICE = 1e-3, 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class RoiToWrite:
    """A region of interest. Without mask and contours it has a name and nothing else.

    Attributes:
        name: At most 64 characters.
        mask: (Z, Y, X) on the grid; its outlines come first.
        contours_mm: (N, 3) each, world positions (x, y, z), written as they are.
        color: Red, green and blue, 0 … 255.
        interpreted_type: What it is.
        algorithm: Who drew it.

    Raises:
        DicomError: The name is empty or too long, a color is out of range, or a
            contour has no three vertices.
    """

    name: str
    mask: Mask | None = None
    contours_mm: tuple[Contour, ...] = ()
    color: Color = (255, 0, 0)
    interpreted_type: InterpretedType = ""
    algorithm: Algorithm = "MANUAL"

    def __post_init__(self) -> None:
        require_text(self.name, what="the name of an ROI")
        if not self.name.strip():
            raise DicomError("found an ROI without a name; expected one")
        require_color(self.color, what=repr(self.name))
        for contour in self.contours_mm:
            if contour.ndim != 2 or contour.shape[1] != 3 or len(contour) < 3:
                raise DicomError(
                    f"a contour of {self.name!r} has shape {contour.shape}; expected at least three vertices (N, 3)"
                )


def write_structure_set(
    rois: Sequence[RoiToWrite], grid: Grid, source: Sequence[Header], path: Path, *, series: Series
) -> None:
    """Write regions of interest as an RTSTRUCT that belongs to a CT series.

    Masks become one closed contour for each outline, to which holes are joined by keyholes: what
    fills contours one by one or by even–odd parity gets each mask back bit for bit. A contour refers to the slice
    nearest along the normal, at most half a step away; to none if there is none, as on
    planes that were interpolated. The file is in implicit VR: explicit VR cannot hold a
    contour of more than some 1,300 vertices.

    Args:
        rois: In the order of their numbers, from 1.
        grid: Of the masks; its planes are parallel to the slices.
        source: The slices of the CT, in any order.
        path: To write; missing folders are made.
        series: Of the RTSTRUCT; its description is also the structure set's name.

    Raises:
        DicomError: There is no region, the slices are of several series, do not say where
            they lie or lie elsewhere than the grid, or the file cannot be written.
        GridMismatchError: A mask has another shape than the grid.
    """
    if not rois:
        raise DicomError("found no region of interest to write; expected at least one")
    slices = _Slices.of(source, grid)
    sop_uid = structure_set_uid(series.uid)
    dataset = new_dataset(
        series,
        sop_class_uid=RTStructureSetStorage,
        sop_uid=sop_uid,
        modality="RTSTRUCT",
        transfer_syntax=ImplicitVRLittleEndian,
    )
    _add_structure_set(dataset, series)
    dataset.ReferencedFrameOfReferenceSequence = [_frame_reference(series, source)]
    numbered = list(enumerate(rois, start=1))
    frame_uid = series.identity.frame_of_reference_uid
    dataset.StructureSetROISequence = [_roi(number, roi, frame_uid) for number, roi in numbered]
    dataset.ROIContourSequence = [_roi_contour(number, roi, slices) for number, roi in numbered]
    dataset.RTROIObservationsSequence = [_observation(number, roi) for number, roi in numbered]
    save(dataset, path)


def structure_set_uid(series_uid: str) -> str:
    """Return the SOP Instance UID of the RTSTRUCT of a series."""
    return uid_from(series_uid, "structure set")


def mask_contours(mask: Mask, grid: Grid) -> Iterator[Contour]:
    """Draw the outlines of a mask (Z, Y, X) on a grid of its shape, plane by plane, in mm."""
    within = np.array(grid.axes[1:]) * np.array(grid.spacing_mm[1:])[:, None]
    for plane in np.flatnonzero(mask.any(axis=(1, 2))).tolist():
        for polygon in trace(mask[plane]):
            yield np.array(grid.world_mm((plane, 0, 0))) + polygon @ within


@dataclass(frozen=True, slots=True)
class _Slices:
    """The slices that contours refer to, by their heights above the grid's first plane."""

    grid: Grid
    heights_mm: Heights
    headers: tuple[Header, ...]

    @classmethod
    def of(cls, source: Sequence[Header], grid: Grid) -> _Slices:
        """Find the heights of slices above a grid; they must be of one series, and one must lie on the grid."""
        series = {header.series_uid for header in source}
        if len(series) != 1:
            raise DicomError(f"found slices of {len(series)} series; expected those of one CT series")
        slices = cls(grid, np.array([_height(header, grid) for header in source]), tuple(source))
        planes = np.arange(grid.shape[0]) * grid.spacing_mm[0]
        if not any(slices.at(height) for height in planes):
            raise DicomError(f"none of {len(source)} slices lies on the grid's planes; expected the slices of the grid")
        return slices

    def at(self, height_mm: float) -> Header | None:
        nearest = int(np.argmin(np.abs(self.heights_mm - height_mm)))
        away = abs(float(self.heights_mm[nearest]) - height_mm)
        return self.headers[nearest] if away <= _AT_A_SLICE * self.grid.spacing_mm[0] else None

    def of_contour(self, contour: Contour) -> Header | None:
        above = (contour - np.array(self.grid.origin_mm)) @ np.array(self.grid.axes[0])
        return self.at(float(above.mean()))


def _height(header: Header, grid: Grid) -> float:
    if header.plane is None:
        raise DicomError(f"{header.path.name} does not say where it lies; expected position, orientation and spacing")
    if abs(abs(float(np.dot(header.plane.normal, grid.axes[0]))) - 1) > _PARALLEL:
        raise DicomError(f"{header.path.name} is not parallel to the grid's planes; expected the slices of the grid")
    return float((np.array(header.plane.position_mm) - np.array(grid.origin_mm)) @ np.array(grid.axes[0]))


def _outlines(roi: RoiToWrite, grid: Grid) -> Iterator[Contour]:
    if roi.mask is not None:
        if roi.mask.shape != grid.shape:
            raise GridMismatchError(
                f"the mask of {roi.name!r} has shape {roi.mask.shape}; expected the grid's, {grid.shape}"
            )
        yield from mask_contours(roi.mask, grid)
    yield from roi.contours_mm


def _add_structure_set(dataset: Dataset, series: Series) -> None:
    dataset.InstanceNumber = 1
    dataset.OperatorsName = ""
    dataset.StructureSetLabel = series.description[:LONGEST_LABEL].strip() or "RTSTRUCT"
    dataset.StructureSetName = series.description
    dataset.StructureSetDate, dataset.StructureSetTime = series.identity.date, series.identity.time
    dataset.ApprovalStatus = "UNAPPROVED"


def _frame_reference(series: Series, source: Sequence[Header]) -> Dataset:
    references = [_image_reference(header) for header in source]
    images = _item(SeriesInstanceUID=source[0].series_uid, ContourImageSequence=references)
    study = _item(ReferencedSOPClassUID=_STUDY_CLASS_UID, ReferencedSOPInstanceUID=source[0].study_uid)
    study.RTReferencedSeriesSequence = [images]
    return _item(FrameOfReferenceUID=series.identity.frame_of_reference_uid, RTReferencedStudySequence=[study])


def _image_reference(header: Header) -> Dataset:
    return _item(ReferencedSOPClassUID=CTImageStorage, ReferencedSOPInstanceUID=header.sop_uid)


def _item(**values: Any) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def _roi(number: int, roi: RoiToWrite, frame: str) -> Dataset:
    return _item(
        ROINumber=number, ReferencedFrameOfReferenceUID=frame, ROIName=roi.name, ROIGenerationAlgorithm=roi.algorithm
    )


def _roi_contour(number: int, roi: RoiToWrite, slices: _Slices) -> Dataset:
    item = _item(ReferencedROINumber=number, ROIDisplayColor=list(roi.color))
    contours = [_contour(outline, slices.of_contour(outline)) for outline in _outlines(roi, slices.grid)]
    if contours:
        item.ContourSequence = contours
    return item


def _contour(outline: Contour, header: Header | None) -> Dataset:
    item = Dataset()
    if header is not None:
        item.ContourImageSequence = [_image_reference(header)]
    item.ContourGeometricType = "CLOSED_PLANAR"
    item.NumberOfContourPoints = len(outline)
    text = "\\".join(map(decimal_string, outline.ravel().tolist()))
    # In one piece: pydicom would make an object of each of a million numbers.
    item.add(DataElement(_CONTOUR_DATA, "DS", text, already_converted=True))
    return item


def _observation(number: int, roi: RoiToWrite) -> Dataset:
    what = roi.interpreted_type
    return _item(ObservationNumber=number, ReferencedROINumber=number, RTROIInterpretedType=what, ROIInterpreter="")
