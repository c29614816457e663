"""What methods score over many cases: a table to read, and the files `scores.csv` and `scores.json`."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation.case import DERIVED, CaseScore
from nnunet_cascade.evaluation.definitions import DEFINITIONS, NSD_DEFINITION
from nnunet_cascade.evaluation.lesions import LesionShares
from nnunet_cascade.evaluation.mask_pair import EMPTY_POLICY
from nnunet_cascade.evaluation.metric_info import in_order, score_values, without_nan
from nnunet_cascade.files import write_json, write_text

Summary = Mapping[str, Any]
"""What a method scores over all its cases, by name; `summarize` says what the names mean."""
_COLUMNS = (
    "Method",
    "n",
    "Dice, mean (n)",
    "Dice 0",
    "HD95, mean mm (n)",
    "HD95, median mm",
    "ASSD, mean mm",
    "NSD 2 mm",
    "NSD 3 mm",
    "Volume error, mean ml",
    "one mask empty",
    "Lesion recall",
    "precision",
    "F1",
    "False positives",
    "per case",
)
_MEANS = {
    "dice_mean": "dice",
    "hd95_mean_mm": "hd95_mm",
    "hd95_pooled_mean_mm": "hd95_pooled_mm",
    "hd_mean_mm": "hd_mm",
    "assd_mean_mm": "assd_mm",
    "nsd_1mm_mean": "nsd_1mm",
    "nsd_2mm_mean": "nsd_2mm",
    "nsd_3mm_mean": "nsd_3mm",
}
"""Means over the cases that are defined, by the figure of a case that they are of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreLine:
    """A line of `scores.csv`.

    Attributes:
        method: The method's name.
        case: The case's name.
        status: What became of it, such as "done".
        values: Metrics by name; NaN for what is undefined. Empty if it was not scored.
        error: Why it was not scored, or "".
    """

    method: str
    case: str
    status: str
    values: Mapping[str, float]
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lesions(LesionShares):
    """Lesions and components of all cases, each counting once whatever its case."""

    lesions: int
    lesions_found: int
    predicted_components: int
    predicted_components_true: int


def summarize(method: str, scores: Sequence[CaseScore]) -> Summary:
    """Summarize the scores of one method.

    Args:
        method: The method's name.
        scores: Of its cases, at least one; each case once.

    Returns:
        Means and the median over the defined cases, NaN if there is none; volume errors over all
        cases. `undefined_cases` have both masks empty, `one_empty_cases` one mask, `zero_dice_cases`
        a Dice of 0, one mask empty or not. Counts of lesions and components are sums over all
        cases, and recall, precision and F1 follow from them.

    Raises:
        SettingsError: There is no score, or a case is scored twice.
    """
    names = [score.case for score in scores]
    if not names:
        raise SettingsError(f"{method}: found no case; a summary needs at least one")
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise SettingsError(f"{method}: cases scored twice: {', '.join(twice)}; give each case once")
    defined = [score for score in scores if score.empty != "both"]
    lesions = _Lesions(**{name: _total(scores, name) for name in _Lesions.__slots__})
    false_positives = _total(scores, "false_positive_components")
    return {
        "method": method,
        "cases": len(scores),
        "undefined_cases": len(scores) - len(defined),
        "one_empty_cases": sum(score.empty in {"truth", "prediction"} for score in scores),
        "zero_dice_cases": sum(score.dice == 0 for score in defined),
        **{name: _mean(getattr(score, figure) for score in defined) for name, figure in _MEANS.items()},
        "hd95_median_mm": median(score.hd95_mm for score in defined) if defined else math.nan,
        "volume_error_mean_ml": _mean(score.volume_error_ml for score in scores),
        "volume_error_mean_absolute_ml": _mean(abs(score.volume_error_ml) for score in scores),
        **asdict(lesions),
        "false_positive_components": false_positives,
        "false_positive_ml": math.fsum(score.false_positive_ml for score in scores),
        "defined_cases": len(defined),
        **{name: getattr(lesions, name) for name in DERIVED},
        "false_positives_per_case": false_positives / len(scores),
    }


def format_table(rows: Sequence[Summary]) -> str:
    """Set methods side by side in a Markdown table, its definitions underneath.

    Args:
        rows: In the order of the table. May be empty: a table of headings.

    Returns:
        Lines that end in a newline. What is undefined stands as –.
    """
    head = ["| " + " | ".join(_COLUMNS) + " |", "|---|" + "---:|" * (len(_COLUMNS) - 1)]
    body = ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    notes = [
        "",
        f"HD95: {DEFINITIONS['hd95_mm']}. {EMPTY_POLICY}",
        f"ASSD: {DEFINITIONS['assd_mm']}. NSD: {NSD_DEFINITION}.",
        f"Lesions and false positives: {DEFINITIONS['lesions']}.",
    ]
    return "\n".join([*head, *body, *notes]) + "\n"


def write_scores(scores: Mapping[str, Sequence[CaseScore]], folder: Path) -> None:
    """Write `scores.csv` and then `scores.json`; each appears whole or not at all.

    Args:
        scores: By method, in the order of the files.
        folder: It must exist.

    Raises:
        SettingsError: A method has no case, or a case twice.
        OSError: A file cannot be written.
    """
    methods = {
        method: {"summary": summarize(method, cases), "cases": [case.record() for case in cases]}
        for method, cases in scores.items()
    }
    lines = [
        ScoreLine(method=method, case=case.case, status="done", values=score_values(case))
        for method, cases in scores.items()
        for case in cases
    ]
    write_text(folder / "scores.csv", scores_csv(lines))
    write_json(folder / "scores.json", without_nan({"definitions": dict(DEFINITIONS), "methods": methods}))


def scores_csv(lines: Sequence[ScoreLine]) -> str:
    """Return `scores.csv`: method, case, status, metrics and error. What is undefined is `nan`."""
    metrics = in_order({metric for line in lines for metric in line.values})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "case", "status", *metrics, "error"])
    for line in lines:
        writer.writerow(
            [line.method, line.case, line.status, *(_cell(line.values.get(metric)) for metric in metrics), line.error]
        )
    return text.getvalue()


def _cell(value: float | None) -> str:
    return "" if value is None else str(int(value)) if value.is_integer() else repr(value)


def _cells(row: Summary) -> tuple[str, ...]:
    return (
        row["method"].replace("|", "\\|"),
        str(row["cases"]),
        f"{_number(row['dice_mean'], 3)} ({row['defined_cases']})",
        str(row["zero_dice_cases"]),
        f"{_number(row['hd95_mean_mm'], 1)} ({row['defined_cases']})",
        _number(row["hd95_median_mm"], 1),
        _number(row["assd_mean_mm"], 1),
        _number(row["nsd_2mm_mean"], 3),
        _number(row["nsd_3mm_mean"], 3),
        _number(row["volume_error_mean_ml"], 1),
        str(row["one_empty_cases"]),
        f"{_number(row['lesion_recall'], 3)} ({row['lesions_found']}/{row['lesions']})",
        f"{_number(row['lesion_precision'], 3)} ({row['predicted_components_true']}/{row['predicted_components']})",
        _number(row["lesion_f1"], 3),
        str(row["false_positive_components"]),
        _number(row["false_positives_per_case"], 2),
    )


def _total(scores: Sequence[CaseScore], name: str) -> int:
    return sum(getattr(score, name) for score in scores)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return fmean(found) if found else math.nan


def _number(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"
