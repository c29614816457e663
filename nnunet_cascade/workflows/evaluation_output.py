"""What an evaluation leaves: a table for spreadsheets, everything as JSON, and pages to read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nnunet_cascade.case_folders.run_report import RunContext, varying
from nnunet_cascade.evaluation.comparison import MethodComparison
from nnunet_cascade.evaluation.metric_info import in_order, metric_info, without_nan
from nnunet_cascade.evaluation.summary import ScoreLine, scores_csv
from nnunet_cascade.evaluation.tables import comparison_page, definitions
from nnunet_cascade.files import write_json, write_text
from nnunet_cascade.versions import NOTICE, versions
from nnunet_cascade.workflows.evaluation import EvaluationRequest, Outcomes

_STATUSES = ("done", "skipped", "missing", "failed")


def write_evaluation(
    request: EvaluationRequest, outcomes: Outcomes, comparison: MethodComparison, context: RunContext
) -> tuple[Path, Path, Path]:
    """Write `scores.csv`, `evaluation.json` and `evaluation.md`; gives their paths."""
    paths = tuple(request.output / name for name in ("scores.csv", "evaluation.json", "evaluation.md"))
    write_text(paths[0], scores_csv(score_lines(outcomes)))
    write_json(paths[1], _content(request, outcomes, comparison, context))
    write_text(paths[2], _page(request, outcomes, comparison))
    return paths[0], paths[1], paths[2]


def score_lines(outcomes: Outcomes) -> list[ScoreLine]:
    """Return every method and case as a line of `scores.csv`."""
    return [
        ScoreLine(method=method, case=case, status=found.status, values=found.values, error=found.error)
        for method in dict.fromkeys(method for of_case in outcomes.values() for method in of_case)
        for case, found in ((case, outcomes[case][method]) for case in sorted(outcomes))
    ]


def _content(
    request: EvaluationRequest, outcomes: Outcomes, comparison: MethodComparison, context: RunContext
) -> dict[str, Any]:
    metrics = in_order({metric for method in comparison.methods.values() for metric in method.metrics})
    return {
        "notice": NOTICE,
        "settings": {
            "truths": str(request.truths),
            "truth_values": list(request.truth_tumor.values),
            "predictions": {
                method.name: {"place": str(method.place), "tumor_values": list(method.tumor.values)}
                for method in request.predictions
            },
        },
        "counts": _counts(request, outcomes),
        "definitions": {
            "metrics": {
                info.name: {"label": info.label, "unit": info.unit, "better": info.goal, "definition": info.definition}
                for info in map(metric_info, metrics)
            },
            "methods": definitions(comparison).splitlines(),
        },
        "comparison": comparison.to_json(),
        "cases": {
            case: {
                method: {
                    "status": outcome.status,
                    **({"values": without_nan(dict(outcome.values))} if outcome.values else {}),
                    **({"error": outcome.error} if outcome.error else {}),
                }
                for method, outcome in outcomes[case].items()
            }
            for case in sorted(outcomes)
        },
        "versions": versions(),
        "varying": varying(context),
    }


def _counts(request: EvaluationRequest, outcomes: Outcomes) -> dict[str, dict[str, int]]:
    return {
        method.name: {
            status: sum(of_case[method.name].status == status for of_case in outcomes.values()) for status in _STATUSES
        }
        for method in request.predictions
    }


def _page(request: EvaluationRequest, outcomes: Outcomes, comparison: MethodComparison) -> str:
    lines = [
        f"# Evaluation: {len(comparison.methods)} methods, {len(outcomes)} cases",
        "",
        f"{NOTICE} What follows says something of these cases, and of others as far as the intervals reach.",
        "",
    ]
    for method in request.predictions:
        for status in ("missing", "failed"):
            cases = [case for case in sorted(outcomes) if outcomes[case][method.name].status == status]
            if cases:
                lines.append(f"- {method.name}: {len(cases)} {status}: {', '.join(cases)}")
    return "\n".join(lines).rstrip() + "\n\n" + comparison_page(comparison)
