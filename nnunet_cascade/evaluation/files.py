"""Scores on disk: as JSON for machines, as CSV for spreadsheets."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from nnunet_cascade.evaluation.case import CaseScore
from nnunet_cascade.evaluation.pairs import EMPTY_POLICY
from nnunet_cascade.evaluation.summary import MethodSummary, summarize
from nnunet_cascade.evaluation.surface import HD95_DEFINITION
from nnunet_cascade.files import write_json, write_text


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
    write_json(path, content)


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
    write_text(path, text.getvalue())


def _summary(summary: MethodSummary) -> dict[str, Any]:
    derived = {
        "defined_cases": summary.defined_cases,
        "lesion_recall": summary.lesion_recall,
        "false_positives_per_case": summary.false_positives_per_case,
    }
    return _plain({**asdict(summary), **derived})


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(v, float) and math.isnan(v) else v for name, v in record.items()}
