"""A folder of cases, one after the other: a bad one is named and passed over, nothing is done twice."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nnunet_cascade.errors import InputImageError
from nnunet_cascade.files import write_json, write_text
from nnunet_cascade.images import ENDING
from nnunet_cascade.versions import NOTICE, versions

_log = logging.getLogger(__name__)
_BLOCK_BYTES = 1 << 20

CHANNEL = "_0000"
MAPS = ("_probability", "_uncertainty", "_roi", "_stage1", "_stage1_uncertainty", "_candidates", "_lungs")
"""Endings of what a cascade writes beside the label map of a case."""
_RESERVED = re.compile(r"(run|summary)(_part\d+)?|dataset|anatomy|tuning|lung_masks", re.IGNORECASE)
_OTHER_CHANNEL = re.compile(r"_(?!0000)\d{4}$")
Status = Literal["done", "skipped", "failed"]
Record = dict[str, Any]
"""What is known of a case, as its JSON file holds it."""
Prints = list[list[str]]
"""Name and checksum of each file a case is made from."""


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
    record: Record | None = None
    error: str = ""


def _itself(_case: str, path: Path) -> Iterable[Path]:
    return (path,)


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderTask:
    """What is done to each case of a folder.

    Attributes:
        output: Folder for the results.
        settings: As plain values.
        work: Writes the files of a case and gives its record, which names them under "files".
        inputs: Gives the files a case is made from, or folders of them; default its own file.
        skip_done: Whether cases are left out whose record holds the same settings and the same files.
    """

    output: Path
    settings: Mapping[str, Any]
    work: Callable[[str, Path], Record]
    inputs: Callable[[str, Path], Iterable[Path]] = _itself
    skip_done: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStory:
    """What is known of a run besides its cases.

    Attributes:
        begun: When it began, in seconds since 1970.
        command: Its arguments.
        part: Ending of the run's files where several runs share the cases, or "".
    """

    begun: float
    command: tuple[str, ...] = ()
    part: str = ""


def find_images(inputs: Path) -> dict[str, Path]:
    """List the images of a folder, or the one of a file, by case.

    `<case>_0000.nii.gz` is nnU-Net's name; without the channel the file's stem is the case.

    Raises:
        InputImageError: There is no such file, no image in the folder, a second channel
            beside the first, or two files of one case.
    """
    cases: dict[str, Path] = {}
    for path in _listed(inputs, expected=f"<case>{CHANNEL}{ENDING}"):
        stem = _stem(path)
        name = stem.removesuffix(CHANNEL)
        if _OTHER_CHANNEL.search(stem) and path.with_name(f"{stem[: -len(CHANNEL)]}{CHANNEL}{ENDING}").is_file():
            raise InputImageError(f"{path} is a second channel; expected one channel per case, the CT, as <case>_0000")
        if name in cases:
            raise InputImageError(f"{path} and {cases[name]} are the same case {name}; keep one of them")
        cases[name] = path
    return cases


def find_masks(inputs: Path) -> dict[str, Path]:
    """List the label maps `<case>.nii.gz` of a folder, or the one of a file, by case.

    What a cascade writes beside a label map and its record, such as `<case>_probability.nii.gz`, is none.

    Raises:
        InputImageError: There is no such file, or none in the folder.
    """
    found = {_stem(path): path for path in _listed(inputs, expected=f"<case>{ENDING}")}
    predicted = [case for case, path in found.items() if record_path(path.parent, case).is_file()]
    beside = {case + suffix for case in predicted for suffix in MAPS}
    return {case: path for case, path in found.items() if case not in beside}


def _stem(path: Path) -> str:
    return path.name.removesuffix(ENDING) if path.name.endswith(ENDING) else path.stem


def _listed(inputs: Path, *, expected: str) -> list[Path]:
    if inputs.is_file():
        return [inputs]
    if not inputs.is_dir():
        raise InputImageError(f"{inputs} does not exist; expected a folder of {expected} or one such file")
    found = sorted(path for path in inputs.glob(f"*{ENDING}") if not path.name.startswith("."))
    if not found:
        raise InputImageError(f"{inputs} holds no *{ENDING}; expected images named {expected}")
    return found


def part_of(cases: Mapping[str, Path], *, num_parts: int, part_id: int) -> dict[str, Path]:
    """Give every `num_parts`-th case, beginning with number `part_id`, as nnU-Net shares out work."""
    return {name: cases[name] for name in sorted(cases)[part_id::num_parts]}


def prepare_output(folder: Path) -> None:
    """Make the output folder and try that it can be written.

    Raises:
        InputImageError: It cannot.
    """
    probe = folder / f".{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputImageError(f"output folder {folder} cannot be written ({error.strerror}); choose another") from error


def run_cases(cases: Mapping[str, Path], task: FolderTask) -> Iterator[Outcome]:
    """Do a task to each case and write its record last.

    Yields:
        The outcome of each case, as soon as it is known. An earlier run's record and
        files are removed before a case is done, so that a record stands beside whole files
        only and no mask is left of a case that failed.
    """
    for case, path in cases.items():
        try:
            require_case_name(case)
            prints = fingerprints(task.inputs(case, path))
            finished = read_finished(task.output, case, task.settings, prints) if task.skip_done else None
            if finished is not None:
                yield Outcome(case=case, status="skipped", record=finished)
                continue
            _remove(task.output, case)
            record = write_record(task.output, case, task.work(case, path), task.settings, prints)
            yield Outcome(case=case, status="done", record=record)
        except Exception as error:  # noqa: BLE001 - whatever one case does, the others go on
            yield Outcome(case=case, status="failed", error=told(case, error))


def require_case_name(case: str) -> None:
    """Raise where a case is called as a file of the run.

    Raises:
        InputImageError: Its record would be overwritten by that file.
    """
    if _RESERVED.fullmatch(case):
        raise InputImageError(f"a case called {case} would share {case}.json with the run itself; rename its files")


def fingerprints(paths: Iterable[Path]) -> Prints:
    """Give name and checksum (CRC-32 of the bytes) of files, and of those in folders; those that are missing have none.

    Raises:
        InputImageError: A file cannot be read.
    """
    files = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    return [[file.name, _checksum(file)] for file in files]


def _checksum(path: Path) -> str:
    value = 0
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                value = zlib.crc32(block, value)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise InputImageError(f"{path} cannot be read ({error.strerror}); check the file") from error
    return f"{value:08x}"


def _remove(folder: Path, case: str) -> None:
    """Remove the record of a case, then the files it names."""
    path = record_path(folder, case)
    try:
        names = [Path(name).name for name in json.loads(path.read_text(encoding="utf-8"))["files"]]
    except (OSError, ValueError, KeyError, TypeError):
        names = []
    path.unlink(missing_ok=True)
    for name in names:
        (folder / name).unlink(missing_ok=True)


def told(case: str, error: Exception) -> str:
    """Log why a case failed; gives it in one line."""
    message = " ".join(str(error).split()) or type(error).__name__
    _log.debug("%s", case, exc_info=error)
    _log.error("%s: %s", case, message)
    return message


def record_path(folder: Path, case: str) -> Path:
    """Give the path of a case's record."""
    return folder / f"{case}.json"


def write_record(
    folder: Path, case: str, content: Record, settings: Mapping[str, Any], inputs: Prints | None = None
) -> Record:
    """Write the record of a case, and give it as it stands there; what varies from run to run is in `varying` alone."""
    made_from = {} if inputs is None else {"inputs": inputs}
    record = _as_json(
        {"case": case, "notice": NOTICE, **content, **made_from, "settings": settings, "versions": versions()}
    )
    write_json(record_path(folder, case), record)
    return record


def read_finished(folder: Path, case: str, settings: Mapping[str, Any], inputs: Prints | None = None) -> Record | None:
    """Give the record of a case made with the same settings, whose files are there; else None.

    Args:
        folder: Where it was written.
        case: The case's name.
        settings: As plain values.
        inputs: The files it is made from now, which must be those it was made from; None asks nothing.
    """
    try:
        record = json.loads(record_path(folder, case).read_text(encoding="utf-8"))
        same = record["settings"] == _as_json(settings) and (inputs is None or record["inputs"] == inputs)
        there = all((folder / name).is_file() for name in record["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if same and there else None


def _as_json(settings: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(settings))


def write_run(
    outcomes: Sequence[Outcome], task: FolderTask, story: RunStory, figures: Callable[[Record], Mapping[str, Any]]
) -> Path:
    """Write `run.json`, the story of a run, and `summary.csv`, a line per case.

    Args:
        outcomes: Of all cases.
        task: What was done.
        story: What else is known.
        figures: Gives what both files tell of a case with a record.

    Returns:
        The path of `run.json`.
    """
    rows = [_row(outcome, figures) for outcome in outcomes]
    content: dict[str, Any] = {
        "notice": NOTICE,
        "cases": {row["case"]: {name: value for name, value in row.items() if name != "case"} for row in rows},
        "counts": {status: sum(o.status == status for o in outcomes) for status in ("done", "skipped", "failed")},
        "settings": _as_json(task.settings),
        "versions": versions(),
        "varying": varying(story),
    }
    path = task.output / f"run{story.part}.json"
    write_json(path, content)
    _write_csv(rows, task.output / f"summary{story.part}.csv")
    return path


def varying(story: RunStory) -> dict[str, Any]:
    """Give what differs from run to run, for its JSON file."""
    return {
        "command": list(story.command),
        "seconds": round(time.time() - story.begun, 1),
        "begun": time.strftime("%FT%TZ", time.gmtime(story.begun)),
    }


def _row(outcome: Outcome, figures: Callable[[Record], Mapping[str, Any]]) -> dict[str, Any]:
    row: dict[str, Any] = {"case": outcome.case, "status": outcome.status}
    if outcome.record is not None:
        row.update(figures(outcome.record))
    return {**row, "error": outcome.error} if outcome.error else row


def _write_csv(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    columns = [*dict.fromkeys(name for row in rows for name in row if name != "error"), "error"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})
    write_text(path, text.getvalue())


def _cell(value: Any) -> Any:
    if isinstance(value, Mapping):
        return " ".join(f"{name}:{count}" for name, count in value.items())
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
