"""A folder of DICOM files in any layout: headers are the only truth, names and order mean nothing."""

from __future__ import annotations

import filecmp
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from nnunet_cascade.dicom.headers import Header, lenient, read_header
from nnunet_cascade.errors import DicomError

_Group = tuple[str, str]  # Patient ID, and Study Instance UID where studies are told apart
_DICOM_NAMES = (".dcm", ".dicom", ".ima")


@dataclass(frozen=True, slots=True)
class Broken:
    """A file that cannot be read.

    Attributes:
        path: Where it lies; it may name a person, and is for the screen alone.
        reason: What is wrong with it.
    """

    path: Path
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomPatient:
    """The files of one patient, or of one study.

    Attributes:
        patient_id: As written in the files; may be empty, and is then the patient of one study.
        headers: In the order of their UIDs. Copies of a file, and broken ones of one that
            is whole, are left out; files that differ under one UID are all here.
        broken: Files that lie next to these and cannot be read.
    """

    patient_id: str
    headers: tuple[Header, ...]
    broken: tuple[Broken, ...] = ()

    def of_modality(self, modality: str) -> list[Header]:
        """Return the files of one modality."""
        return [header for header in self.headers if header.modality == modality]

    def ct_series(self) -> dict[str, list[Header]]:
        """Return the CT files by their Series Instance UIDs."""
        series: dict[str, list[Header]] = defaultdict(list)
        for header in self.of_modality("CT"):
            series[header.series_uid].append(header)
        return series


@dataclass(frozen=True, slots=True)
class FolderIndex:
    """What a folder holds.

    Attributes:
        patients: In the order of their IDs.
        stray: Files that cannot be read and may be anyone's.
        others: Files that are no DICOM, such as tables and licences.
    """

    patients: tuple[DicomPatient, ...]
    stray: tuple[Broken, ...]
    others: int


def index_folder(folder: Path, *, by_study: bool = False, threads: int = 2, bar: bool = True) -> FolderIndex:
    """Read every header below a folder and sort the files by patient.

    Args:
        folder: Walked to any depth; links to folders are not followed, links to files are.
        by_study: Take each study for a patient of its own.
        threads: That read headers side by side, which hides a slow disk.
        bar: Show the progress.

    Raises:
        DicomError: The folder does not exist or holds no DICOM file.
    """
    if not folder.is_dir():
        raise DicomError(f"{folder} is not a folder; expected one with DICOM files")
    broken: list[Broken] = []
    paths = sorted(_files(folder, broken))
    groups: dict[_Group, list[Header]] = defaultdict(list)
    others = 0
    hidden = None if bar else True  # None: where it would fill a log
    for found in tqdm(_read_all(paths, threads), total=len(paths), desc="headers", unit="file", disable=hidden):
        if isinstance(found, Header):
            groups[_group(found, by_study=by_study)].append(found)
        elif found is not None:
            broken.append(found)
        else:
            others += 1
    if not groups:
        why = f" (the first: {broken[0].reason})" if broken else ""
        raise DicomError(
            f"{folder} holds {len(paths)} file(s), none of them DICOM that can be read{why}; give one with DICOM"
        )
    beside, stray = _owners(groups, broken)
    patients = (_patient(group, groups[group], beside.get(group, ())) for group in sorted(groups))
    return FolderIndex(tuple(patients), stray, others)


def _files(folder: Path, unreadable: list[Broken]) -> Iterator[Path]:
    """Yield the files below a folder; folders that cannot be opened are added to the list."""

    def note(error: OSError) -> None:
        unreadable.append(Broken(Path(error.filename), f"is a folder that cannot be opened ({error.strerror})"))

    for root, _, names in os.walk(folder, onerror=note):
        yield from (Path(root) / name for name in names)


def _read_all(paths: Sequence[Path], threads: int) -> Iterator[Header | Broken | None]:
    # What reading changes is changed for all threads: once around them, or one would undo it under another.
    with lenient(), ThreadPoolExecutor(threads) as pool:
        yield from pool.map(_read, paths, chunksize=32)


def _read(path: Path) -> Header | Broken | None:
    """Read a header, or say what is wrong.

    A file without DICOM's mark counts as broken if it bears DICOM's name, unless hidden:
    macOS puts `._1-001.dcm` next to `1-001.dcm` on foreign disks.
    """
    try:
        header = read_header(path)
    except DicomError as error:
        return Broken(path, str(error))
    if header is None and path.suffix.lower() in _DICOM_NAMES and not path.name.startswith("."):
        return Broken(path, "is not DICOM in spite of its name (no mark at byte 128); copy it again or remove it")
    return header


def _group(header: Header, *, by_study: bool) -> _Group:
    # Files without a Patient ID may be of several people, but those of one study are of one.
    return header.patient_id, header.study_uid if by_study or not header.patient_id else ""


def _owners(
    groups: Mapping[_Group, Sequence[Header]], broken: Sequence[Broken]
) -> tuple[dict[_Group, list[Broken]], tuple[Broken, ...]]:
    """Tell whose broken files are: the patient's whose files alone lie in the same folder."""
    in_folder: dict[Path, set[_Group]] = defaultdict(set)
    for group, headers in groups.items():
        for header in headers:
            in_folder[header.path.parent].add(group)
    beside: dict[_Group, list[Broken]] = defaultdict(list)
    stray: list[Broken] = []
    for file in broken:
        owners = in_folder.get(file.path.parent, set())
        if len({patient_id or study_uid for patient_id, study_uid in owners}) == 1:
            for owner in owners:
                beside[owner].append(file)
        else:
            stray.append(file)
    return beside, tuple(stray)


def _patient(group: _Group, headers: Sequence[Header], broken: Sequence[Broken]) -> DicomPatient:
    by_uid: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        by_uid[header.sop_uid].append(header)
    kept = (header for uid in sorted(by_uid) for header in _without_copies(by_uid[uid]))
    return DicomPatient(patient_id=group[0], headers=tuple(kept), broken=tuple(broken))


def _without_copies(headers: Sequence[Header]) -> list[Header]:
    """Choose among files of one UID: each content once, and whole ones if there are any."""
    kept: list[Header] = []
    for header in [header for header in headers if header.is_whole] or headers[:1]:
        if not any(_are_copies(header, other) for other in kept):
            kept.append(header)
    return kept


def _are_copies(one: Header, other: Header) -> bool:
    try:
        return one.plane == other.plane and filecmp.cmp(one.path, other.path, shallow=False)
    except OSError:  # it could be read a moment ago: whoever reads it next says what is wrong
        return False
