"""The frames of a DICOM SEG: where each lies, and its pixels, decoded one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels.utils import iter_pixels

from nnunet_cascade.dicom.ct.resampling import PlaneMask
from nnunet_cascade.dicom.seg.reading import (
    SegmentationFile,
    frame_decoder,
    frame_groups,
    reading_seg,
    segmentation_type,
)
from nnunet_cascade.dicom.slice_plane import SlicePlane
from nnunet_cascade.errors import DicomError
from nnunet_cascade.geometry import Vector


def frames_of(file: SegmentationFile, number: int) -> Iterator[tuple[SlicePlane, PlaneMask]]:
    """Return the frames that show a segment: where each lies, and which of its pixels are set.

    In a label map, pixels that equal the number are set; of fractions, those of at least a half.

    Raises:
        DicomError: There is no such segment, or a frame cannot be decoded or does not say where it is.
    """
    with reading_seg():
        planes = _planes(file, number)
    for plane, values in zip(planes.values(), _decoded(file, list(planes)), strict=True):
        yield plane, _is_set(values, number, file.header)


def _planes(file: SegmentationFile, number: int) -> dict[int, SlicePlane]:
    """Tell where the frames that show a segment lie, by their places in the file."""
    known = [segment.number for segment in file.segments]
    if number not in known:
        raise DicomError(f"the DICOM SEG holds no segment {number}; expected one of {known}")
    places = range(len(frame_groups(file.header)))
    if segmentation_type(file.header) != "LABELMAP":
        places = [place for place in places if _number(file, place) == number]
    return {place: _plane(file.header, place) for place in places}


def _number(file: SegmentationFile, place: int) -> int:
    """Return the segment a frame shows; files of a single one may not say."""
    found = _value(file.header, place, "SegmentIdentificationSequence", "ReferencedSegmentNumber")
    if found is not None:
        return int(found)
    if len(file.segments) != 1:
        raise ValueError(f"frame {place + 1} does not say which of {len(file.segments)} segments it shows")
    return file.segments[0].number


def _value(header: Dataset, place: int, group: str, keyword: str) -> Any:
    """Look up a value in the functional groups of a frame, then in those that all frames share."""
    for groups in (frame_groups(header)[place], *(header.get("SharedFunctionalGroupsSequence") or ())):
        for item in groups.get(group) or ():
            if item.get(keyword) is not None:
                return item.get(keyword)
    return None


def _plane(header: Dataset, place: int) -> SlicePlane:
    position = _numbers(header, place, "PlanePositionSequence", "ImagePositionPatient", 3)
    cosines = _numbers(header, place, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
    spacing = _numbers(header, place, "PixelMeasuresSequence", "PixelSpacing", 2)
    # The first three cosines are the direction along a row: the one in which the column index grows.
    return SlicePlane(
        position_mm=(position[0], position[1], position[2]),
        down=_unit(cosines[3:]),
        right=_unit(cosines[:3]),
        spacing_mm=(spacing[0], spacing[1]),
        shape=(int(header.Rows), int(header.Columns)),
    )


def _numbers(header: Dataset, place: int, group: str, keyword: str, count: int) -> list[float]:
    found = [float(number) for number in _value(header, place, group, keyword) or ()]
    if len(found) != count or not np.isfinite(found).all():
        raise ValueError(f"frame {place + 1} has {keyword} {found}, expected {count} numbers")
    return found


def _unit(cosines: Sequence[float]) -> Vector:
    """Return a vector of length 1; cosines in files are rounded."""
    length = float(np.linalg.norm(cosines))
    if not 0.9 < length < 1.1:
        raise ValueError(f"a direction has length {length:.2f}, expected 1")
    x, y, z = (number / length for number in cosines)
    return x, y, z


def _decoded(file: SegmentationFile, places: Sequence[int]) -> Iterator[NDArray[Any]]:
    with reading_seg():
        frames = _stored(file, places) if places else iter(())
    cure = "copy it again, or decompress it, such as with gdcmconv --raw"
    for _ in places:
        with reading_seg(cure=cure):
            frame = next(frames, None)
            if frame is None:
                raise EOFError("it ends before its last frame")
        yield frame


def _stored(file: SegmentationFile, places: Sequence[int]) -> Iterator[NDArray[Any]]:
    syntax = cast(Any, file.header).file_meta.TransferSyntaxUID
    if int(file.header.BitsAllocated) == 1 and not syntax.is_encapsulated:
        return _unpacked(file, places)
    # Read from its path, a file is decoded frame by frame; a deflated one has to be inflated whole.
    return iter_pixels(dcmread(file.path) if syntax.is_deflated else file.path, indices=places, raw=True)


def _unpacked(file: SegmentationFile, places: Sequence[int]) -> Iterator[NDArray[Any]]:
    """Unpack bits with highdicom: pydicom 3.0 loses the end of frames that do not start with a byte."""
    decode, header = frame_decoder(), file.header
    data: bytes = dcmread(file.path, specific_tags=["BitsAllocated", "PixelData"]).PixelData
    size = int(header.Rows) * int(header.Columns)
    for place in places:
        yield decode(
            data[place * size // 8 : -(-(place + 1) * size // 8)],
            cast(Any, header).file_meta.TransferSyntaxUID,
            rows=int(header.Rows),
            columns=int(header.Columns),
            samples_per_pixel=1,
            bits_allocated=1,
            bits_stored=1,
            photometric_interpretation="MONOCHROME2",
            index=place,
        )


def _is_set(values: NDArray[Any], number: int, header: Dataset) -> PlaneMask:
    if segmentation_type(header) == "LABELMAP":
        return values == number
    if segmentation_type(header) == "FRACTIONAL":
        return values >= int(header.get("MaximumFractionalValue") or 255) / 2
    return values != 0
