"""From predictions to figures: scores, calibration, and what becomes of each claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from nnunet_cascade.cascade.evaluation_folder import (
    EvaluationRequest,
    Predictions,
    evaluate_cases,
    values_by_method,
)
from nnunet_cascade.cascade.prediction_files import TumorLabel
from nnunet_cascade.errors import CascadeError
from nnunet_cascade.evaluation.calibration.comparison import Comparison as Calibration
from nnunet_cascade.evaluation.calibration.comparison import compare_methods
from nnunet_cascade.evaluation.calibration.counts import CalibrationCounts, count_voxels
from nnunet_cascade.evaluation.calibration.regions import region_of
from nnunet_cascade.evaluation.calibration.reliability import ReliabilityPoint, reliability_points
from nnunet_cascade.evaluation.comparison import Comparison, ComparisonSettings, compare
from nnunet_cascade.evaluation.statistics.bootstrap import Resampling
from nnunet_cascade.evaluation.values import CaseValues
from nnunet_cascade.images import ENDING, read_labels, read_volume
from nnunet_cascade.reproduction.cases import parts_of
from nnunet_cascade.reproduction.prediction import Predicted
from nnunet_cascade.reproduction.request import ReproductionRequest
from nnunet_cascade.reproduction.systems import System
from nnunet_cascade.reproduction.tables import ALL_VALID, Claim, Row, Table

Curves = Mapping[str, Sequence[ReliabilityPoint]]
"""Points of a reliability diagram, by row."""
Outcome = Literal["holds", "contradicted", "undecided", "untested"]
REGIONS = ("surface", "union")


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedClaim:
    """A claim of the paper and what these cases say of it.

    Attributes:
        claim: What the paper says.
        outcome: "holds" and "contradicted" where the interval of the paired difference leaves out 0; for a claim
            of no difference "contradicted" where it does. "undecided" else, "untested" where a row is missing.
        difference: Mean paired difference, first less second; None where it is not known.
        interval: Of it; None where there is none.
        cases: That the difference is of.
    """

    claim: Claim
    outcome: Outcome
    difference: float | None = None
    interval: tuple[float, float] | None = None
    cases: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedTable:
    """A table with our figures.

    Attributes:
        table: What the paper compares.
        comparison: Of its rows, the first one the reference; None where no row could be run.
        fewer: From all valid components to the first alone, where the table groups cases: both have an uncertainty.
        calibration: By region; empty where the table does not ask for it.
        reliability: By region and row, the points of its diagram.
        claims: In order.
        missing: By row, why it was not run, or which of its cases failed.
    """

    table: Table
    comparison: Comparison | None
    fewer: Comparison | None
    calibration: Mapping[str, Calibration]
    reliability: Mapping[str, Curves]
    claims: tuple[JudgedClaim, ...]
    missing: Mapping[str, str]


def score_systems(request: ReproductionRequest, predicted: Mapping[System, Predicted]) -> dict[System, CaseValues]:
    """Score every system that was run, on every case it has."""
    labels = {case: path for part in parts_of(request) for case, path in part.labels.items()}
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
        skip_done=True,
    )
    found = tqdm(evaluate_cases(evaluation, labels), total=len(labels), desc="scores", unit="case")
    values = values_by_method(evaluation, dict(found))
    return {system: values[system.key] for system in run if system.key in values}


def judge(
    request: ReproductionRequest,
    table: Table,
    predicted: Mapping[System, Predicted],
    scores: Mapping[System, CaseValues],
) -> JudgedTable:
    """Compare the rows of a table and judge its claims."""
    resampling = Resampling(resamples=request.resamples, seed=request.seed)
    rows = {row.label: scores[row.system] for row in table.rows if scores.get(row.system)}
    comparison = compare(rows, ComparisonSettings(resampling=resampling)) if rows else None
    counted = _counted(request, table, predicted) if table.calibration else {}
    calibration = {region: compare_methods(methods, resampling=resampling) for region, methods in counted.items()}
    claims = tuple(_judged(claim, rows, calibration, resampling) for claim in table.claims)
    missing = {row.label: why for row in table.rows if (why := _why_missing(row, predicted, rows))}
    fewer = None
    if table.groups and ALL_VALID in rows:
        fewer = compare(rows, ComparisonSettings(reference=ALL_VALID, resampling=resampling))
    return JudgedTable(
        table=table,
        comparison=comparison,
        fewer=fewer,
        calibration=calibration,
        reliability={region: _curves(methods, resampling) for region, methods in counted.items()},
        claims=claims,
        missing=missing,
    )


def _why_missing(row: Row, predicted: Mapping[System, Predicted], rows: Mapping[str, CaseValues]) -> str:
    found = predicted[row.system]
    if found.why_not:
        return f"not run: {found.why_not}"
    if found.failures:
        case, error = next(iter(found.failures.items()))
        return f"{len(found.failures)} cases failed, such as {case}: {error}"
    return "" if row.label in rows else "no case was predicted"


def _judged(
    claim: Claim,
    rows: Mapping[str, CaseValues],
    calibration: Mapping[str, Calibration],
    resampling: Resampling,
) -> JudgedClaim:
    if claim.first not in rows or claim.second not in rows:
        return JudgedClaim(claim=claim, outcome="untested")
    try:
        difference, interval, cases = (
            _boundary_difference(claim, calibration)
            if claim.metric.startswith("boundary_")
            else _score_difference(claim, rows, resampling)
        )
    except (CascadeError, KeyError, StopIteration):
        return JudgedClaim(claim=claim, outcome="untested")
    return JudgedClaim(
        claim=claim,
        outcome=_outcome(claim, interval),
        difference=difference,
        interval=interval,
        cases=cases,
    )


_Difference = tuple[float, tuple[float, float] | None, int]


def _score_difference(claim: Claim, rows: Mapping[str, CaseValues], resampling: Resampling) -> _Difference:
    pair = {label: rows[label] for label in (claim.second, claim.first)}
    settings = ComparisonSettings(reference=claim.second, resampling=resampling)
    found = compare(pair, settings).contrasts[claim.first].paired[claim.metric]
    interval = found.mean.bca or found.mean.percentile
    return found.mean.value, None if interval is None else (interval.low, interval.high), found.n


def _boundary_difference(claim: Claim, calibration: Mapping[str, Calibration]) -> _Difference:
    measure = claim.metric.removeprefix("boundary_")
    both = calibration["surface"]
    first, second = (both.row(label, measure) for label in (claim.first, claim.second))  # type: ignore[arg-type]
    difference, sign = (
        (first.per_case_difference, 1.0) if first.per_case_difference else (second.per_case_difference, -1.0)
    )
    if difference is None:
        raise KeyError(claim.metric)
    low_high = difference.interval
    interval = None if low_high is None else tuple(sorted((sign * low_high.low, sign * low_high.high)))
    return sign * difference.value, interval, difference.cases  # type: ignore[return-value]


def _outcome(claim: Claim, interval: tuple[float, float] | None) -> Outcome:
    if interval is None:
        return "undecided"
    low, high = interval
    if claim.expected == "equal":
        return "undecided" if low <= 0 <= high else "contradicted"
    if low <= 0 <= high:
        return "undecided"
    return "holds" if (low > 0) == (claim.expected == "higher") else "contradicted"


_Counted = dict[str, dict[str, dict[str, CalibrationCounts]]]


def _counted(request: ReproductionRequest, table: Table, predicted: Mapping[System, Predicted]) -> _Counted:
    """Count what calibration needs by region, row and case, of rows with probabilities; nothing where one has them."""
    labels = {case: path for part in parts_of(request) for case, path in part.labels.items()}
    counted: _Counted = {region: {} for region in REGIONS}
    for row in table.rows:
        folder = predicted[row.system].folder
        for case, label in labels.items():
            if (folder / f"{case}_probability{ENDING}").is_file():
                for region, counts in _counts(request, label, folder, case).items():
                    counted[region].setdefault(row.label, {})[case] = counts
    return {region: methods for region, methods in counted.items() if len(methods) > 1}


def _curves(methods: Mapping[str, Mapping[str, CalibrationCounts]], resampling: Resampling) -> Curves:
    return {label: reliability_points(tuple(cases.values()), resampling) for label, cases in methods.items()}


def _counts(request: ReproductionRequest, label: Path, folder: Path, case: str) -> dict[str, CalibrationCounts]:
    probability = read_volume(folder / f"{case}_probability{ENDING}")
    grid = probability.grid
    truth = np.isin(read_labels(label, grid, what="label"), request.tumor_labels)
    mask = read_labels(folder / f"{case}{ENDING}", grid, what="prediction") > 0
    regions = {name: region_of(name, truth, mask, grid.spacing_mm) for name in REGIONS}
    values = np.clip(probability.array, 0.0, 1.0)
    return {name: count_voxels(values, truth, region) for name, region in regions.items()}


def all_claims(tables: Sequence[JudgedTable]) -> tuple[JudgedClaim, ...]:
    """Give the claims of all tables, in order."""
    return tuple(claim for table in tables for claim in table.claims)
