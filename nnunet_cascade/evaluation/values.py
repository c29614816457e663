"""Metrics as plain numbers, by method, case and name: what comparisons work on, wherever the numbers come from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from nnunet_cascade.evaluation.metric_info import in_order

CaseValues = Mapping[str, Mapping[str, float]]
"""Metric by metric, case by case."""
Values = Mapping[str, CaseValues]
"""The same, method by method."""


def column_of(values: CaseValues, cases: Sequence[str], metric: str) -> list[float]:
    """Return a metric of some cases, in their order; NaN if it is undefined or not there."""
    return [float(values[case].get(metric, math.nan)) for case in cases]


def metrics_of(values: CaseValues) -> tuple[str, ...]:
    """Return the names of the metrics that any case has, in the order of tables."""
    return in_order({metric for of_case in values.values() for metric in of_case})
