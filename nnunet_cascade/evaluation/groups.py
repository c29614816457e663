"""Cases that have something in common: as many lesions, as many predicted components, a similar spread."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nnunet_cascade.evaluation.metric_info import CaseValues, column_of, metrics_of
from nnunet_cascade.evaluation.statistics.bootstrap import Resampling
from nnunet_cascade.evaluation.statistics.description import Description, describe

_OF_GROUPS = ("dice", "hd95_mm", "nsd_2mm", "lesion_recall", "false_positive_components")
_NEAR_MM, _FAR_MM = 50.0, 100.0
_COUNTS = ("0", "1", "2", "3 or more", "unknown")
_SPREADS = ("no lesion", "one lesion", f"up to {_NEAR_MM:.0f} mm", f"to {_FAR_MM:.0f} mm", f"above {_FAR_MM:.0f} mm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Cases that have something in common.

    Attributes:
        name: What they have.
        cases: Their names.
        metrics: Over these cases.
    """

    name: str
    cases: tuple[str, ...]
    metrics: Mapping[str, Description]


def grouped(values: CaseValues, cases: Sequence[str], by: str, resampling: Resampling) -> tuple[Group, ...]:
    """Group cases by a metric: a count as 0, 1, 2, 3 or more; a distance in mm as a spread.

    Args:
        values: By case and metric.
        cases: Those to group.
        by: The metric; cases in which it is undefined are a group of their own.
        resampling: How to draw the intervals.

    Returns:
        The groups that have a case, in a fixed order; each case is in one of them.
    """
    spread = by.endswith("_mm")
    groups: dict[str, list[str]] = {name: [] for name in (_SPREADS if spread else _COUNTS)}
    for case in cases:
        value = values[case].get(by, math.nan)
        groups[_spread_group(value) if spread else _count_group(value)].append(case)
    shown = [metric for metric in _OF_GROUPS if metric in metrics_of(values)]
    return tuple(
        Group(
            name=name,
            cases=tuple(members),
            metrics={metric: describe(column_of(values, members, metric), resampling) for metric in shown},
        )
        for name, members in groups.items()
        if members
    )


def _count_group(count: float) -> str:
    if math.isnan(count):
        return _COUNTS[-1]
    return _COUNTS[min(3, round(count))]


def _spread_group(spread_mm: float) -> str:
    if math.isnan(spread_mm):
        return _SPREADS[0]
    return _SPREADS[1 + sum(spread_mm > limit for limit in (0.0, _NEAR_MM, _FAR_MM))]
