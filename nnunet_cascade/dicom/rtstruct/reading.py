"""The structure set of a radiotherapy plan: names, references and contours."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from nnunet_cascade.dicom.headers import read_header, reading
from nnunet_cascade.errors import DicomError

Contour = NDArray[np.float64]
"""(N, 3), world positions (x, y, z) in mm of a closed outline's vertices, in order."""

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_CONTOUR_DATA = Tag(0x3006, 0x0050)


@dataclass(frozen=True, slots=True)
class Contours:
    """The outlines of one region of interest.

    Attributes:
        closed: In the order of the file.
        ignored: What else was there: geometric type, or "degenerate" for fewer than
            three vertices, and how often.
    """

    closed: tuple[Contour, ...]
    ignored: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True, kw_only=True)
class StructureSet:
    """An RTSTRUCT.

    Attributes:
        sop_uid: SOP Instance UID.
        frame_of_reference_uids: Of all references and of the file.
        referenced_series_uids: Series that its contours were drawn on.
        names: ROI names by ROI number, in the order of the file; a name may stand twice.
        items: Contour sequences by ROI number, undecoded.
    """

    sop_uid: str
    frame_of_reference_uids: frozenset[str]
    referenced_series_uids: frozenset[str]
    names: Mapping[int, str]
    items: Mapping[int, Iterable[Dataset]] = field(repr=False)

    def contours(self, number: int) -> Contours:
        """Decode the outlines of one ROI.

        Raises:
            DicomError: Coordinates are no numbers, or not three for each vertex.
        """
        with reading(f"ROI {self.names[number]!r}", cure="export the RTSTRUCT again"):
            return _contours(self.items.get(number, ()), self.names[number])


def read_structure_set(path: Path) -> StructureSet:
    """Read an RTSTRUCT; coordinates are decoded when asked for.

    Raises:
        DicomError: It cannot be read, is truncated or contradicts itself.
    """
    header = read_header(path)
    # pydicom reads on to the end of a truncated file without a word.
    if header is None:
        raise DicomError("the RTSTRUCT is no DICOM file (no mark at byte 128); copy it again")
    if not header.is_whole:
        raise DicomError("the RTSTRUCT is truncated: its last element goes beyond the end of the file; copy it again")
    with reading("the RTSTRUCT", cure="copy it again"):
        return _structure_set(dcmread(path))


def _structure_set(dataset: Dataset) -> StructureSet:
    rois = list(dataset.get("StructureSetROISequence") or [])
    references = list(dataset.get("ReferencedFrameOfReferenceSequence") or [])
    frames = {str(item.get("FrameOfReferenceUID") or "") for item in references}
    frames |= {str(roi.get("ReferencedFrameOfReferenceUID") or "") for roi in rois}
    return StructureSet(
        sop_uid=str(dataset.get("SOPInstanceUID") or ""),
        frame_of_reference_uids=frozenset(frames - {""}),
        referenced_series_uids=frozenset(_referenced_series(references)),
        names=_names(rois),
        items=_items(dataset),
    )


def _names(rois: Sequence[Dataset]) -> dict[int, str]:
    names = {int(roi.ROINumber): str(roi.get("ROIName") or "").strip() for roi in rois}
    if len(names) < len(rois):
        raise DicomError(f"the RTSTRUCT has {len(rois)} ROIs with {len(names)} numbers; expected one each")
    return names


def _items(dataset: Dataset) -> dict[int, list[Dataset]]:
    if "ROIContourSequence" not in dataset and dataset.get("StructureSetROISequence"):
        raise DicomError("the RTSTRUCT has no ROI Contour Sequence; expected one: it may be truncated, copy it again")
    items: dict[int, list[Dataset]] = defaultdict(list)
    for item in dataset.get("ROIContourSequence") or ():
        items[int(item.ReferencedROINumber)].extend(item.get("ContourSequence") or ())
    return dict(items)


def _referenced_series(references: Iterable[Dataset]) -> set[str]:
    return {
        str(series.SeriesInstanceUID)
        for frame in references
        for study in frame.get("RTReferencedStudySequence") or ()
        for series in study.get("RTReferencedSeriesSequence") or ()
        if series.get("SeriesInstanceUID")
    }


def _contours(items: Iterable[Dataset], name: str) -> Contours:
    closed: list[Contour] = []
    ignored: Counter[str] = Counter()
    for item in items:
        kind = str(item.get("ContourGeometricType") or "CLOSED_PLANAR").strip()
        points = _points(item, name) if kind in _CLOSED else None
        if points is None:
            ignored[kind] += 1
        elif len(points) < 3:
            ignored["degenerate"] += 1
        else:
            closed.append(points)
    return Contours(tuple(closed), dict(ignored))


def _points(item: Dataset, name: str) -> Contour:
    """Decode coordinates from the bytes of the file: pydicom would make an object of each of a million."""
    if _CONTOUR_DATA not in item:
        return np.empty((0, 3))
    value: Any = cast(Any, item.get_item(_CONTOUR_DATA)).value
    try:
        if isinstance(value, bytes):
            numbers = np.array(value.rstrip(b"\0 ").split(b"\\") if value.strip(b"\0 ") else [], dtype=np.float64)
        else:
            numbers = np.array([] if value is None else list(value), dtype=np.float64)
    except ValueError as error:
        raise DicomError(f"ROI {name!r} has coordinates that are no numbers ({error}); export it again") from error
    if numbers.size % 3:
        raise DicomError(
            f"ROI {name!r} has a contour of {numbers.size} numbers; expected three for each vertex: export it again"
        )
    if not np.isfinite(numbers).all():
        raise DicomError(f"ROI {name!r} has coordinates that are NaN or infinite; expected numbers: export it again")
    return numbers.reshape(-1, 3)
