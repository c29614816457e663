"""Methods side by side on the same cases: each figure with its interval, each difference paired."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation.calibration.counts import CalibrationCounts
from nnunet_cascade.evaluation.calibration.figures import MEASURES, Measure, figures_of
from nnunet_cascade.evaluation.statistics.bootstrap import Interval, Resampling
from nnunet_cascade.evaluation.statistics.replicates import (
    RESAMPLING,
    Values,
    case_weights,
    percentile_interval,
    replicated_sums,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationEstimate:
    """A figure and how sure it is.

    Attributes:
        value: NaN if no case has a voxel in the region.
        interval: Over cases; None for fewer than 3.
        cases: With a voxel in the region.
    """

    value: float
    interval: Interval | None
    cases: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedMeasure:
    """One measure of one method.

    Attributes:
        method: The method.
        measure: Which.
        per_case: Mean over cases, each counting once.
        pooled: Of all voxels together, so that large tumors count more.
        per_case_difference: Method minus baseline, mean over the same cases; None for the baseline.
        pooled_difference: Method minus baseline; None for the baseline.
    """

    method: str
    measure: Measure
    per_case: CalibrationEstimate
    pooled: CalibrationEstimate
    per_case_difference: CalibrationEstimate | None
    pooled_difference: CalibrationEstimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationComparison:
    """Calibration of several methods on the cases that all of them have.

    Attributes:
        baseline: The method that differences are taken from.
        cases: Those that every method has, in order.
        left_out: For each method, its cases that another method lacks.
        rows: By method, then measure.
        resampling: How intervals were drawn.
    """

    baseline: str
    cases: tuple[str, ...]
    left_out: Mapping[str, tuple[str, ...]]
    rows: tuple[ComparedMeasure, ...]
    resampling: Resampling

    def row(self, method: str, measure: Measure) -> ComparedMeasure:
        """Return one row; it must be there."""
        return next(row for row in self.rows if (row.method, row.measure) == (method, measure))


@dataclass(frozen=True, slots=True)
class _Column:
    """One measure, or its difference: of each case, of all pooled, of each replicate of cases pooled."""

    of_cases: Values
    pooled: float
    replicates: Values

    def less(self, other: _Column) -> _Column:
        return _Column(self.of_cases - other.of_cases, self.pooled - other.pooled, self.replicates - other.replicates)


@dataclass(frozen=True, slots=True)
class _Draws:
    weights: Values
    resampling: Resampling

    def estimates(self, column: _Column) -> tuple[CalibrationEstimate, CalibrationEstimate]:
        """Return the mean over cases and the pooled figure."""
        known = ~np.isnan(column.of_cases)
        cases = int(known.sum())
        with np.errstate(invalid="ignore"):
            means = self.weights[:, known] @ column.of_cases[known] / self.weights[:, known].sum(axis=1)
        value = float(column.of_cases[known].mean()) if cases else math.nan
        return self._estimate(value, means, cases), self._estimate(column.pooled, column.replicates, cases)

    def _estimate(self, value: float, replicates: Values, cases: int) -> CalibrationEstimate:
        interval = percentile_interval(replicates, cases=cases, resampling=self.resampling)
        return CalibrationEstimate(value=value, interval=interval, cases=cases)


def compare_methods(
    methods: Mapping[str, Mapping[str, CalibrationCounts]],
    *,
    baseline: str | None = None,
    resampling: Resampling = RESAMPLING,
) -> CalibrationComparison:
    """Compare the calibration of methods, such as losses, on the same cases.

    Every method's replicates draw the same cases, so that differences are paired. A
    case without a voxel in the region has no figure of its own and counts in none.

    Args:
        methods: By method, then case, counted in one region.
        baseline: A method; None takes the first.
        resampling: How intervals are drawn.

    Raises:
        SettingsError: There is no method, the baseline is none of them, or they share no case.
    """
    named = list(methods)
    if not named or (baseline is not None and baseline not in named):
        raise SettingsError(f"baseline {baseline!r} of the methods {named}; expected one of at least one method")
    cases = sorted(set.intersection(*(set(found) for found in methods.values())))
    if not cases:
        raise SettingsError(f"the methods {', '.join(named)} share no case; measure them on the same ones")
    draws = _Draws(case_weights(len(cases), resampling), resampling)
    columns = {name: _columns([methods[name][case] for case in cases], draws.weights) for name in named}
    base = columns[baseline or named[0]]
    rows = [
        _row(name, measure, columns[name][measure], None if columns[name] is base else base[measure], draws)
        for name in named
        for measure in MEASURES
    ]
    return CalibrationComparison(
        baseline=baseline or named[0],
        cases=tuple(cases),
        left_out={name: tuple(sorted(set(each) - set(cases))) for name, each in methods.items()},
        rows=tuple(rows),
        resampling=resampling,
    )


def calibration_table(comparison: CalibrationComparison) -> str:
    """Set the methods side by side in a Markdown table; what is undefined stands as –.

    Returns:
        Lines that end in a newline.
    """
    head = ("Method", "Measure", "cases", "per case, mean", "difference", "pooled", "difference")
    lines = ["| " + " | ".join(head) + " |", "|---|---|---:|---:|---:|---:|---:|"]
    for row in comparison.rows:
        figures = (row.per_case, row.per_case_difference, row.pooled, row.pooled_difference)
        cells = (row.method.replace("|", "\\|"), row.measure.upper(), str(row.per_case.cases), *map(_text, figures))
        lines.append("| " + " | ".join(cells) + " |")
    drawn = comparison.resampling
    definitions = "; ".join(f"{name.upper()}: {text}" for name, text in MEASURES.items())
    intervals = (
        f"Intervals: {drawn.level:.0%}, percentile bootstrap over cases, {drawn.resamples} draws, seed {drawn.seed}; "
        "none below 3 cases."
    )
    differences = f"Differences are from {comparison.baseline}, on the same cases. Less is better."
    return "\n".join([*lines, "", f"{definitions}. {intervals} {differences}"]) + "\n"


def _text(estimate: CalibrationEstimate | None) -> str:
    if estimate is None or math.isnan(estimate.value):
        return "–"
    interval = estimate.interval
    ends = "" if interval is None else f" ({interval.low:.4f} … {interval.high:.4f})"
    return f"{estimate.value:.4f}{ends}"


def _measured(counts: CalibrationCounts) -> list[float]:
    figures = figures_of(counts)
    return [getattr(figures, name) for name in MEASURES]


def _columns(counts: Sequence[CalibrationCounts], weights: Values) -> dict[Measure, _Column]:
    stacked = np.stack([each.flat() for each in counts])
    drawn = np.array([_measured(CalibrationCounts.of_flat(row)) for row in replicated_sums(stacked, weights)])
    of_cases = np.array([_measured(each) for each in counts])
    pooled = _measured(CalibrationCounts.of_flat(stacked.sum(axis=0)))
    return {name: _Column(of_cases[:, at], pooled[at], drawn[:, at]) for at, name in enumerate(MEASURES)}


def _row(method: str, measure: Measure, own: _Column, base: _Column | None, draws: _Draws) -> ComparedMeasure:
    per_case, pooled = draws.estimates(own)
    per_case_difference, pooled_difference = (None, None) if base is None else draws.estimates(own.less(base))
    return ComparedMeasure(
        method=method,
        measure=measure,
        per_case=per_case,
        pooled=pooled,
        per_case_difference=per_case_difference,
        pooled_difference=pooled_difference,
    )
