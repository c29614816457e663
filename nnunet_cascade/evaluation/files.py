"""Scores on disk: as JSON for machines, as CSV for spreadsheets."""

import csv
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from nnunet_cascade.evaluation.case import CaseScore
from nnunet_cascade.evaluation.pairs import EMPTY_POLICY
from nnunet_cascade.evaluation.summary import MethodSummary, summarize
from nnunet_cascade.evaluation.surface import HD95_DEFINITION


def write_scores_json(scores: Mapping[str, Sequence[CaseScore]], path: Path) -> None:
    """Write every method's summary and its cases as JSON; the file appears whole or not at all.

    Args:
        scores: By method, in the order of the file. May be empty: definitions alone.
        path: In a folder that exists. What is undefined is null.

    Raises:
        SettingsError: A method has no case, or a case twice.
        OSError: The file cannot be written.
    """
    content = {
        "definitions": {"hd95_mm": HD95_DEFINITION, "empty": EMPTY_POLICY},
        "methods": {
            method: {"summary": _summary(summarize(method, cases)), "cases": [_plain(asdict(case)) for case in cases]}
            for method, cases in scores.items()
        },
    }
    _write_whole(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_scores_csv(scores: Mapping[str, Sequence[CaseScore]], path: Path) -> None:
    """Write one line per method and case as CSV; the file appears whole or not at all.

    Args:
        scores: By method, in the order of the file. May be empty: a line of headings.
        path: In a folder that exists. What is undefined is `nan`.

    Raises:
        OSError: The file cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, ["method", *(field.name for field in fields(CaseScore))], lineterminator="\n")
    writer.writeheader()
    writer.writerows({"method": method, **asdict(case)} for method, cases in scores.items() for case in cases)
    _write_whole(path, text.getvalue())


def _summary(summary: MethodSummary) -> dict[str, Any]:
    derived = {
        "defined_cases": summary.defined_cases,
        "lesion_recall": summary.lesion_recall,
        "false_positives_per_case": summary.false_positives_per_case,
    }
    return _plain({**asdict(summary), **derived})


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(v, float) and math.isnan(v) else v for name, v in record.items()}


def _write_whole(path: Path, text: str) -> None:
    beside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        beside.write_text(text, encoding="utf-8", newline="")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
