"""From predictions to figures: scores, calibration, and what becomes of each claim."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nnunet_cascade.case_folders.prediction_files import TumorLabel
from nnunet_cascade.errors import CascadeError
from nnunet_cascade.evaluation.calibration.comparison import CalibrationComparison, compare_methods
from nnunet_cascade.evaluation.calibration.counts import CalibrationCounts, count_voxels
from nnunet_cascade.evaluation.calibration.regions import region_of
from nnunet_cascade.evaluation.calibration.reliability import ReliabilityPoint, reliability_points
from nnunet_cascade.evaluation.comparison import ComparisonSettings, MethodComparison, compare
from nnunet_cascade.evaluation.metric_info import CaseValues
from nnunet_cascade.evaluation.statistics.bootstrap import Resampling
from nnunet_cascade.images import ENDING, read_labels, read_volume
from nnunet_cascade.reproduction.cases import evaluation_splits
from nnunet_cascade.reproduction.claims import ClaimResult, Evidence, evaluate_claim
from nnunet_cascade.reproduction.prediction import Predicted
from nnunet_cascade.reproduction.request import ReproductionRequest
from nnunet_cascade.reproduction.systems import System
from nnunet_cascade.reproduction.tables import ALL_VALID, Row, Table
from nnunet_cascade.workflows.evaluation import EvaluationRequest, Predictions, evaluate_cases, values_by_method

_log = logging.getLogger(__name__)
REGIONS = ("surface", "union")


@dataclass(frozen=True, slots=True, kw_only=True)
class TableResult:
    """A table with our figures.

    Attributes:
        table: What the paper compares.
        comparison: Of its rows, the first one the reference; None where no row could be run.
        component_reduction: From all valid components to the first alone, if the table groups cases.
        calibration: By region; empty where the table does not ask for it.
        reliability: By region and row, the points of its diagram.
        claims: In order.
        missing: By row, why it was not run, or which of its cases failed.
    """

    table: Table
    comparison: MethodComparison | None
    component_reduction: MethodComparison | None
    calibration: Mapping[str, CalibrationComparison]
    reliability: Mapping[str, Mapping[str, Sequence[ReliabilityPoint]]]
    claims: tuple[ClaimResult, ...]
    missing: Mapping[str, str]


def score_systems(request: ReproductionRequest, predicted: Mapping[System, Predicted]) -> dict[System, CaseValues]:
    """Score every system that was run, on every case it has."""
    labels = _true_labels(request)
    run = {system: found for system, found in predicted.items() if not found.why_not}
    methods = {system.key: Predictions(name=system.key, place=found.folder) for system, found in run.items()}
    usable = {key: method for key, method in methods.items() if any(method.path(case).is_file() for case in labels)}
    if not usable:
        return {}
    evaluation = EvaluationRequest(
        truths=next(iter(labels.values())).parent,
        predictions=tuple(usable.values()),
        output=request.folder / "evaluation",
        truth_tumor=TumorLabel(values=request.tumor_labels, named=True),
        resume=True,
    )
    found = tqdm(evaluate_cases(evaluation, labels), total=len(labels), desc="scores", unit="case")
    values = values_by_method(evaluation, dict(found))
    return {system: values[system.key] for system in run if system.key in values}


def _true_labels(request: ReproductionRequest) -> dict[str, Path]:
    return {case: path for part in evaluation_splits(request) for case, path in part.labels.items()}


def evaluate_table(
    request: ReproductionRequest,
    table: Table,
    predicted: Mapping[System, Predicted],
    scores: Mapping[System, CaseValues],
) -> TableResult:
    """Compare the rows of a table and judge its claims."""
    resampling = Resampling(resamples=request.resamples, seed=request.seed)
    settings = ComparisonSettings(resampling=resampling)
    rows = {row.label: scores[row.system] for row in table.rows if scores.get(row.system)}
    counted = _counted(request, table, predicted) if table.calibration else {}
    evidence = Evidence(scores=rows, boundary=counted.get("surface", {}), resampling=resampling)
    missing = {row.label: why for row in table.rows if (why := _why_missing(row, predicted, rows))}
    grouped = table.groups and {ALL_VALID, table.rows[-2].label} <= set(rows)
    return TableResult(
        table=table,
        comparison=compare(rows, settings, expected=tuple(_true_labels(request))) if rows else None,
        component_reduction=compare(rows, replace(settings, reference=ALL_VALID)) if grouped else None,
        calibration=_calibration(counted, resampling),
        reliability={
            region: {label: reliability_points(tuple(cases.values()), resampling) for label, cases in methods.items()}
            for region, methods in counted.items()
        },
        claims=tuple(evaluate_claim(claim, evidence) for claim in table.claims),
        missing=missing,
    )


def _why_missing(row: Row, predicted: Mapping[System, Predicted], rows: Mapping[str, CaseValues]) -> str:
    found = predicted[row.system]
    if found.why_not:
        return f"not run: {found.why_not}"
    if found.failures:
        case, error = next(iter(found.failures.items()))
        names = f" ({', '.join(found.failures)})" if row.label in rows else ""
        return f"{len(found.failures)} cases failed{names}; {case}: {error}"
    return "" if row.label in rows else "no case was predicted"


def _calibration(counted: _Counted, resampling: Resampling) -> dict[str, CalibrationComparison]:
    """Compare the rows of each region on the cases that all of them have; none where they share no case."""
    shared = {
        region: methods
        for region, methods in counted.items()
        if set.intersection(*(set(cases) for cases in methods.values()))
    }
    return {region: compare_methods(methods, resampling=resampling) for region, methods in shared.items()}


_Counted = dict[str, dict[str, dict[str, CalibrationCounts]]]


def _counted(request: ReproductionRequest, table: Table, predicted: Mapping[System, Predicted]) -> _Counted:
    """Count what calibration needs by region, row and case, of rows with probabilities; nothing where one has them."""
    labels = _true_labels(request)
    counted: _Counted = {region: {} for region in REGIONS}
    for row in table.rows:
        folder = predicted[row.system].folder
        for case, label in labels.items():
            if not (folder / f"{case}_probability{ENDING}").is_file():
                continue
            try:
                found = _counts(request, label, folder, case)
            except CascadeError as error:
                _log.error("%s, %s: %s", row.label, case, error)
                continue
            for region, counts in found.items():
                counted[region].setdefault(row.label, {})[case] = counts
    return {region: methods for region, methods in counted.items() if len(methods) > 1}


def _counts(request: ReproductionRequest, label: Path, folder: Path, case: str) -> dict[str, CalibrationCounts]:
    probability = read_volume(folder / f"{case}_probability{ENDING}")
    grid = probability.grid
    truth = np.isin(read_labels(label, grid, what="label"), request.tumor_labels)
    mask = read_labels(folder / f"{case}{ENDING}", grid, what="prediction") > 0
    regions = {name: region_of(name, truth, mask, grid.spacing_mm) for name in REGIONS}
    values = np.clip(probability.array, 0.0, 1.0)
    return {name: count_voxels(values, truth, region) for name, region in regions.items()}
