"""Scores on disk: as JSON for machines, as CSV for spreadsheets."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from nnunet_cascade.evaluation.case import DERIVED, CaseScore
from nnunet_cascade.evaluation.definitions import DEFINITIONS
from nnunet_cascade.evaluation.summary import summarize
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
        "definitions": dict(DEFINITIONS),
        "methods": {
            method: {
                "summary": _plain(summarize(method, cases).record()),
                "cases": [_plain(case.record()) for case in cases],
            }
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
    columns = ["method", *(field.name for field in fields(CaseScore)), *DERIVED]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({"method": method, **case.record()} for method, cases in scores.items() for case in cases)
    write_text(path, text.getvalue())


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(v, float) and math.isnan(v) else v for name, v in record.items()}
