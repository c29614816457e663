"""Masks to a DICOM SEG next to the CT they were made on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from nnunet_cascade.dicom.codes import ALTERED_STRUCTURE, PRIMARY_NEOPLASM
from nnunet_cascade.dicom.derived import Algorithm, DerivedObject, ObjectIdentity, algorithm_sequence, require_name
from nnunet_cascade.dicom.writing import Color, require_color, require_uid
from nnunet_cascade.errors import DicomError
from nnunet_cascade.geometry import Image, Mask

LARGEST_FRACTION = 255
"""What stands for a probability of 1."""
_MOST_IN_LABEL_MAP = np.iinfo(np.uint8).max


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracking:
    """What a finding is known by in other objects, such as a report.

    Attributes:
        name: Tracking ID, for people.
        uid: Tracking UID.

    Raises:
        DicomError: DICOM cannot hold one of them.
    """

    name: str
    uid: str

    def __post_init__(self) -> None:
        require_name(self.name, what="a tracking identifier")
        require_uid(self.uid, what="a tracking uid")


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentDetails:
    """What is told of one segment.

    Attributes:
        name: Its label and description.
        category: What it is in general.
        property_type: What it is.
        algorithm: None: drawn by hand.
        tracking: None: nothing else refers to it.
        color: Red, green and blue, 0 … 255, that viewers draw it in; None: theirs.

    Raises:
        DicomError: The name is empty or too long, or a color is out of range.
    """

    name: str
    category: Code = ALTERED_STRUCTURE
    property_type: Code = PRIMARY_NEOPLASM
    algorithm: Algorithm | None = None
    tracking: Tracking | None = None
    color: Color | None = None

    def __post_init__(self) -> None:
        require_name(self.name, what="a segment's name")
        if self.color is not None:
            require_color(self.color, what=f"segment {self.name!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentToWrite(SegmentDetails):
    """One segment with its mask.

    Attributes:
        mask: (Z, Y, X) on the slices it is written for; may be empty.

    Raises:
        DicomError: The name is empty or too long, or the mask is not a mask.
    """

    mask: Mask

    def __post_init__(self) -> None:
        SegmentDetails.__post_init__(self)
        if self.mask.ndim != 3 or self.mask.dtype != np.bool_:
            raise DicomError(
                f"segment {self.name!r} has a mask of {self.mask.ndim} dimensions and type {self.mask.dtype}; "
                "expected three and booleans"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class LabeledSegments:
    """Segments that do not overlap, in the memory of one array.

    Attributes:
        labels: (Z, Y, X), uint8: 0, or the number of a segment, from 1.
        segments: In the order of their numbers; some may have no voxel.

    Raises:
        DicomError: A label has no segment, or the array is of another kind.
    """

    labels: NDArray[np.uint8]
    segments: tuple[SegmentDetails, ...]

    def __post_init__(self) -> None:
        if self.labels.ndim != 3 or self.labels.dtype != np.uint8 or self.labels.max() > len(self.segments):
            raise DicomError(
                f"found {len(self.segments)} segments for labels of {self.labels.ndim} dimensions and type "
                f"{self.labels.dtype} up to {self.labels.max()}; expected three, uint8, and a segment for each"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class FractionToWrite(SegmentDetails):
    """A segment of which each voxel belongs to it with some probability.

    Attributes:
        probability: (Z, Y, X), 0 to 1, on the slices it is written for.

    Raises:
        DicomError: The name is empty or too long, or the values are no probabilities.
    """

    probability: Image

    def __post_init__(self) -> None:
        SegmentDetails.__post_init__(self)
        if self.probability.ndim != 3 or self.probability.dtype != np.float32:
            raise DicomError(
                f"segment {self.name!r} has an array of {self.probability.ndim} dimensions and type "
                f"{self.probability.dtype}; expected three and float32"
            )
        low, high = float(self.probability.min()), float(self.probability.max())
        if not 0 <= low <= high <= 1:  # NaN is none of it
            raise DicomError(f"segment {self.name!r} has values from {low:g} to {high:g}; expected 0 to 1")


def write_segmentation(
    segments: Sequence[SegmentToWrite] | LabeledSegments,
    source: Sequence[Path],
    path: Path,
    *,
    description: str = "Segmentation",
    identity: ObjectIdentity | None = None,
) -> None:
    """Write masks as a BINARY DICOM SEG; a file of that name appears whole or not at all.

    Frames without a set pixel are left out. A segment without any stays in the file's
    list: it was looked for and not found. Where no segment has any, the empty frames are
    written, for DICOM knows no image without frames. Patient and study are those of the
    slices. Segments may overlap.

    Args:
        segments: At least one, numbered from 1 in this order.
        source: The CT's slices in the order of the masks' planes.
        path: Its folder is made where missing.
        description: Of the series and of the content.
        identity: UIDs, number and time; None makes fresh ones.

    Raises:
        DicomError: Masks and slices do not fit, a slice cannot be read, the file cannot be
            written, or highdicom is not installed.
    """
    derived = DerivedObject(source=source, path=path, description=description, identity=identity or ObjectIdentity())
    derived.write("SEG", partial(_binary, segments), _shapes(segments))


def write_probability(
    segment: FractionToWrite,
    source: Sequence[Path],
    path: Path,
    *,
    description: str = "Probability",
    identity: ObjectIdentity | None = None,
) -> None:
    """Write a probability as a FRACTIONAL DICOM SEG of one segment.

    Probabilities are rounded to the nearest 1/255, by at most 1/510. Frames of zeros are
    left out, unless there is no other. Other arguments and errors are those of `write_segmentation`.
    """
    derived = DerivedObject(source=source, path=path, description=description, identity=identity or ObjectIdentity())
    shapes = {f"the probability of segment {segment.name!r}": segment.probability.shape}
    derived.write("SEG", partial(_fractional, segment), shapes)


def _shapes(segments: Sequence[SegmentToWrite] | LabeledSegments) -> dict[str, tuple[int, ...]]:
    if isinstance(segments, LabeledSegments):
        return {"the label map": segments.labels.shape}
    return {f"the mask of segment {segment.name!r}": segment.mask.shape for segment in segments}


def _binary(
    segments: Sequence[SegmentToWrite] | LabeledSegments, slices: Sequence[Dataset], common: dict[str, Any]
) -> Dataset:
    from highdicom.seg import Segmentation  # noqa: PLC0415 - an extra

    labeled = isinstance(segments, LabeledSegments)
    told = segments.segments if labeled else segments
    return Segmentation(
        source_images=slices,
        pixel_array=segments.labels if labeled else _pixels([segment.mask for segment in segments]),
        segmentation_type="BINARY",
        segment_descriptions=[_description(number, segment) for number, segment in enumerate(told, start=1)],
        content_description=common["series_description"],
        **common,
    )


def _fractional(segment: FractionToWrite, slices: Sequence[Dataset], common: dict[str, Any]) -> Dataset:
    from highdicom.seg import Segmentation  # noqa: PLC0415 - an extra

    return Segmentation(
        source_images=slices,
        pixel_array=segment.probability,
        segmentation_type="FRACTIONAL",
        fractional_type="PROBABILITY",
        max_fractional_value=LARGEST_FRACTION,
        segment_descriptions=[_description(1, segment)],
        content_description=common["series_description"],
        **common,
    )


def _description(number: int, segment: SegmentDetails) -> Any:
    from highdicom.color import CIELabColor  # noqa: PLC0415 - an extra
    from highdicom.seg import SegmentDescription  # noqa: PLC0415

    made_by, tracking = segment.algorithm, segment.tracking
    description = SegmentDescription(
        segment_number=number,
        segment_label=segment.name,
        segmented_property_category=segment.category,
        segmented_property_type=segment.property_type,
        algorithm_type="MANUAL" if made_by is None else "AUTOMATIC",
        algorithm_identification=None if made_by is None else algorithm_sequence(made_by),
        tracking_id=None if tracking is None else tracking.name,
        tracking_uid=None if tracking is None else tracking.uid,
        display_color=None if segment.color is None else CIELabColor.from_rgb(*segment.color),
    )
    # What the expert files of NSCLC-Radiomics are told apart by; highdicom leaves it out.
    description.SegmentDescription = segment.name
    return description


def _pixels(masks: Sequence[Mask]) -> NDArray[Any]:
    """Return masks as highdicom takes them: one as it is, several as a label map, or stacked where they overlap."""
    if len(masks) == 1:
        return masks[0]
    if len(masks) <= _MOST_IN_LABEL_MAP:
        labels = np.zeros(masks[0].shape, dtype=np.uint8)
        for number, mask in enumerate(masks, start=1):
            if labels[mask].any():
                break
            labels[mask] = number
        else:
            return labels
    return np.stack(masks, axis=-1)
