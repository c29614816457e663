"""Results of a cascade as DICOM objects beside the CT they were found in."""

from __future__ import annotations

import json
import logging
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydicom import dcmread

from nnunet_cascade.atomic_folder import scratch_folder
from nnunet_cascade.case_folders.case_record import CaseRecord, read_record
from nnunet_cascade.case_folders.lock import hold_file
from nnunet_cascade.case_folders.pool import KILLED, map_in_processes
from nnunet_cascade.case_folders.records import record_path
from nnunet_cascade.dicom.headers import UNREADABLE, lenient
from nnunet_cascade.dicom_export.objects import SUMMARY, CaseObjects, map_path
from nnunet_cascade.dicom_export.provenance import KINDS, Kind, ObjectProvenance, highdicom_version
from nnunet_cascade.dicom_export.series_geometry import ReferencedSeries
from nnunet_cascade.errors import CascadeError, DicomError, RecordError, SettingsError, one_line
from nnunet_cascade.files import write_json
from nnunet_cascade.images import ENDING
from nnunet_cascade.scans.recorded import recorded_scan
from nnunet_cascade.scans.scans import Scan
from nnunet_cascade.versions import NOTICE, versions

__all__ = ["KINDS", "Existing", "ExportOutcome", "ExportRequest", "Kind", "export_case", "export_folder"]

_log = logging.getLogger(__name__)
Existing = Literal["overwrite", "skip", "refuse"]
STORY = "dicom_export.json"
_MAPS = ("", "_probability", "_uncertainty")
"""What objects are made from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """What to write of a folder of results.

    Attributes:
        results: The folder that `nnc-cascade-predict` wrote.
        output: Gets a folder for each case; None: `dicom` in the results.
        kinds: What to write; with a report goes the SEG it refers to.
        processes: Cases at a time, each in a process of its own.
        existing: What to do with cases that were exported before: write them anew, leave them out where they are the
            same, or call it an error.
        every_slice: Whether the uncertainty has a frame for every slice, as OHIF needs.

    Raises:
        SettingsError: Nothing is asked for, or there is no process.
    """

    results: Path
    output: Path | None = None
    kinds: tuple[Kind, ...] = KINDS
    processes: int = 1
    existing: Existing = "overwrite"
    every_slice: bool = False

    def __post_init__(self) -> None:
        unknown = sorted(set(self.kinds) - set(KINDS))
        if unknown or not self.kinds:
            raise SettingsError(f"kinds of DICOM: found {unknown or 'none'}; expected some of {', '.join(KINDS)}")
        if self.processes < 1:
            raise SettingsError(f"{self.processes} processes; expected at least 1")

    @property
    def folder(self) -> Path:
        """Where the cases' folders lie."""
        return self.output or self.results / "dicom"

    @property
    def report_path(self) -> Path:
        """The file that tells what became of each case: beside `run.json`, or in the output folder."""
        return (self.output or self.results) / STORY

    @property
    def written(self) -> tuple[Kind, ...]:
        """What is written, in order: the SEG before the report."""
        asked = {*self.kinds, "seg"} if "report" in self.kinds else set(self.kinds)
        return tuple(kind for kind in KINDS if kind in asked)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOutcome:
    """What became of one case.

    Attributes:
        case: Its name.
        status: Skipped cases were done before.
        files: Written, or found where it was skipped.
        error: One line where it failed.
    """

    case: str
    status: Literal["done", "skipped", "failed"]
    files: tuple[Path, ...] = ()
    error: str = ""


def export_case(request: ExportRequest, case: str, record: CaseRecord, scan: Scan) -> tuple[Path, ...]:
    """Write what is asked for of one case; its files appear whole or not at all.

    The same inputs give the same bytes. Of what a case has not, such as an uncertainty without
    samples, there is no file. Files of an earlier prediction of the case are removed.

    Args:
        request: What to write; `existing` is looked at.
        case: Its name.
        record: Of it.
        scan: The DICOM series of its CT.

    Returns:
        The files that are there.

    Raises:
        CascadeError: In one line, what is wrong with the series, a map or the record.
        OSError: A file cannot be written.
    """
    return _exported(request, case, record, scan).files


def export_folder(request: ExportRequest, scans: Mapping[str, Scan | None]) -> Generator[ExportOutcome, None, None]:
    """Write what is asked for of many cases, and `dicom_export.json`; one that fails does not keep the others from it.

    Args:
        request: What to write.
        scans: By case; the cases to export. None: its record tells which CT it was made from.

    Yields:
        What became of each case, as they come; with one process in this one.
    """
    outcomes: list[ExportOutcome] = []
    try:
        for outcome in _outcomes(request, scans):
            outcomes.append(outcome)
            yield outcome
    finally:
        if outcomes:
            write_export_report(request, outcomes)


def find_cases(results: Path) -> list[str]:
    """List the cases of a folder of results by name: those with a record, and those half done, with maps alone.

    Raises:
        DicomError: There is none.
    """
    ending = f"_probability{ENDING}"
    half = {path.name.removesuffix(ending) for path in results.glob(f"*{ending}") if not path.name.startswith(".")}
    whole = {path.stem for path in results.glob("*.json") if (results / f"{path.stem}{ENDING}").is_file()}
    if not half | whole:
        raise DicomError(f"{results} holds no case; expected <case>.json beside <case>{ENDING}: predict cases first")
    return sorted(half | whole)


def read_case_record(results: Path, case: str) -> CaseRecord:
    """Read the record of a case whose maps are there.

    Raises:
        DicomError: There is none, it is another case's, or a map is missing or has another size.
        RecordError: It is damaged or of a newer version.
    """
    path = record_path(results, case)
    if not path.is_file():
        raise DicomError("it has no record: it failed or is half done; predict it by --continue_prediction")
    record = read_record(path)
    if record.case != case:
        raise DicomError("its record is not one of nnc-cascade-predict; predict it again")
    for name, size in (record.files or {}).items():
        path = results / Path(name).name
        found = path.stat().st_size if path.is_file() else None
        if found != size:
            raise DicomError(
                f"{path.name} is {'missing' if found is None else f'{found} bytes long'}; expected {size} bytes: "
                "predict it with --continue_prediction"
            )
    return record


def write_export_report(request: ExportRequest, outcomes: Sequence[ExportOutcome]) -> None:
    """Write `dicom_export.json`; what it knows of other cases stays.

    Raises:
        RunError: Another process writes it all the time.
        OSError: It cannot be written.
    """
    request.report_path.parent.mkdir(parents=True, exist_ok=True)
    with hold_file(request.report_path):  # parts of a run that are side by side tell theirs
        known = _known_cases(request.report_path)
        known.update({outcome.case: _entry(request, outcome) for outcome in outcomes})
        content = {
            "notice": NOTICE,
            "cases": dict(sorted(known.items())),
            "versions": {**versions(), "highdicom": highdicom_version() or None},
        }
        write_json(request.report_path, content)


def _known_cases(report_path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(report_path.read_text(encoding="utf-8"))["cases"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _entry(request: ExportRequest, outcome: ExportOutcome) -> dict[str, Any]:
    if outcome.status == "failed":
        return {"status": "failed", "error": outcome.error}
    files = [path.relative_to(request.report_path.parent).as_posix() for path in outcome.files]
    return {"status": "done", "files": files}


def _outcomes(request: ExportRequest, scans: Mapping[str, Scan | None]) -> Iterator[ExportOutcome]:
    processes = request.processes if len(scans) > 1 else 1
    done = map_in_processes(
        partial(_outcome, request),
        tuple(scans.items()),
        processes,
        killed=lambda job: ExportOutcome(case=job[0], status="failed", error=KILLED),
        preload=__name__,
    )
    yield from (outcome for _, outcome in done)


def _outcome(request: ExportRequest, job: tuple[str, Scan | None]) -> ExportOutcome:
    case, scan = job
    try:
        record = read_case_record(request.results, case)
        return _exported(request, case, record, scan or _recorded(record))
    except Exception as error:  # noqa: BLE001 - whatever one case does, the others go on
        _log.debug("%s", case, exc_info=error)
        told = one_line(error)
        if not isinstance(error, (CascadeError, OSError, MemoryError)):
            found = f"its results cannot be understood ({type(error).__name__}: {told})"
            told = f"{found}; expected one of this version: predict again"
        return ExportOutcome(case=case, status="failed", error=told)


def _recorded(record: CaseRecord) -> Scan:
    scan = recorded_scan(record)
    if scan is None or not scan.is_dicom:
        made_from = "which CT it was made from" if scan is None else f"of an image file, {scan.path.name}"
        raise DicomError(f"its record tells {made_from}; give the folder of its DICOM series with --series")
    if not scan.slices:
        raise DicomError(
            f"no slice of its CT, series {scan.series_uid}, is there any more; give its folder by --series"
        )
    return scan


def _exported(request: ExportRequest, case: str, record: CaseRecord, scan: Scan) -> ExportOutcome:
    objects = _objects(request, case, record, scan)
    folder, kinds = request.folder / case, request.written
    there = _there(folder, objects.provenance)
    if request.existing == "refuse" and any(path.exists() for path in _files(folder)):
        raise DicomError(f"{folder} holds DICOM of it already; give --overwrite or --c")
    if request.existing == "skip" and _is_done(objects, set(there), kinds):
        return ExportOutcome(case=case, status="skipped", files=tuple(_files(folder)))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(folder, alone=True) as scratch:
        for kind in kinds:
            objects.write(kind, scratch)
        kept = {*there, *_there(folder, replace(objects.provenance, every_slice=not request.every_slice))}
        _move(scratch, folder, stale=[kind for kind in KINDS if kind not in kept])
    return ExportOutcome(case=case, status="done", files=tuple(_files(folder)))


def _objects(request: ExportRequest, case: str, record: CaseRecord, scan: Scan) -> CaseObjects:
    if Path(case).name != case or case in ("", ".", ".."):
        raise SettingsError(f"case {case!r} can be no folder's name; rename its files")
    if "report" in request.written:
        _require_verdicts(record)
    place = ReferencedSeries.of(scan)
    place.require_one_origin()
    if set(request.written) != {"rtstruct"}:
        place.require_regular()
    maps = [path for suffix in _MAPS if (path := map_path(request.results, case, suffix)).is_file()]
    provenance = ObjectProvenance.of(case, record, place, maps)
    provenance = replace(provenance, every_slice=request.every_slice)
    return CaseObjects(results=request.results, case=case, record=record, place=place, provenance=provenance)


def _require_verdicts(record: CaseRecord) -> None:
    """Raise unless a record tells all that a report warns of."""
    unknown = record.candidates is None or any(each.verdict.kept is None for each in record.candidates)
    found = {"its flags": record.flags is None, "what became of its candidates": unknown}
    for what, lacking in found.items():
        if lacking:
            raise RecordError(f"its record does not tell {what}; expected one of this version: predict the case again")


def _is_done(objects: CaseObjects, there: set[Kind], kinds: Sequence[Kind]) -> bool:
    """Tell whether all that is asked for is there; what a case has not was left out before."""
    lacking = set(kinds) - there
    return not lacking or (lacking <= {"probability", "uncertainty"} and objects.has_none_of(lacking))


def _there(folder: Path, provenance: ObjectProvenance) -> list[Kind]:
    """Tell which objects of this very prediction are there."""
    return [kind for kind in KINDS if _sop_uid(folder / f"{kind}.dcm") == provenance.identity(kind).sop_uid]


def _sop_uid(path: Path) -> str:
    try:
        with lenient():
            return str(dcmread(path, specific_tags=["SOPInstanceUID"], stop_before_pixels=True).SOPInstanceUID)
    except UNREADABLE:
        return ""


def _move(scratch: Path, folder: Path, *, stale: Sequence[Kind]) -> None:
    """Move files into a case's folder, and remove those of an earlier prediction."""
    folder.mkdir(exist_ok=True)
    for kind in stale:
        (folder / f"{kind}.dcm").unlink(missing_ok=True)
    if "report" in stale:
        (folder / SUMMARY).unlink(missing_ok=True)
    for path in sorted(scratch.iterdir()):
        path.replace(folder / path.name)


def _files(folder: Path) -> list[Path]:
    paths = [*(folder / f"{kind}.dcm" for kind in KINDS), folder / SUMMARY]
    return [path for path in paths if path.is_file()]
