"""Metrics of a run's cases that `nnc-evaluate` left beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from nnunet_cascade.case_folders.unchecked_json import UncheckedJson, read_json_lenient
from nnunet_cascade.evaluation.metric_info import MetricInfo, metric_info

SHOWN = ("dice", "hd95_mm", "nsd_2mm", "lesion_recall", "false_positive_components", "volume_error_ml")
"""Metrics that a report shows, in the order of its columns."""
_PLACES = ("evaluation.json", "evaluation/evaluation.json")


def shown_metrics() -> tuple[MetricInfo, ...]:
    """Return what is known of the metrics that a report shows."""
    return tuple(map(metric_info, SHOWN))


def evaluated(folder: Path) -> tuple[Mapping[str, Mapping[str, float]], str]:
    """Read the metrics of a run from `evaluation.json` in it, or in a folder `evaluation` of it.

    Args:
        folder: Of the run.

    Returns:
        By case and metric, NaN where a metric is undefined; and what is wrong with the file, or "".
        Nothing where there is no such file.
    """
    path = next((folder / name for name in _PLACES if (folder / name).is_file()), None)
    if path is None:
        return {}, ""
    content, problem = read_json_lenient(path)
    if problem:
        return {}, problem
    method = _method(content, folder)
    if method is None:
        return {}, f"{path.name} holds several methods and none of them lies in this folder; its metrics are not shown"
    values = {case: told.at(method, "values") for case, told in content.at("cases").items()}
    return {case: _numbers(told) for case, told in values.items() if told.is_table}, ""


def _numbers(told: UncheckedJson) -> dict[str, float]:
    found = {name: told.at(name) for name, _ in told.items()}
    return {name: math.nan if value.number is None else value.number for name, value in found.items()}


def _method(content: UncheckedJson, folder: Path) -> str | None:
    """Name the method whose predictions are a folder's final masks."""
    told = {name: told.at("place").text for name, told in content.at("settings", "predictions").items()}
    places = {name: place for name, place in told.items() if place and "*" not in place and "\0" not in place}
    here = [name for name, place in places.items() if Path(place).resolve() == folder.resolve()]
    return next(iter(here or places), None) if here or len(places) == 1 else None
