"""A folder of cases, one after the other: a bad one is named and passed over, nothing is done twice."""

from __future__ import annotations

import logging
import os
import re
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from nnunet_cascade.case_folders.case_files import MAPS
from nnunet_cascade.case_folders.case_record import CaseRecord
from nnunet_cascade.case_folders.lock import Part, hold_folder
from nnunet_cascade.case_folders.records import (
    CaseFingerprint,
    read_finished,
    record_path,
    remove_recorded,
    write_record,
)
from nnunet_cascade.case_folders.run_report import CaseLine, RunContext, RunReport, run_files, write_run
from nnunet_cascade.errors import InputImageError, one_line
from nnunet_cascade.files import input_checksums, sweep_unfinished
from nnunet_cascade.images import ENDING

_log = logging.getLogger(__name__)
_RESERVED = re.compile(r"(run|summary)(_part\d+)?|dataset|anatomy|tuning|lung_masks|dicom_export", re.IGNORECASE)
_PROBE = ".probe"
Status = Literal["done", "skipped", "failed"]
_Case = TypeVar("_Case")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a case.

    Attributes:
        case: Its name.
        status: "skipped" where an earlier run had done it.
        record: What its file holds; None where it failed.
        error: Why it failed, or "".
    """

    case: str
    status: Status
    record: CaseRecord | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderTask:
    """What is done to each case of a folder.

    Attributes:
        output: Folder for the results.
        settings: As plain values.
        work: Writes the files of a case and gives its record, which names them under "files".
        inputs: Gives the files a case is made from, or folders of them; default its own file.
        resume: Whether cases are left out whose record holds the same settings and the same files.
    """

    output: Path
    settings: Mapping[str, Any]
    work: Callable[[str, Path], CaseRecord]
    inputs: Callable[[str, Path], Iterable[Path]] = lambda _case, path: (path,)
    resume: bool = False


def part_of(cases: Mapping[str, _Case], share: Part) -> dict[str, _Case]:
    """Return every `num_parts`-th case, beginning with number `part_id`, as nnU-Net shares out work.

    Raises:
        InputImageError: As `require_distinct_files`.
    """
    require_distinct_files(cases)
    return {name: cases[name] for name in sorted(cases)[share.part_id :: share.num_parts]}


def prepare_output(folder: Path) -> None:
    """Make the output folder and try that it can be written.

    Raises:
        InputImageError: It cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputImageError(f"output folder {folder} cannot be written ({error.strerror}); choose another") from error
    require_writable(folder)


def require_writable(folder: Path) -> None:
    """Raise unless files can be made in a folder; one that is gone is not made again.

    Raises:
        InputImageError: They cannot.
    """
    probe = folder / f".{os.getpid()}.{uuid.uuid4().hex}{_PROBE}"  # processes of two machines may have one number
    try:
        probe.touch()
        probe.unlink(missing_ok=True)
    except FileNotFoundError as error:
        raise InputImageError(f"output folder {folder} is gone; see where it went, and run again") from error
    except OSError as error:
        raise InputImageError(f"output folder {folder} cannot be written ({error.strerror}); choose another") from error


@contextmanager
def open_folder(folder: Path, share: Part, cases: Iterable[str]) -> Generator[None, None, None]:
    """Make an output folder, keep other runs off it, and clear it of files that a killed run left unfinished.

    `cases` are those of this run: unfinished files of others are another part's, which may be at work.

    Raises:
        InputImageError: The folder cannot be written, or two cases would have a file of the same name.
        RunError: Another run is at work there.
    """
    own, stories = frozenset(cases), {path.name for path in run_files(folder, share)}
    require_distinct_files(own)
    prepare_output(folder)

    def ours(name: str) -> bool:
        return name in stories or name.endswith(_PROBE) or _cases_of(name, own)

    with hold_folder(folder, share):
        try:
            sweep_unfinished(folder, ours)
            yield
        finally:
            sweep_unfinished(folder, ours)


def _cases_of(name: str, cases: frozenset[str]) -> bool:
    """Tell whether a file is one of those that some cases have."""
    stem = name.removesuffix(".json") if name.endswith(".json") else name.removesuffix(ENDING)
    return stem in cases or any(stem.endswith(suffix) and stem.removesuffix(suffix) in cases for suffix in MAPS)


def run_cases(cases: Mapping[str, Path], task: FolderTask) -> Iterator[Outcome]:
    """Do a task to each case and write its record last.

    Yields:
        The outcome of each case, as soon as it is known. An earlier run's record and files are removed before a case is
        done, so that a record stands beside whole files only and no mask is left of a case that failed.
    """
    for case, path in cases.items():
        try:
            require_case_name(case)
            made_from = CaseFingerprint(settings=task.settings, inputs=input_checksums(task.inputs(case, path)))
            finished = read_finished(task.output, case, made_from) if task.resume else None
            if finished is not None:
                yield Outcome(case=case, status="skipped", record=finished)
                continue
            remove_recorded(task.output, case)
            record = write_record(task.output, task.work(case, path), made_from)
            yield Outcome(case=case, status="done", record=record)
        except Exception as error:  # noqa: BLE001 - whatever one case does, the others go on
            yield Outcome(case=case, status="failed", error=log_case_error(case, error))


def require_distinct_files(cases: Iterable[str]) -> None:
    """Raise where a case is called as a map that is written beside another one's mask.

    Raises:
        InputImageError: Each would overwrite a file of the other.
    """
    names = frozenset(cases)
    clashes = sorted((name + suffix, name) for name in names for suffix in MAPS if name + suffix in names)
    if clashes:
        longer, case = clashes[0]
        more = f", and {len(clashes) - 1} more such cases" if len(clashes) > 1 else ""
        raise InputImageError(
            f"the case {longer} has the name of a file that is written for the case {case}{more}; rename its image, "
            "or move it away if it is a map and no image"
        )


def remove_case(folder: Path, case: str) -> None:
    """Remove what an earlier run wrote for a case, its record first."""
    record_path(folder, case).unlink(missing_ok=True)
    for suffix in ("", *MAPS):
        (folder / f"{case}{suffix}{ENDING}").unlink(missing_ok=True)
    for name in ("*.dcm", "summary.json"):  # made from the maps, which are gone
        for path in (folder / "dicom" / case).glob(name):
            path.unlink(missing_ok=True)


def require_case_name(case: str) -> None:
    """Raise where a case is called as a file of the run.

    Raises:
        InputImageError: Its record would be overwritten by that file.
    """
    if _RESERVED.fullmatch(case):
        raise InputImageError(f"a case called {case} would share {case}.json with the run itself; rename its files")


def log_case_error(case: str, error: Exception) -> str:
    """Log why a case failed; gives it in one line."""
    message = one_line(error)
    _log.debug("%s", case, exc_info=error)
    _log.error("%s: %s", case, message)
    return message


def write_run_report(
    outcomes: Sequence[Outcome],
    task: FolderTask,
    context: RunContext,
    figures: Callable[[CaseRecord], Mapping[str, Any]],
) -> Path:
    """Write `run.json`, the story of a run, and `summary.csv`, a line per case; gives the path of `run.json`.

    `figures` gives what both files tell of a case with a record.
    """
    lines = [_line(outcome, figures) for outcome in outcomes]
    return write_run(lines, RunReport(output=task.output, context=context, settings=task.settings, total=len(outcomes)))


def _line(outcome: Outcome, figures: Callable[[CaseRecord], Mapping[str, Any]]) -> CaseLine:
    return CaseLine(
        case=outcome.case,
        status="failed" if outcome.record is None else "done",
        figures={} if outcome.record is None else figures(outcome.record),
        error=outcome.error,
        earlier=outcome.status == "skipped",
    )
