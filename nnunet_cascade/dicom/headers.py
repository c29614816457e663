"""What the conversion needs to know of one DICOM file, read without its pixels."""

from __future__ import annotations

import math
import os
import re
import struct
import warnings
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from pydicom import config, dcmread
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import UID, MediaStorageDirectoryStorage

from nnunet_cascade.dicom.slice_plane import SlicePlane
from nnunet_cascade.errors import DicomError, one_line
from nnunet_cascade.geometry import Vector

UNREADABLE = (
    BytesLengthException,
    InvalidDicomError,
    OSError,
    EOFError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What pydicom raises over files that are damaged."""
_TAGS = (
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "SOPClassUID",
    "Modality",
    "SeriesDescription",
    "FrameOfReferenceUID",
    "ImageType",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "BitsAllocated",
    "SamplesPerPixel",
    "NumberOfFrames",
)
_UID = re.compile(r"[0-9.]{1,64}")
_MAGIC_AT, _MAGIC = 128, b"DICM"
_ITEM, _END_OF_ITEMS = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
_SKEWED = 0.01  # between two directions at right angles: 0.6°


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """One DICOM file.

    Attributes:
        path: Where it lies.
        patient_id: As written in the file; not to be used as a name of anything.
        study_uid: Study Instance UID.
        series_uid: Series Instance UID.
        sop_uid: SOP Instance UID: the file's own.
        modality: Such as CT, RTSTRUCT, SEG.
        series_description: As written in the file.
        frame_of_reference_uid: Empty where there is none.
        transfer_syntax: Its name.
        is_localizer: A CT overview, no slice.
        frames: Images in the file.
        plane: Where its pixels lie; None if it has none or does not say.
        is_whole: The file holds as many bytes as its pixels need, or its last element.
    """

    path: Path
    patient_id: str
    study_uid: str
    series_uid: str
    sop_uid: str
    modality: str
    series_description: str
    frame_of_reference_uid: str
    transfer_syntax: str
    is_localizer: bool
    frames: int
    plane: SlicePlane | None
    is_whole: bool


def read_header(path: Path) -> Header | None:
    """Read what the conversion needs to know of a file.

    Returns:
        None if the file is not DICOM (it lacks the mark at byte 128), or is a
        DICOMDIR, which says of other files where they lie.

    Raises:
        DicomError: It is marked as DICOM, yet cannot be read or lacks its UIDs; the
            message does not name the file, whose path may name a person.
    """
    try:
        with path.open("rb") as file:
            file.seek(_MAGIC_AT)
            if file.read(len(_MAGIC)) != _MAGIC:
                return None
            file.seek(0)
            with lenient():
                dataset = dcmread(file, stop_before_pixels=True, specific_tags=list(_TAGS))
                return None if _is_directory(dataset) else _header(path, dataset, file)
    except UNREADABLE as error:
        raise DicomError(f"cannot be read ({reason_of(error)}); expected a whole DICOM file: copy it again") from error


def reason_of(error: Exception) -> str:
    """Return an error of a library in one line without the path of a file, which may name a person."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return one_line(error)


@contextmanager
def lenient() -> Generator[None, None, None]:
    """Let pydicom read what breaks the standard, without a word: files of real scanners do.

    It changes what all threads see. Threads that read at the same time must all do so
    within one such block: the block of one would end in the midst of another's.
    """
    with warnings.catch_warnings(), config.disable_value_validation():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def reading(what: str, *, cure: str) -> Generator[None, None, None]:
    """Read a file leniently; what is wrong with it becomes a DicomError that says what to do, without its path."""
    try:
        with lenient():
            yield
    except DicomError:
        raise
    except UNREADABLE as error:
        raise DicomError(f"{what} cannot be read ({reason_of(error)}); {cure}") from error


def _is_directory(dataset: Dataset) -> bool:
    return cast(Any, dataset).file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage


def _header(path: Path, dataset: Dataset, file: BinaryIO) -> Header:
    return Header(
        path=path,
        patient_id=str(dataset.get("PatientID") or "").strip(),
        study_uid=_uid(dataset, "StudyInstanceUID"),
        series_uid=_uid(dataset, "SeriesInstanceUID"),
        sop_uid=_uid(dataset, "SOPInstanceUID"),
        modality=str(dataset.get("Modality") or ""),
        series_description=str(dataset.get("SeriesDescription") or "").strip(),
        frame_of_reference_uid=str(dataset.get("FrameOfReferenceUID") or ""),
        transfer_syntax=_syntax(dataset).name,
        is_localizer="LOCALIZER" in [str(value) for value in _many(dataset.get("ImageType"))],
        frames=_frames(dataset),
        plane=_plane(dataset),
        is_whole=_is_whole(dataset, file),
    )


def _uid(dataset: Dataset, keyword: str) -> str:
    value = str(dataset.get(keyword) or "")
    if not _UID.fullmatch(value):
        raise DicomError(f"its {keyword} is {value!r}, expected digits and dots")
    return value


def _syntax(dataset: Dataset) -> UID:
    return UID(str(cast(Any, dataset).file_meta.get("TransferSyntaxUID") or "1.2.840.10008.1.2"))


def _frames(dataset: Dataset) -> int:
    return int(dataset.get("NumberOfFrames") or 1)


def _many(value: Any) -> list[Any]:
    return (
        [] if value is None else list(value) if hasattr(value, "__iter__") and not isinstance(value, str) else [value]
    )


def _plane(dataset: Dataset) -> SlicePlane | None:
    position, orientation, spacing = (
        [float(number) for number in _many(dataset.get(keyword))]
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    )
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    if (len(position), len(orientation), len(spacing)) != (3, 6, 2) or min(rows, columns) < 1:
        return None
    if not all(map(math.isfinite, (*position, *orientation, *spacing))) or min(spacing) <= 0:
        return None
    directions = _directions(orientation)
    if directions is None:
        return None
    right, down = directions
    x, y, z = position
    return SlicePlane(
        position_mm=(x, y, z), down=down, right=right, spacing_mm=(spacing[0], spacing[1]), shape=(rows, columns)
    )


def _directions(cosines: list[float]) -> tuple[Vector, Vector] | None:
    """Return the unit directions along a row and a column, at right angles; those in files are rounded.

    The first three cosines are the direction along a row: the one in which the column index grows.
    """
    right, down = _unit(np.array(cosines[:3])), _unit(np.array(cosines[3:]))
    if right is None or down is None or abs(float(right @ down)) > _SKEWED:
        return None
    if abs(float(right @ down)) > np.finfo(float).eps:
        # Sum and difference of two unit vectors are at right angles: both turn by half of what is missing.
        between, across = right + down, right - down
        between, across = between / np.linalg.norm(between), across / np.linalg.norm(across)
        right, down = (between + across) / math.sqrt(2), (between - across) / math.sqrt(2)
    return _vector(right), _vector(down)


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64] | None:
    length = float(np.linalg.norm(vector))
    return vector / length if 0.9 < length < 1.1 else None


def _vector(values: NDArray[np.float64]) -> Vector:
    x, y, z = values.tolist()
    return x, y, z


def _is_whole(dataset: Dataset, file: BinaryIO) -> bool:
    """Return whether all that the header announces is there: decoders fill up with zeros without a word.

    The file stands at the pixels, or where it should end if there are none.
    """
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    begin, syntax = file.tell(), _syntax(dataset)
    end = file.seek(0, os.SEEK_END)
    if syntax.is_deflated:
        return True
    if rows * columns == 0:
        return begin <= end
    file.seek(begin)
    # Tag and length, with a value representation between them or not.
    begin += 12 if file.read(6)[4:].isalpha() else 8
    if syntax.is_encapsulated:
        return _has_all_items(file, begin, end)
    bits = int(dataset.get("SamplesPerPixel") or 1) * int(dataset.get("BitsAllocated") or 16)
    return end - begin >= math.ceil(rows * columns * _frames(dataset) * bits / 8)


def _has_all_items(file: BinaryIO, begin: int, end: int) -> bool:
    """Go from item to item of compressed pixels and tell whether the mark of the end comes within the file."""
    while begin + 8 <= end:
        file.seek(begin)
        group, element, length = struct.unpack("<HHL", file.read(8))
        if (group, element) != _ITEM:
            return (group, element) == _END_OF_ITEMS
        begin += 8 + length
    return False
