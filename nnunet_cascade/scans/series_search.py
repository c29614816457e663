"""CT series in a folder of DICOM files: which are cases, what these are called, and which are no volumes."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from nnunet_cascade.case_folders.case_files import CHANNEL
from nnunet_cascade.dataset_conversion.case_names import name_cases, short_hash
from nnunet_cascade.dataset_conversion.settings import CaseNames
from nnunet_cascade.dicom.folder import Broken, DicomPatient, index_folder
from nnunet_cascade.dicom.headers import Header
from nnunet_cascade.errors import DicomError
from nnunet_cascade.images import ENDING
from nnunet_cascade.scans.scans import FoundScans, LeftOut, Scan

_log = logging.getLogger(__name__)
_FEWEST_PLACES = 5
"""Where a series must have slices to be a scan: overviews have one to three, measurements of contrast one."""
_Series = Mapping[str, Sequence[Header]]


def search_series(folder: Path, names: CaseNames) -> FoundScans:
    """List the CT series below a folder as cases.

    The only series of a patient is called as `nnc-convert-dicom` calls the patient. Each of
    several has a hash of its own UID in its name, so that names stay when others are added.

    Args:
        folder: In any layout; headers alone say what is what.
        names: What names are made of.

    Returns:
        The cases. One with a broken file beside its slices, or whose patient's ID can be no
        name, is among them with its trouble.

    Raises:
        DicomError: There is no DICOM file, or no CT series that is a volume.
    """
    try:
        found = index_folder(folder)
    except DicomError as error:
        raise DicomError(f"{error}, or image files named <case>{CHANNEL}{ENDING}") from error
    named, unnamed = name_cases(found.patients, names)
    troubles = {name: item.reason for name, item in unnamed.items()}
    scans: dict[str, Scan] = {}
    left_out: list[LeftOut] = []
    stray = list(found.stray)
    for name, patient in {**named, **{name: item.patient for name, item in unnamed.items()}}.items():
        series, overviews = _split(patient)
        left_out += overviews
        troubled, anybodys = _troubled(patient, series)
        stray += anybodys
        for uid, headers in series.items():
            case = name if len(series) == 1 else _series_name(name, uid, names)
            paths = tuple(header.path for header in headers)
            trouble = troubles.get(name, "") or troubled.get(uid, "")
            scans[case] = Scan(case=case, path=folder, series_uid=uid, slices=paths, trouble=trouble)
    _tell(left_out, stray)
    if not scans:
        raise DicomError(_nothing(folder, found.patients, left_out))
    ordered = {case: scans[case] for case in sorted(scans)}
    return FoundScans(scans=ordered, left_out=tuple(left_out), unreadable=len(stray))


def _split(patient: DicomPatient) -> tuple[_Series, list[LeftOut]]:
    """Tell a patient's CT series that may be volumes from those that are none."""
    series = patient.ct_series()
    reasons = {uid: _reason(headers) for uid, headers in sorted(series.items())}
    left_out = [
        LeftOut(series_uid=uid, images=len(series[uid]), reason=reason) for uid, reason in reasons.items() if reason
    ]
    return {uid: series[uid] for uid, reason in reasons.items() if not reason}, left_out


def _reason(headers: Sequence[Header]) -> str:
    """Say why a series is no volume, "" where it may be one."""
    slices = [header for header in headers if not header.is_localizer]
    if not slices:
        return f"found {len(headers)} overview(s) and no slice; no volume"
    places = _places(slices)
    if places >= _FEWEST_PLACES:
        return ""
    return f"found slices at {places} place(s), expected at least {_FEWEST_PLACES}; no volume of a thorax"


def _places(slices: Sequence[Header]) -> int:
    """Count where images lie; those that do not say count one by one, as do the frames of a file."""
    told = {header.plane.position_mm for header in slices if header.plane is not None and header.frames == 1}
    return len(told) + sum(header.frames for header in slices if header.plane is None or header.frames > 1)


def _series_name(patient: str, series_uid: str, names: CaseNames) -> str:
    start = "case" if names == "uid" else patient
    return f"{start}_{short_hash(series_uid)}"


def _troubled(patient: DicomPatient, series: _Series) -> tuple[dict[str, str], list[Broken]]:
    """Tell which series lack broken files that lie beside them, and which broken files may be any series'."""
    of_folder: dict[Path, set[str]] = defaultdict(set)
    for uid, headers in series.items():
        for header in headers:
            of_folder[header.path.parent].add(uid)
    beside: dict[str, list[Broken]] = defaultdict(list)
    anybodys: list[Broken] = []
    for file in patient.broken:
        owners = of_folder.get(file.path.parent, set())
        if len(owners) > 1:
            anybodys.append(file)
            continue
        _log.warning("%s %s", file.path, file.reason)
        for owner in owners:
            beside[owner].append(file)
    troubles = {
        uid: f"{len(files)} file(s) beside the slices are broken; one {files[0].reason}"
        for uid, files in beside.items()
    }
    return troubles, anybodys


def _tell(left_out: Sequence[LeftOut], stray: Sequence[Broken]) -> None:
    for series in left_out:
        _log.warning("CT series %s is left out: %s", series.series_uid, series.reason)
    for file in stray:
        _log.warning("%s %s; a case may lack a slice", file.path, file.reason)


def _nothing(folder: Path, patients: Sequence[DicomPatient], left_out: Sequence[LeftOut]) -> str:
    kinds = sorted({header.modality or "?" for patient in patients for header in patient.headers})
    why = f"; left out: {left_out[0].reason}" if left_out else ""
    return f"{folder} holds no CT series that is a volume (there are: {', '.join(kinds)}{why}); give CT series"
