"""What a run leaves about itself: `run.json`, its story, and `summary.csv`, a line per case."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nnunet_cascade.case_folders.lock import Part
from nnunet_cascade.files import write_json, write_text
from nnunet_cascade.versions import NOTICE, versions


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """What is known of a run besides its cases.

    Attributes:
        begun: When it began, in seconds since 1970.
        command: Its arguments.
        share: Which of the cases it does.
    """

    begun: float
    command: tuple[str, ...] = ()
    share: Part = field(default_factory=Part)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseLine:
    """What a run's files tell of a case.

    Attributes:
        case: Its name.
        status: Whether its record and files are there, whichever run made them.
        figures: Of the case, by name; none where it failed.
        error: Why it failed, or "".
        earlier: Whether an earlier run did it.
    """

    case: str
    status: Literal["done", "failed"]
    figures: Mapping[str, Any] = field(default_factory=dict[str, Any])
    error: str = ""
    earlier: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return what `run.json` holds of it."""
        return {"status": self.status, **self.figures, **({"error": self.error} if self.error else {})}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """What a run's files tell besides its cases.

    Attributes:
        output: Folder of the results.
        context: Of the run.
        settings: As plain values.
        total: Number of cases it has to do.
        made_with: Further values that decide the results, such as the models' checksums.
        varying: Further values that differ from run to run.
    """

    output: Path
    context: RunContext
    settings: Mapping[str, Any]
    total: int
    made_with: Mapping[str, Any] = field(default_factory=dict[str, Any])
    varying: Mapping[str, Any] = field(default_factory=dict[str, Any])


def write_run(lines: Sequence[CaseLine], report: RunReport) -> Path:
    """Write `run.json` and `summary.csv`, or those of a part.

    But for `varying` they are the same whether one run did all cases or several did, one after the other.

    Args:
        lines: Of the cases that are through, in the order of the names.
        report: What else is told.

    Returns:
        The path of `run.json`.
    """
    share = report.context.share
    counts = {status: sum(line.status == status for line in lines) for status in ("done", "failed")}
    content: dict[str, Any] = {
        "notice": NOTICE,
        "num_parts": share.num_parts,
        "part_id": share.part_id,
        "cases": {line.case: line.to_json() for line in lines},
        "counts": {**counts, "left": report.total - len(lines)},
        "settings": json.loads(json.dumps(report.settings)),
        **report.made_with,
        "versions": versions(),
        "varying": {
            **varying(report.context),
            "skipped": [line.case for line in lines if line.earlier],
            **report.varying,
        },
    }
    path, summary = run_files(report.output, share)
    _write_csv(lines, summary)
    write_json(path, content)
    return path


def run_files(output: Path, share: Part) -> tuple[Path, Path]:
    """Return the paths of a run's story and of its table."""
    return output / f"run{share.ending}.json", output / f"summary{share.ending}.csv"


def varying(context: RunContext) -> dict[str, Any]:
    """Return what differs from run to run, for its JSON file."""
    return {
        "command": list(context.command),
        "seconds": round(time.time() - context.begun, 1),
        "begun": time.strftime("%FT%TZ", time.gmtime(context.begun)),
    }


def _write_csv(lines: Sequence[CaseLine], path: Path) -> None:
    rows = [{"case": line.case, **line.to_json()} for line in lines]
    columns = [*dict.fromkeys(["case", "status", *(name for row in rows for name in row if name != "error")]), "error"]
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
