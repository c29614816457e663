"""Whose the DICOM objects of a case are, when they were made, and their UIDs: all of it follows from the inputs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from nnunet_cascade.case_folders.case_record import CaseRecord
from nnunet_cascade.dicom.derived import MAKER, Algorithm, ObjectIdentity, read_slice_header
from nnunet_cascade.dicom.rtstruct.writing import structure_set_uid
from nnunet_cascade.dicom.writing import LONGEST_LABEL, LONGEST_TEXT, Identity, Series, uid_from
from nnunet_cascade.dicom_export.series_geometry import ReferencedSeries
from nnunet_cascade.errors import InputImageError
from nnunet_cascade.files import sha256_of

Kind = Literal["seg", "probability", "uncertainty", "rtstruct", "report"]
"""What can be written of a case: tumor as SEG, probability as SEG, uncertainty as a Parametric Map, RTSTRUCT, SR."""
KINDS: tuple[Kind, ...] = ("seg", "probability", "uncertainty", "rtstruct", "report")
DESCRIPTIONS: dict[Kind, str] = {
    "seg": "nnunet-cascade: tumor (research only)",
    "probability": "nnunet-cascade: tumor probability (research only)",
    "uncertainty": "nnunet-cascade: tumor uncertainty (research only)",
    "rtstruct": "nnunet-cascade: tumor contours (research only)",
    "report": "nnunet-cascade: measurements (research only)",
}
"""Of the series, where every viewer shows them."""
_FIRST_SERIES_NUMBER = 300
_DATES = (("SeriesDate", "SeriesTime"), ("StudyDate", "StudyTime"))
_LONG_AGO = datetime(2000, 1, 1)  # noqa: DTZ001 - DICOM's dates have no zone here


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectProvenance:
    """What the objects of a case are made from.

    Attributes:
        case: Its name.
        slice: The series' first slice, without its pixels.
        fingerprint: Of what decides the objects' content; another one, other UIDs.
        written_at: When the case was predicted; the series' own date where its record does not tell.
        algorithm: What found the tumor.
        every_slice: Whether the uncertainty has a frame for every slice, not from the first to the last alone that
            has any.
    """

    case: str
    slice: Dataset
    fingerprint: str
    written_at: datetime
    algorithm: Algorithm
    every_slice: bool = False

    @classmethod
    def of(cls, case: str, record: CaseRecord, place: ReferencedSeries, maps: Iterable[Path]) -> ObjectProvenance:
        """Gather it.

        Args:
            case: Its name.
            record: Of the case.
            place: The series.
            maps: Files of the case that objects are made from.

        Raises:
            DicomError: The first slice cannot be read.
            InputImageError: A map cannot be read.
        """
        first = read_slice_header(place.paths[0])
        written_at = _told_time(record) or _time_of(first) or _LONG_AGO
        told = {name: value for name, value in record.to_json().items() if name != "varying"}
        sums = {path.name: _checksum(path) for path in maps}
        slices = [header.sop_uid for header in place.headers]
        decisive = [told, sums, slices, written_at.isoformat(), version(MAKER), highdicom_version()]
        return cls(
            case=case,
            slice=first,
            fingerprint=hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest(),
            written_at=written_at,
            algorithm=Algorithm(
                name=MAKER,
                version=record.versions.get(MAKER) or version(MAKER),
                parameters={f"{stage}_sha256": checksum for stage, checksum in sorted((record.model or {}).items())},
            ),
        )

    @property
    def series_uid(self) -> str:
        """Of the CT."""
        return str(self.slice.SeriesInstanceUID)

    def identity(self, kind: Kind) -> ObjectIdentity:
        """Return the UIDs of an object: the same for the same inputs."""
        names = (self.series_uid, self.case, self.fingerprint, kind)
        if kind == "uncertainty" and self.every_slice:
            names = (*names, "every slice")
        series_uid = uid_from(*names, "series")
        return ObjectIdentity(
            series_uid=series_uid,
            sop_uid=structure_set_uid(series_uid) if kind == "rtstruct" else uid_from(*names, "object"),
            series_number=_FIRST_SERIES_NUMBER + KINDS.index(kind),
            written_at=self.written_at,
        )

    def contour_series(self) -> Series:
        """Return the series of the RTSTRUCT; patient and study are the CT's."""
        made, source = self.identity("rtstruct"), self.slice
        return Series(
            identity=Identity(
                patient_id=_text(source, "PatientID"),
                patient_name=_text(source, "PatientName"),
                birth_date=_digits(source, "PatientBirthDate", 8),
                sex=str(source.PatientSex or ""),
                study_uid=str(source.StudyInstanceUID),
                study_id=_text(source, "StudyID", LONGEST_LABEL),
                study_description=_text(source, "StudyDescription"),
                study_date=_digits(source, "StudyDate", 8),
                study_time=_digits(source, "StudyTime", 6),
                accession_number=_text(source, "AccessionNumber", LONGEST_LABEL),
                frame_of_reference_uid=str(source.FrameOfReferenceUID),
                date=f"{self.written_at:%Y%m%d}",
                time=f"{self.written_at:%H%M%S}",
            ),
            uid=made.series_uid,
            number=made.series_number,
            description=DESCRIPTIONS["rtstruct"],
        )


def _told_time(record: CaseRecord) -> datetime | None:
    try:
        told = datetime.fromisoformat(record.varying.predicted_at or "")
    except ValueError:
        return None
    return (told.astimezone(UTC) if told.tzinfo else told).replace(tzinfo=None, microsecond=0)


def _time_of(source: Dataset) -> datetime | None:
    for date, time in _DATES:
        day, hour = _digits(source, date, 8), _digits(source, time, 6) or "000000"
        try:
            return datetime.strptime(day + hour, "%Y%m%d%H%M%S")  # noqa: DTZ007 - DICOM's dates have no zone here
        except ValueError:
            continue
    return None


def _digits(source: Dataset, keyword: str, count: int) -> str:
    """Return the first digits of a date or time; nothing where there are not as many."""
    found = str(source.get(keyword) or "")[:count]
    return found if len(found) == count and found.isdecimal() and found.isascii() else ""


def _text(source: Dataset, keyword: str, longest: int = LONGEST_TEXT) -> str:
    """Return a text of the CT as far as DICOM allows it."""
    found = source.get(keyword) or ""
    text = "".join(map(str, found)) if isinstance(found, MultiValue) else str(found)
    letters = (letter for letter in text if letter.isprintable() and letter != "\\")
    return "".join(letters)[:longest]


def _checksum(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise InputImageError(f"{path.name} cannot be read ({error.strerror}); predict the case again") from error


def highdicom_version() -> str:
    """Return the version of highdicom; "" where it is not installed."""
    try:
        return version("highdicom")
    except PackageNotFoundError:  # contours need none
        return ""
