"""What all DICOM objects share that are written here: whose they are, their UIDs, and how they reach the disk."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from nnunet_cascade.errors import DicomError
from nnunet_cascade.files import atomic_file

LONGEST_TEXT, LONGEST_LABEL = 64, 16
"""Characters in descriptions and names, and in labels."""
_LONGEST_NUMBER = 16
_MOST_DIGITS = 15
Color = tuple[int, int, int]
"""Red, green and blue, 0 … 255."""
_IMPLEMENTATION = "NNUNET-CASCADE"
_UID = re.compile(r"[0-9.]{1,64}")
_DATE, _TIME = re.compile(r"\d{8}|"), re.compile(r"\d{6}|")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whose an object is, and to which study and space it belongs; unless told otherwise it names nobody.

    Attributes:
        patient_id: As it shall stand in the file.
        study_uid: Study Instance UID.
        frame_of_reference_uid: Shared by all whose coordinates mean the same.
        patient_name: As it shall stand in the file.
        birth_date: YYYYMMDD or empty.
        sex: M, F, O or empty.
        study_id: Short name of the study.
        study_description: In words.
        accession_number: Of the study's order.
        date: YYYYMMDD of series and content; fixed, so that the same object has the same bytes.
        time: HHMMSS.
        study_date: Of the study; None: as `date`.
        study_time: Of the study; None: as `time`.

    Raises:
        DicomError: A value is not what DICOM allows in its place.
    """

    patient_id: str
    study_uid: str
    frame_of_reference_uid: str
    patient_name: str = ""
    birth_date: str = ""
    sex: str = ""
    study_id: str = ""
    study_description: str = ""
    accession_number: str = ""
    date: str = "20000101"
    time: str = "000000"
    study_date: str | None = None
    study_time: str | None = None

    def __post_init__(self) -> None:
        require_uid(self.study_uid, what="study_uid")
        require_uid(self.frame_of_reference_uid, what="frame_of_reference_uid")
        for name in ("patient_id", "patient_name", "study_description"):
            require_text(getattr(self, name), what=name)
        for name in ("study_id", "accession_number"):
            require_text(getattr(self, name), what=name, longest=LONGEST_LABEL)
        if self.sex not in ("", "M", "F", "O"):
            raise DicomError(f"sex is {self.sex!r}; expected M, F, O or nothing")
        patterns = {"birth_date": _DATE, "date": _DATE, "study_date": _DATE, "time": _TIME, "study_time": _TIME}
        for name, pattern in patterns.items():
            if not pattern.fullmatch(getattr(self, name) or ""):
                raise DicomError(f"{name} is {getattr(self, name)!r}; expected digits (YYYYMMDD, HHMMSS) or nothing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The series that objects are written into.

    Attributes:
        identity: Whose it is.
        uid: Series Instance UID.
        number: Within the study.
        description: In words.

    Raises:
        DicomError: A value is not what DICOM allows in its place.
    """

    identity: Identity
    uid: str
    number: int = 1
    description: str = ""

    def __post_init__(self) -> None:
        require_uid(self.uid, what="the series' uid")
        require_text(self.description, what="the series' description")


def uid_from(*parts: str) -> str:
    """Derive a UID from what it stands for: the same parts give the same UID, others another one."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def decimal_string(value: float) -> str:
    """Return a number as DICOM writes it: at most 16 characters, with the most digits that fit.

    Raises:
        DicomError: It is NaN or infinite.
    """
    if not math.isfinite(value):
        raise DicomError(f"found {value} among the numbers to write; expected finite ones")
    digits = _MOST_DIGITS
    text = f"{value + 0.0:.{digits}g}"
    while len(text) > _LONGEST_NUMBER:
        digits -= 1
        text = f"{value:.{digits}g}"
    return text


def new_dataset(
    series: Series, *, sop_class_uid: str, sop_uid: str, modality: str, transfer_syntax: UID = ExplicitVRLittleEndian
) -> Dataset:
    """Start an object: file meta, SOP common, patient, study, series, frame of reference and equipment."""
    dataset = Dataset()
    dataset.file_meta = _file_meta(sop_class_uid, sop_uid, transfer_syntax)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class_uid, sop_uid
    _add_identity(dataset, series.identity)
    dataset.Modality = modality
    dataset.SeriesInstanceUID = series.uid
    dataset.SeriesNumber = series.number
    dataset.SeriesDescription = series.description
    dataset.SeriesDate, dataset.SeriesTime = series.identity.date, series.identity.time
    dataset.FrameOfReferenceUID = series.identity.frame_of_reference_uid
    dataset.PositionReferenceIndicator = ""
    dataset.Manufacturer = "nnunet-cascade"
    return dataset


def save(dataset: Dataset, path: Path) -> None:
    """Write an object; a file of that name appears whole or not at all. Missing folders are made.

    Raises:
        DicomError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as beside:
            dataset.save_as(beside, enforce_file_format=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DicomError(f"{path} cannot be written ({reason}); check the folder and the space left") from error


def require_color(color: Color, *, what: str) -> None:
    """Raise a DicomError naming `what` unless a color is one."""
    if not all(0 <= value <= 255 for value in color):
        raise DicomError(f"the color of {what} is {color}; expected three numbers from 0 to 255")


def require_text(text: str, *, what: str, longest: int = LONGEST_TEXT) -> None:
    """Raise a DicomError naming `what` unless DICOM can hold a text in one piece."""
    if len(text) > longest or "\\" in text or not text.isprintable():
        raise DicomError(f"{what} is {text!r}; expected at most {longest} printable characters without a backslash")


def require_uid(uid: str, *, what: str) -> None:
    """Raise a DicomError naming `what` unless a text can be a UID."""
    if not _UID.fullmatch(uid):
        raise DicomError(f"{what} is {uid!r}; expected digits and dots, at most 64")


def _file_meta(sop_class_uid: str, sop_uid: str, transfer_syntax: UID) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(sop_class_uid), UID(sop_uid)
    meta.TransferSyntaxUID = transfer_syntax
    meta.ImplementationClassUID = UID(uid_from(_IMPLEMENTATION))
    meta.ImplementationVersionName = _IMPLEMENTATION
    return meta


def _add_identity(dataset: Dataset, identity: Identity) -> None:
    dataset.PatientName, dataset.PatientID = identity.patient_name, identity.patient_id
    dataset.PatientBirthDate, dataset.PatientSex = identity.birth_date, identity.sex
    dataset.StudyInstanceUID, dataset.StudyID = identity.study_uid, identity.study_id
    dataset.StudyDate = identity.date if identity.study_date is None else identity.study_date
    dataset.StudyTime = identity.time if identity.study_time is None else identity.study_time
    dataset.StudyDescription = identity.study_description
    dataset.AccessionNumber, dataset.ReferringPhysicianName = identity.accession_number, ""
