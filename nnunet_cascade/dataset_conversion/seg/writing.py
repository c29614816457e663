"""Masks to a DICOM SEG beside the CT they were made on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from nnunet_cascade.dataset_conversion.dicom.headers import lenient
from nnunet_cascade.dataset_conversion.dicom.writing import require_text, require_uid, save, uid_from
from nnunet_cascade.dataset_conversion.seg.reading import MISSING_EXTRA
from nnunet_cascade.errors import DicomError
from nnunet_cascade.geometry import Mask

ALTERED_STRUCTURE = Code("49755003", "SCT", "Morphologically Altered Structure")
"""The category of tumors."""
PRIMARY_NEOPLASM = Code("86049000", "SCT", "Neoplasm, Primary")
"""The type of primary tumors."""
_ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
_MAKER = "nnunet-cascade"
# Type 2 in DICOM: always there, perhaps empty; anonymized files may lack them.
_PATIENT_AND_STUDY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "SliceThickness"),
)
_MOST_IN_LABEL_MAP = np.iinfo(np.uint8).max


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """What made a segment, where no human did.

    Attributes:
        name: Such as the name of a model.
        version: Of the model.

    Raises:
        DicomError: DICOM cannot hold one of them, or it is empty.
    """

    name: str
    version: str

    def __post_init__(self) -> None:
        _require_name(self.name, what="an algorithm's name")
        _require_name(self.version, what="an algorithm's version")


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentToWrite:
    """One segment.

    Attributes:
        name: Its label and description.
        mask: (Z, Y, X) on the slices it is written for; may be empty.
        category: What it is in general.
        property_type: What it is.
        algorithm: None: drawn by hand.

    Raises:
        DicomError: The name is empty or too long, or the mask is no mask.
    """

    name: str
    mask: Mask
    category: Code = ALTERED_STRUCTURE
    property_type: Code = PRIMARY_NEOPLASM
    algorithm: Algorithm | None = None

    def __post_init__(self) -> None:
        _require_name(self.name, what="a segment's name")
        if self.mask.ndim != 3 or self.mask.dtype != np.bool_:
            raise DicomError(
                f"segment {self.name!r} has a mask of {self.mask.ndim} dimensions and type {self.mask.dtype}; "
                "expected three and booleans"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SegIdentity:
    """What tells one SEG from another; given the same, the same masks give the same bytes.

    Attributes:
        series_uid: Series Instance UID; a fresh one unless given.
        sop_uid: SOP Instance UID; a fresh one unless given.
        series_number: Within the study; viewers list series by it.
        written_at: When it was made.

    Raises:
        DicomError: A UID is none.
    """

    series_uid: str = field(default_factory=generate_uid)
    sop_uid: str = field(default_factory=generate_uid)
    series_number: int = 300
    written_at: datetime = field(default_factory=datetime.now)

    def __post_init__(self) -> None:
        require_uid(self.series_uid, what="the series' uid")
        require_uid(self.sop_uid, what="the file's uid")


def write_segmentation(
    segments: Sequence[SegmentToWrite],
    source: Sequence[Path],
    path: Path,
    *,
    description: str = "Segmentation",
    identity: SegIdentity | None = None,
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
    require_text(description, what="the series' description")
    slices = [_read_slice(file) for file in source]
    _require_fitting(segments, slices)
    # highdicom and pydicom warn of what is odd in the slices' own headers, which is copied as it is.
    with lenient():
        dataset = _segmentation(segments, slices, description, identity or SegIdentity())
        save(dataset, path)


def _require_name(text: str, *, what: str) -> None:
    require_text(text, what=what)
    if not text.strip():
        raise DicomError(f"{what} is empty; expected at least one character")


def _read_slice(path: Path) -> Dataset:
    try:
        with lenient():
            header = dcmread(path, stop_before_pixels=True)
    except (OSError, EOFError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DicomError(f"{path.name} cannot be read as DICOM ({reason}); give the CT's slices") from error
    for keyword in _PATIENT_AND_STUDY:
        if keyword not in header:
            setattr(header, keyword, None)
    if header.PatientSex not in ("M", "F", "O"):
        header.PatientSex = ""
    return header


def _require_fitting(segments: Sequence[SegmentToWrite], slices: Sequence[Dataset]) -> None:
    if not segments or not slices:
        raise DicomError(f"found {len(segments)} segments and {len(slices)} slices to write; expected at least one")
    lacking = next((key for key in ("Rows", "Columns", "FrameOfReferenceUID") if key not in slices[0]), None)
    if lacking is not None:
        raise DicomError(f"found slices without {lacking}; give the CT's slices")
    expected = (len(slices), int(slices[0].Rows), int(slices[0].Columns))
    for segment in segments:
        if segment.mask.shape != expected:
            raise DicomError(
                f"segment {segment.name!r} has a mask of shape {segment.mask.shape}; expected {expected}: the number "
                "of slices, their rows and their columns"
            )


def _segmentation(
    segments: Sequence[SegmentToWrite], slices: Sequence[Dataset], description: str, identity: SegIdentity
) -> Dataset:
    try:
        from highdicom.seg import Segmentation  # noqa: PLC0415
    except ImportError as error:
        raise DicomError(MISSING_EXTRA) from error
    try:
        dataset = Segmentation(
            source_images=slices,
            pixel_array=_pixels([segment.mask for segment in segments]),
            segmentation_type="BINARY",
            segment_descriptions=[_description(number, segment) for number, segment in enumerate(segments, start=1)],
            series_instance_uid=identity.series_uid,
            series_number=identity.series_number,
            sop_instance_uid=identity.sop_uid,
            instance_number=1,
            manufacturer=_MAKER,
            manufacturer_model_name=_MAKER,
            software_versions=version(_MAKER),
            device_serial_number="none",
            content_description=description,
            series_description=description,
            specific_character_set="ISO_IR 192",
            content_date=identity.written_at.date(),
            content_time=identity.written_at.time(),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise DicomError(f"no SEG can be written for these slices ({reason}); give the slices of one CT") from error
    _fix_what_varies(dataset, identity)
    return dataset


def _pixels(masks: Sequence[Mask]) -> NDArray[Any]:
    """Give masks as highdicom takes them: one as it is, several as a label map, or stacked where they overlap."""
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


def _description(number: int, segment: SegmentToWrite) -> Any:
    from highdicom import AlgorithmIdentificationSequence  # noqa: PLC0415
    from highdicom.seg import SegmentDescription  # noqa: PLC0415

    made_by = segment.algorithm
    description = SegmentDescription(
        segment_number=number,
        segment_label=segment.name,
        segmented_property_category=segment.category,
        segmented_property_type=segment.property_type,
        algorithm_type="MANUAL" if made_by is None else "AUTOMATIC",
        algorithm_identification=None
        if made_by is None
        else AlgorithmIdentificationSequence(
            name=made_by.name, family=_ARTIFICIAL_INTELLIGENCE, version=made_by.version
        ),
    )
    # What the expert files of NSCLC-Radiomics are told apart by; highdicom leaves it out.
    description.SegmentDescription = segment.name
    return description


def _fix_what_varies(dataset: Dataset, identity: SegIdentity) -> None:
    """Replace what highdicom draws anew each time."""
    organization = uid_from(identity.sop_uid, "dimension organization")
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
    # highdicom adds itself last.
    dataset.ContributingEquipmentSequence[-1].ContributionDateTime = identity.written_at.strftime("%Y%m%d%H%M%S.%f")
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = dataset.ContentDate, dataset.ContentTime
