"""What a FROC leaves next to an evaluation: everything as JSON, a table for spreadsheets, and a picture."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nnunet_cascade.case_folders.run_report import RunContext, varying
from nnunet_cascade.evaluation.findings import Scores
from nnunet_cascade.evaluation.froc import FINDING_DEFINITION, FROC_DEFINITION, RATES, Froc, FrocDifference
from nnunet_cascade.evaluation.froc_figure import draw_froc
from nnunet_cascade.evaluation.statistics.bootstrap import Estimate
from nnunet_cascade.files import write_json, write_text
from nnunet_cascade.versions import NOTICE, versions
from nnunet_cascade.workflows.froc import FrocResult

FROC_FILES = ("froc.json", "froc.csv", "froc.png")
_INTERVALS = (
    "scans are drawn with replacement, the same draws for every method; the interval is between the quantiles of the "
    "redrawn sensitivities; low and high are its ends"
)


def write_froc(result: FrocResult, folder: Path, context: RunContext) -> tuple[Path, ...]:
    """Write `froc.json`, `froc.csv` and `froc.png`, each whole or not at all, and give their paths.

    Without any FROC, those that an earlier evaluation left in the folder are removed, because they are of other files.

    Raises:
        OSError: The folder cannot be written.
    """
    paths = tuple(folder / name for name in FROC_FILES)
    if not result.frocs:
        for path in paths:
            path.unlink(missing_ok=True)
        return ()
    write_json(paths[0], _content(result, context))
    write_text(paths[1], _csv(result))
    draw_froc(result.frocs, paths[2], title=_title(result))
    return paths


def _title(result: FrocResult) -> str:
    one = next(iter(result.frocs.values()))
    return f"FROC of {one.scans} scans with {one.lesions} lesions"


def _content(result: FrocResult, context: RunContext) -> dict[str, Any]:
    return {
        "notice": NOTICE,
        "definitions": {"froc": FROC_DEFINITION, "finding": FINDING_DEFINITION, "intervals": _INTERVALS},
        "resampling": asdict(result.resampling),
        "methods": {name: _froc(each) for name, each in result.frocs.items()},
        "reference": result.reference,
        "differences": {name: _figures(each) for name, each in result.differences.items()},
        "versions": versions(),
        "varying": varying(context),
    }


def _froc(found: Froc) -> dict[str, Any]:
    return {
        "scans": found.scans,
        "scans_with_lesions": found.scans_with_lesions,
        "lesions": found.lesions,
        "lesions_found": found.lesions_found,
        "findings": found.findings,
        "false_positives": found.false_positives,
        **_figures(found),
        "curve": {
            "thresholds": _plain(found.curve.thresholds),
            "false_positives_per_scan": _plain(found.curve.false_positives),
            "sensitivities": _plain(found.curve.sensitivities),
        },
    }


def _figures(found: Froc | FrocDifference) -> dict[str, Any]:
    rates = zip(RATES, found.sensitivities, strict=True)
    return {
        "sensitivities": [{"false_positives_per_scan": rate, **_estimate(each)} for rate, each in rates],
        "mean": _estimate(found.mean),
    }


def _estimate(found: Estimate) -> dict[str, Any]:
    return {
        "value": None if math.isnan(found.value) else found.value,
        "low": None if found.percentile is None else found.percentile.low,
        "high": None if found.percentile is None else found.percentile.high,
        "note": found.note,
    }


def _plain(values: Scores) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]


def _csv(result: FrocResult) -> str:
    """Return a line per method and rate, and one per method for the mean; differences name the reference."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "less", "false_positives_per_scan", "sensitivity", "low", "high"])
    for name, froc in result.frocs.items():
        writer.writerows(_rows(name, "", froc))
    for name, difference in result.differences.items():
        writer.writerows(_rows(name, result.reference, difference))
    return text.getvalue()


def _rows(name: str, less: str, found: Froc | FrocDifference) -> Sequence[Sequence[str]]:
    told = [*zip(map(str, RATES), found.sensitivities, strict=True), ("mean", found.mean)]
    return [[name, less, rate, repr(each.value), *_ends(each)] for rate, each in told]


def _ends(found: Estimate) -> tuple[str, str]:
    interval = found.percentile
    return ("", "") if interval is None else (repr(interval.low), repr(interval.high))
