"""Two runs on the same cases beside each other: what differs, case by case and over all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nnunet_cascade.evaluation.metric_info import MetricInfo, is_uncertainty, metric_info
from nnunet_cascade.evaluation.statistics.bootstrap import Resampling
from nnunet_cascade.evaluation.statistics.paired import PairedComparison, compare_paired
from nnunet_cascade.report.entries import CaseEntry, RunEntries
from nnunet_cascade.report.reading.scores import SHOWN
from nnunet_cascade.report.reading.setting_rows import SettingDifference, differing
from nnunet_cascade.workflows.evaluation import recorded_uncertainty

SIDES = ("A", "B")
"""The two runs, in the order they are given; also the names of their folders in a case's."""
_VOLUME = "predicted_ml"
_COMPONENTS = "predicted_components"
_OF_CANDIDATES = {
    name: MetricInfo(name=name, label=name.replace("_", " "), digits=2, definition=definition)
    for name, definition in (
        ("candidates_kept", "candidates of stage 1 that went to stage 2"),
        ("candidates_dropped", "candidates of stage 1 that the anatomy rules dropped"),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedCase:
    """One case in both runs.

    Attributes:
        case: Its name, which may hold anything.
        folder: Name of its folder in the report.
        first: In the first run; None where it has no such case.
        second: In the second run; None where it has no such case.
        values: Of both runs by metric; NaN where it is not known or undefined.
    """

    case: str
    folder: str
    first: CaseEntry | None
    second: CaseEntry | None
    values: Mapping[str, tuple[float, float]]

    def difference(self, metric: str) -> float:
        """Return the second run's value less the first's; NaN where one is not known."""
        first, second = self.values[metric]
        return second - first

    @property
    def sides(self) -> tuple[tuple[str, CaseEntry | None], ...]:
        """Both runs by name."""
        return tuple(zip(SIDES, (self.first, self.second), strict=True))

    @property
    def only(self) -> str:
        """Which run alone has it, or ""."""
        return SIDES[0] if self.second is None else SIDES[1] if self.first is None else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunComparison:
    """Two runs beside each other.

    Attributes:
        runs: By "A" and "B".
        names: What the runs are called: their folders' names, or "A" and "B" where these are the same.
        cases: Those that differ most in volume first, then those that one run alone has.
        infos: Metrics that both runs have of some case.
        paired: The second run less the first over the cases of both, by metric.
        settings: Those that differ.
        models: Stages whose models differ.
        versions: Packages whose versions differ.
        problems: Of both runs, with the run's name.
    """

    runs: Mapping[str, RunEntries]
    names: Mapping[str, str]
    cases: tuple[ComparedCase, ...]
    infos: tuple[MetricInfo, ...]
    paired: Mapping[str, PairedComparison]
    settings: tuple[SettingDifference, ...]
    models: tuple[SettingDifference, ...]
    versions: tuple[SettingDifference, ...]
    problems: tuple[str, ...]


def compare_runs(runs: Mapping[str, RunEntries], folders: Mapping[str, str]) -> RunComparison:
    """Put two runs beside each other.

    Args:
        runs: By "A" and "B".
        folders: Of all cases, in the report.
    """
    by_case = {side: {entry.case: entry for entry in run.entries} for side, run in runs.items()}
    first, second = (by_case[side] for side in SIDES)
    pairs = {case: (first.get(case), second.get(case)) for case in folders}
    values = {side: {case: _values(runs[side], entry) for case, entry in by_case[side].items()} for side in SIDES}
    metrics = _metrics(values)
    cases = [
        ComparedCase(
            case=case,
            folder=folders[case],
            first=pair[0],
            second=pair[1],
            values={name: _pair(values, case, name) for name in metrics},
        )
        for case, pair in pairs.items()
    ]
    names = _names(runs)
    one, other = (runs[side].run for side in SIDES)
    return RunComparison(
        runs=runs,
        names=names,
        cases=tuple(sorted(cases, key=_order)),
        infos=tuple(_OF_CANDIDATES.get(name) or metric_info(name) for name in metrics),
        paired={name: _paired(cases, name) for name in metrics},
        settings=differing(one.settings, other.settings),
        models=differing(dict(one.model), dict(other.model)),
        versions=differing(dict(one.versions), dict(other.versions)),
        problems=tuple(f"{names[side]}: {problem}" for side in SIDES for problem in runs[side].problems),
    )


def _values(run: RunEntries, entry: CaseEntry) -> dict[str, float]:
    """Return what is compared of a case: volume, counts, mean uncertainty, and metrics where truth is known."""
    row = entry.row
    counts = dict(zip(_OF_CANDIDATES, (row.kept, row.dropped), strict=True))
    found = {_VOLUME: row.volume_ml, _COMPONENTS: row.lesion_count, **counts}
    values = {name: float(value) for name, value in found.items() if value is not None}
    record = run.run.path / f"{entry.case}.json" if entry.case in run.run.records else None
    uncertainty = {name: value for name, value in recorded_uncertainty(record).items() if name.endswith("_in_tumor")}
    return {**values, **uncertainty, **{name: entry.scores[name] for name in SHOWN if name in entry.scores}}


def _metrics(values: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    """Name the metrics that both runs have of some case: two different measures of uncertainty are not compared."""
    having = [{name for of_case in of_side.values() for name in of_case} for of_side in values.values()]
    both = set.intersection(*having)
    known = (_VOLUME, _COMPONENTS, *_OF_CANDIDATES)
    uncertainties = sorted(name for name in both if is_uncertainty(name))
    return [name for name in (*known, *uncertainties, *SHOWN) if name in both]


def _pair(values: Mapping[str, Mapping[str, Mapping[str, float]]], case: str, metric: str) -> tuple[float, float]:
    first, second = (values[side].get(case, {}).get(metric, math.nan) for side in SIDES)
    return first, second


def _paired(cases: Sequence[ComparedCase], metric: str) -> PairedComparison:
    both = [case.values[metric] for case in cases if not case.only]
    return compare_paired([pair[1] for pair in both], [pair[0] for pair in both], Resampling())


def _order(case: ComparedCase) -> tuple[bool, float, str]:
    """Put cases of both runs first, those that differ most in volume before the others."""
    change = abs(case.difference(_VOLUME)) if _VOLUME in case.values else math.nan
    return bool(case.only), -(0.0 if math.isnan(change) else change), case.case


def _names(runs: Mapping[str, RunEntries]) -> dict[str, str]:
    found = {side: run.run.path.resolve().name for side, run in runs.items()}
    return found if len(set(found.values())) == len(found) else {side: side for side in runs}
