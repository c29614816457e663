"""Names of cases: never a tag of the file without being checked, for they become file names."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from nnunet_cascade.dataset_conversion.settings import CaseNames
from nnunet_cascade.dicom.folder import DicomPatient

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_DEVICES = re.compile(r"CON|PRN|AUX|NUL|(COM|LPT)[0-9]", re.IGNORECASE)
_DIGITS = 10
_NO_NAME = "found a Patient ID that is no file name; expected letters, digits, - and _ alone: name cases by UID instead"
_ALIKE = "found a Patient ID that differs from another only in capitals, which some file systems ignore; rename one"


@dataclass(frozen=True, slots=True)
class Unnamed:
    """A patient whose case can have no name.

    Attributes:
        patient: Whose.
        reason: Why.
    """

    patient: DicomPatient
    reason: str


def name_cases(
    patients: Sequence[DicomPatient], names: CaseNames, *, by_study: bool = False
) -> tuple[dict[str, DicomPatient], dict[str, Unnamed]]:
    """Return patients by the names of their cases, and those that can have none.

    Args:
        patients: All of a download, so that a case keeps its name whoever is asked for.
        names: "uid" takes a hash of the first Study Instance UID, which stays the same
            when other patients are added; "patient-id" the Patient ID as it is, where it
            can be the name of a file anywhere.
        by_study: Each patient is one study; its hash is added to the Patient ID.

    Returns:
        The named patients, and by a stand-in name those whose ID cannot be a name or is,
        capitals aside, that of another: some file systems take them for one.
    """
    wishes = [_wish(patient, names, by_study=by_study) for patient in patients]
    folded = Counter(wish.casefold() for wish in wishes)
    named: dict[str, DicomPatient] = {}
    unnamed: dict[str, Unnamed] = {}
    for patient, wish in zip(patients, wishes, strict=True):
        if not wish:
            unnamed[_stand_in("unnamed", patient)] = Unnamed(patient, _NO_NAME)
        elif folded[wish.casefold()] == 1:
            named[wish] = patient
        elif names == "uid":
            named[_stand_in("case", patient)] = patient
        else:
            unnamed[_stand_in("unnamed", patient)] = Unnamed(patient, _ALIKE)
    return named, unnamed


def _wish(patient: DicomPatient, names: CaseNames, *, by_study: bool) -> str:
    """Return the name a case would have if it were alone; empty if it can have none."""
    study = short_hash(_study(patient))
    if names == "uid":
        return f"case_{study}"
    if not _SAFE.fullmatch(patient.patient_id) or _DEVICES.fullmatch(patient.patient_id):
        return ""
    return f"{patient.patient_id}_{study}" if by_study else patient.patient_id


def _stand_in(kind: str, patient: DicomPatient) -> str:
    """Return a name that no other patient has, though IDs or studies be alike; nobody can guess the ID from it."""
    return f"{kind}_{short_hash(f'{_study(patient)} {patient.headers[0].sop_uid}')}"


def _study(patient: DicomPatient) -> str:
    return min(header.study_uid for header in patient.headers)


def short_hash(text: str) -> str:
    """Return what stands for a UID in the name of a case."""
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
