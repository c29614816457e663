"""What a DICOM SEG says of itself: its segments, their names and what it was drawn on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from nnunet_cascade.dicom.derived import MISSING_EXTRA
from nnunet_cascade.dicom.headers import reading
from nnunet_cascade.errors import DicomError

_SOP_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # SEG, Label Map SEG
_TYPES = ("BINARY", "LABELMAP", "FRACTIONAL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """What a SEG says of one of its segments.

    Attributes:
        number: Segment Number.
        names: In order of trust: description, label, modifiers of the property type; each once.
        algorithm: MANUAL, SEMIAUTOMATIC, AUTOMATIC, or empty if the file does not say.
    """

    number: int
    names: tuple[str, ...]
    algorithm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentationFile:
    """A DICOM SEG, its pixels not yet read.

    Attributes:
        sop_uid: SOP Instance UID.
        series_uid: Series Instance UID.
        series_description: As written in the file.
        frame_of_reference_uids: Its own; none where it does not say.
        referenced_series_uids: The series it was drawn on.
        segments: In the order of the file, without the background of a label map.
        path: Where it lies.
        header: All of it but the pixels.
    """

    sop_uid: str
    series_uid: str
    series_description: str
    frame_of_reference_uids: frozenset[str]
    referenced_series_uids: frozenset[str]
    segments: tuple[Segment, ...]
    path: Path = field(repr=False)
    header: Dataset = field(repr=False, compare=False)


def read_segmentation(path: Path) -> SegmentationFile:
    """Read a DICOM SEG; pixels are decoded when asked for.

    Raises:
        DicomError: It cannot be read or is not a SEG, or highdicom is not installed.
    """
    frame_decoder()
    with reading_seg():
        return _described(path, dcmread(path, stop_before_pixels=True))


def segmentation_type(header: Dataset) -> str:
    """Return BINARY, LABELMAP or FRACTIONAL."""
    return str(header.get("SegmentationType") or "BINARY")


def frame_groups(header: Dataset) -> Sequence[Dataset]:
    """Return the functional groups of each frame."""
    return header.get("PerFrameFunctionalGroupsSequence") or ()


def frame_decoder() -> Callable[..., NDArray[Any]]:
    """Return highdicom's decoder of frames.

    Raises:
        DicomError: highdicom, an extra, is not installed.
    """
    try:
        from highdicom.frame import decode_frame  # noqa: PLC0415
    except ImportError as error:
        raise DicomError(MISSING_EXTRA) from error
    return decode_frame


def reading_seg(*, cure: str = "copy or export it again") -> AbstractContextManager[None]:
    """Read leniently; whatever goes wrong becomes a DicomError, which names no file: paths may name a person."""
    return reading("the DICOM SEG", cure=cure)


def _described(path: Path, header: Dataset) -> SegmentationFile:
    if header.get("SOPClassUID") not in _SOP_CLASSES:
        found = str(header.get("Modality") or "no modality")
        raise DicomError(f"the file is no DICOM SEG (found {found}); give a file of modality SEG")
    if segmentation_type(header) not in _TYPES:
        raise DicomError(
            f"the DICOM SEG holds segments of type {segmentation_type(header)!r}; expected one of {', '.join(_TYPES)}"
        )
    frames, told = int(header.get("NumberOfFrames") or 1), len(frame_groups(header))
    if frames != told:
        raise DicomError(f"the DICOM SEG holds {frames} frames and says of {told} where they lie; export it again")
    return SegmentationFile(
        sop_uid=str(header.get("SOPInstanceUID") or ""),
        series_uid=str(header.get("SeriesInstanceUID") or ""),
        series_description=str(header.get("SeriesDescription") or "").strip(),
        frame_of_reference_uids=frozenset({str(header.get("FrameOfReferenceUID") or "")} - {""}),
        referenced_series_uids=frozenset(_referenced_series(header)),
        segments=tuple(_segments(header)),
        path=path,
        header=header,
    )


def _referenced_series(header: Dataset) -> Iterator[str]:
    studies = header.get("StudiesContainingOtherReferencedInstancesSequence") or ()
    for holder in (header, *studies):
        for series in holder.get("ReferencedSeriesSequence") or ():
            if series.get("SeriesInstanceUID"):
                yield str(series.SeriesInstanceUID)


def _segments(header: Dataset) -> Iterator[Segment]:
    background = (0, header.get("PixelPaddingValue")) if segmentation_type(header) == "LABELMAP" else ()
    for item in header.get("SegmentSequence") or ():
        if int(item.SegmentNumber) not in background:
            yield Segment(
                number=int(item.SegmentNumber),
                names=tuple(_names(item)),
                algorithm=str(item.get("SegmentAlgorithmType") or ""),
            )


def _names(item: Dataset) -> dict[str, None]:
    """Return the names of a segment in order; a dictionary keeps each once."""
    modifiers = [
        modifier.get("CodeMeaning")
        for kind in item.get("SegmentedPropertyTypeCodeSequence") or ()
        for modifier in kind.get("SegmentedPropertyTypeModifierCodeSequence") or ()
    ]
    written = [item.get("SegmentDescription"), item.get("SegmentLabel"), *modifiers]
    names = [str(name or "").strip() for name in written]
    return {name: None for name in names if name}
