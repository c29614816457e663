"""The paper's tables with ours beside them, as Markdown and JSON."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnunet_cascade.case_folders.run_report import RunContext, varying
from nnunet_cascade.errors import CascadeError
from nnunet_cascade.evaluation.calibration.comparison import calibration_table
from nnunet_cascade.evaluation.calibration.regions import REGIONS as REGION_DEFINITIONS
from nnunet_cascade.evaluation.calibration.reliability import draw_reliability
from nnunet_cascade.evaluation.comparison import GAIN_DEFINITION
from nnunet_cascade.evaluation.mask_pair import EMPTY_POLICY
from nnunet_cascade.evaluation.metric_info import metric_info, without_nan
from nnunet_cascade.evaluation.statistics.bootstrap import BOOTSTRAP_DEFINITION
from nnunet_cascade.evaluation.tables import Published, correlation_parts, group_parts, overview_table
from nnunet_cascade.files import write_json, write_text
from nnunet_cascade.reproduction.cases import EvaluationSplit
from nnunet_cascade.reproduction.claims import RULE, ClaimResult, Outcome, corrected
from nnunet_cascade.reproduction.evaluation import TableResult
from nnunet_cascade.reproduction.request import ReproductionRequest, share_of_steps
from nnunet_cascade.reproduction.tables import Row, systems_of
from nnunet_cascade.reproduction.training import Training, trainings
from nnunet_cascade.reproduction.uncertainty_quality import UncertaintyQuality, uncertainty_section
from nnunet_cascade.settings.serialization import to_json
from nnunet_cascade.versions import NOTICE, versions

_log = logging.getLogger(__name__)
PAPER = (
    "Figures of the paper are those it prints, on its private Orlando data unless a row says otherwise, on about 17 "
    "cases without intervals; its HD95 is by its published code the Hausdorff distance itself and stands beside ours. "
    "The tolerance of its boundary Dice is not known. They show direction and size, and must not be ranked with ours."
)
PHANTOM_NOTE = (
    "These are computer-drawn phantoms and networks trained for minutes: the run shows that the experiment works and "
    "what it says on phantoms. It says nothing of patients."
)
_BASELINES = {
    "full": (
        "The plain nnU-Net is nnU-Net's own trainer on its own 3d_fullres plans, unmodified: as many steps per fold as "
        "each of the cascade's two stages, so half of their sum."
    ),
    "tiny": (
        "The plain nnU-Net has nnU-Net's network, loss and augmentation; the unmodified trainer cannot be shortened to "
        "minutes on a CPU. It is trained with AdamW and without mirroring, as the cascade is, on as many voxels with "
        "gradient as both stages of all folds together, in fewer and larger steps; where test cases are held out, as "
        "one model of all training cases, which does better than a model per fold. The adaptive loss's other passes "
        "have no gradient and are not counted."
    ),
}
_OUTCOMES: dict[Outcome, str] = {
    "holds": "holds here",
    "contradicted": "contradicted here",
    "undecided": "undecided here",
    "too_few": "undecided here for want of cases that differ",
    "untested": "could not be tested here",
}
_REGION_NOTE = (
    "Voxels that stage 2 did not look at count with p = 0. The union is each row's own, the band at the true surface "
    "the same for all; both are on the cases that all rows have."
)
_PAPER_METRICS = ("dice", "hd95_mm", "hd_mm", "nsd_2mm", "false_positive_components")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDescription:
    """What was tested besides the tables.

    Attributes:
        parts: The cases.
        worth: What the uncertainty is worth, or why that could not be told; None where it was not asked.
    """

    parts: Sequence[EvaluationSplit]
    worth: UncertaintyQuality | str | None = None


def write_report(
    request: ReproductionRequest, tables: Sequence[TableResult], tried: RunDescription, story: RunContext
) -> Path:
    """Write `reproduction.md` and `reproduction.json`.

    Returns:
        The page.
    """
    page = request.folder / "reproduction.md"
    write_text(page, report_page(request, tables, tried))
    content: dict[str, Any] = {
        "notice": NOTICE,
        "settings": {**to_json(request), "tables": [table.number for table in request.tables]},
        "uncertainty": without_nan(asdict(tried.worth)) if isinstance(tried.worth, UncertaintyQuality) else tried.worth,
        "tables": {judged.table.number: _table_content(judged) for judged in tables},
        "versions": versions(),
        "varying": varying(story),
    }
    write_json(request.folder / "reproduction.json", content)
    _draw(request, tables)
    return page


def _draw(request: ReproductionRequest, tables: Sequence[TableResult]) -> None:
    """Draw the reliability diagrams, where matplotlib is there."""
    for judged in tables:
        for region, curves in judged.reliability.items():
            title = f"Table {judged.table.number}, {region}"
            try:
                draw_reliability(curves, request.folder / diagram_name(judged, region), title=title)
            except CascadeError as error:
                _log.warning("%s", error)


def diagram_name(judged: TableResult, region: str) -> str:
    """Name the picture of a table's reliability in a region."""
    return f"reliability_{judged.table.number}_{region}.png"


def report_page(request: ReproductionRequest, tables: Sequence[TableResult], tried: RunDescription) -> str:
    """Return the page that ends in a newline."""
    lines = [
        f"# The paper's tables on {'phantoms' if request.dataset is None else f'dataset {request.dataset}'}",
        "",
        f"{NOTICE} {_tested(request, tried.parts)}",
        "",
        *([PHANTOM_NOTE, ""] if request.dataset is None else []),
        PAPER,
        "",
        "## What became of the claims",
        "",
        *_claim_lines(tables),
    ]
    body = "\n".join(lines)
    sections = [_section(request, judged) for judged in tables]
    if isinstance(tried.worth, str):
        sections.append(f"What the uncertainty is worth was not measured: {tried.worth}.")
    elif tried.worth is not None:
        sections.append(uncertainty_section(tried.worth))
    trained = "\n".join(["## What was trained", "", *_trained_lines(request)])
    defined = [f"- {info.heading}: {info.definition}" for info in map(metric_info, _PAPER_METRICS)]
    defined += [f"- Intervals: {BOOTSTRAP_DEFINITION}.", f"- Drops and gains: {GAIN_DEFINITION}."]
    return "\n\n".join([body, *sections, trained, "## Definitions", "\n".join([*defined, f"- {EMPTY_POLICY}"])]) + "\n"


def _trained_lines(request: ReproductionRequest) -> list[str]:
    data = f"{request.phantoms[0]} phantoms" if request.dataset is None else f"dataset {request.dataset}"
    crops = (
        "Stage 2 of preset paper on crops around true tumors, which stand still; of preset recommended on crops around "
        f"stage 1's out-of-fold predictions, with jitter. Stage 1 is that of preset {request.preset}."
    )
    return [
        f"All on {data}, every model once per fold, each fold leaving out its share. {crops}",
        "",
        *(f"- {training.title}: {training.models} × {training.iterations} steps" for training in trainings(request)),
        "",
        _BASELINES[request.size],
    ]


def _tested(request: ReproductionRequest, parts: Sequence[EvaluationSplit]) -> str:
    cases = sum(len(part.labels) for part in parts)
    how = "held out from all training" if parts[0].held_out else "each by models of the fold that left it out"
    other = request.test_dataset
    where = "the same data set" if other is None else f"dataset {other}, another cohort"
    return (
        f"Size {request.size}, preset {request.preset}, {request.folds} folds, seed {request.seed}. "
        f"{cases} test cases of {where}, {how}."
    )


def _claim_lines(tables: Sequence[TableResult]) -> list[str]:
    lines = ["| table | claim | metric | found | n | p; Holm | outcome |", "|---|---|---|---:|---:|---:|---|"]
    numbers = [judged.table.number for judged in tables for _ in judged.claims]
    claims = corrected([claim for judged in tables for claim in judged.claims])
    lines += [_claim_row(number, claim) for number, claim in zip(numbers, claims, strict=True)]
    counts: Counter[Outcome] = Counter(claim.outcome for claim in claims)
    told = ", ".join(f"{count} {_OUTCOMES[outcome]}" for outcome, count in sorted(counts.items()))
    return [*lines, "", f"{told}. {RULE}"]


def _claim_row(number: str, judged: ClaimResult) -> str:
    claim = judged.claim
    how = "correlation above 0" if claim.of_correlation else claim.expected
    text = f"{claim.text} ({claim.first} against {claim.second}: {how})"
    figure = "–"
    if not math.isnan(judged.difference):
        interval = "" if judged.interval is None else f" [{judged.interval[0]:+.3f}, {judged.interval[1]:+.3f}]"
        figure = f"{judged.difference:+.3f}{interval}"
    p = "–" if math.isnan(judged.p) else f"{judged.p:.3f}; {judged.p_holm:.3f}"
    return f"| {number} | {text} | {claim.metric} | {figure} | {judged.cases} | {p} | {_OUTCOMES[judged.outcome]} |"


def _section(request: ReproductionRequest, judged: TableResult) -> str:
    table = judged.table
    parts = [f"## Table {table.number}: {table.title}"]
    comparison = judged.comparison
    if comparison is not None:
        parts.append(overview_table(comparison, metrics=_PAPER_METRICS, published=_published(table.rows)).rstrip("\n"))
        if table.groups:
            parts += group_parts(comparison)
            parts += [part for other in comparison.contrasts for part in correlation_parts(comparison, other)]
    if judged.component_reduction is not None:
        parts += correlation_parts(judged.component_reduction, table.rows[-2].label)
    parts += [table.printed] if table.printed else []
    parts += [_REGION_NOTE] if judged.calibration else []
    for region, found in judged.calibration.items():
        parts += [f"### Calibration: {REGION_DEFINITIONS[region]}", calibration_table(found).rstrip("\n")]
        parts.append(f"![Reliability]({diagram_name(judged, region)})")
    trained = [row for row in table.rows if row.system.kind != "baseline"]
    short = {row.label: each for row in trained if (each := share_of_steps(request, row.system.model.backbone)) < 1}
    if short:
        told = ", ".join(f"{label} ({share:.0%})" for label, share in short.items())
        parts.append(f"Undertrained, for CPUs, with so much of the others' steps: {told}.")
    parts += [f"{label}: {why}." for label, why in judged.missing.items()]
    return "\n\n".join(parts)


def _published(rows: Sequence[Row]) -> Published:
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.paper is not None:
            paper = row.paper
            figures = {"dice": paper.dice, "hd_mm": paper.hd95_mm, "nsd_2mm": paper.boundary_dice}
            found[row.label] = {name: value for name, value in figures.items() if value is not None}
    return found


def _table_content(judged: TableResult) -> dict[str, Any]:
    return {
        "title": judged.table.title,
        "rows": {
            row.label: {"system": row.system.key, "paper": row.paper and asdict(row.paper)} for row in judged.table.rows
        },
        "comparison": None if judged.comparison is None else judged.comparison.to_json(),
        "fewer_components": None if judged.component_reduction is None else judged.component_reduction.to_json(),
        "calibration": {region: without_nan(asdict(found)) for region, found in judged.calibration.items()},
        "reliability": {
            region: {label: [without_nan(asdict(point)) for point in points] for label, points in curves.items()}
            for region, curves in judged.reliability.items()
        },
        "claims": [without_nan(asdict(claim)) for claim in judged.claims],
        "missing": dict(judged.missing),
    }


def cost_page(request: ReproductionRequest, todo: Sequence[Training]) -> str:
    """Say what a run will cost before it starts: trainings, steps, predictions."""
    systems = len(systems_of(request.tables))
    held_out = f"{request.phantoms[1]} phantoms" if request.dataset is None else "every test case"
    total = sum(training.models * training.iterations for training in todo)
    trained = [f"  {training.title}: {training.models} models × {training.iterations} steps" for training in todo]
    return "\n".join(
        (
            f"{len(request.tables)} tables need {len(todo)} trainings and {systems} systems on {held_out}:",
            *trained,
            f"{total} steps in all; what an earlier run did in {request.folder} is not done again.",
        )
    )
