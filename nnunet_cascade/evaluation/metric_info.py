"""What metrics are called, in which unit, and which way is better; scores become plain numbers by name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation.definitions import DEFINITIONS
from nnunet_cascade.uncertainty_measures import MEASURES, Measure

Goal = Literal["high", "low", "zero", "none"]
"""Which values are better; "none" describes a case."""
CaseValues = Mapping[str, Mapping[str, float]]
"""Numbers by case and metric: what comparisons work on, wherever the numbers come from."""
Values = Mapping[str, CaseValues]
"""The same, method by method."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricInfo:
    """What is known of a metric.

    Attributes:
        name: As in files.
        label: As in tables, without the unit.
        unit: "mm", "ml" or "".
        digits: After the point, in tables.
        goal: Which values are better.
        of_truth: Whether it is the same for every method.
        definition: In words, or "".
    """

    name: str
    label: str
    unit: str = ""
    digits: int = 3
    goal: Goal = "none"
    of_truth: bool = False
    definition: str = ""

    @property
    def heading(self) -> str:
        """Label and unit, and an arrow towards what is better."""
        arrow = {"high": " ↑", "low": " ↓", "zero": " → 0", "none": ""}[self.goal]
        return f"{self.label}{f', {self.unit}' if self.unit else ''}{arrow}"


def _mm(name: str, label: str, *, goal: Goal = "low") -> MetricInfo:
    return MetricInfo(name=name, label=label, unit="mm", digits=1, goal=goal)


def _ml(name: str, label: str, definition: str, *, goal: Goal = "none") -> MetricInfo:
    return MetricInfo(name=name, label=label, unit="ml", digits=2, goal=goal, definition=definition)


def _share(name: str, label: str, definition: str = "") -> MetricInfo:
    return MetricInfo(name=name, label=label, goal="high", definition=definition)


def _count(name: str, label: str, definition: str, *, goal: Goal = "none") -> MetricInfo:
    return MetricInfo(name=name, label=label, digits=2, goal=goal, definition=definition)


def uncertainty_name(measure: str, where: str) -> str:
    """Return the metric of a mean uncertainty in the predicted "tumor" or in stage 2's "rois"."""
    return f"mean_{measure}_in_{where}"


def is_uncertainty(name: str) -> bool:
    """Return whether a metric is a mean uncertainty."""
    return any(name.startswith(f"mean_{measure}_in_") for measure in MEASURES)


def _uncertainty(measure: Measure, where: str) -> MetricInfo:
    place = {"tumor": "the predicted tumor", "rois": "the regions of stage 2"}[where]
    words = MEASURES[measure].label
    return MetricInfo(
        name=uncertainty_name(measure, where),
        label=f"{words} in {where}",
        digits=4,
        definition=f"mean {words} in {place} by nnc-cascade-predict's record; what was sampled may differ by method",
    )


_PIECES = "26-connected components"
_INFOS = (
    _share("dice", "Dice"),
    _mm("hd95_mm", "HD95"),
    _mm("hd95_pooled_mm", "HD95 pooled"),
    _mm("hd_mm", "HD"),
    _mm("assd_mm", "ASSD"),
    _share("nsd_1mm", "NSD 1 mm"),
    _share("nsd_2mm", "NSD 2 mm"),
    _share("nsd_3mm", "NSD 3 mm"),
    _share("lesion_recall", "lesion recall", "lesions found of the lesions of the case"),
    _share("lesion_precision", "lesion precision", f"predicted {_PIECES} with a voxel of truth, of all predicted"),
    _share("lesion_f1", "lesion F1", "harmonic mean of lesion recall and precision of the case"),
    _count("false_positive_components", "false positives", f"predicted {_PIECES} without a voxel of truth", goal="low"),
    _ml("false_positive_ml", "false positives", "volume of the false positives", goal="low"),
    _ml("volume_error_ml", "volume error", "", goal="zero"),
    _ml("volume_error_abs_ml", "size of volume error", "its absolute value", goal="low"),
    _count("predicted_components", "components", f"predicted {_PIECES}"),
    _count("predicted_components_true", "true components", f"predicted {_PIECES} with a voxel of truth"),
    MetricInfo(
        name="predicted_spread_mm",
        label="predicted spread",
        unit="mm",
        digits=1,
        definition="largest distance between the centroids of two predicted components; 0 for one, undefined for none",
    ),
    _ml("predicted_ml", "predicted volume", "volume of the prediction"),
    _count("lesions_found", "lesions found", "lesions that the prediction overlaps", goal="high"),
    _count("zero_dice", "Dice of 0", "1 for a case whose Dice is 0, else 0", goal="low"),
    _count("one_mask_empty", "one mask empty", "1 for a case with one mask empty, else 0", goal="low"),
    _count("both_masks_empty", "both masks empty", "1 for a case with both masks empty, else 0"),
    *(_uncertainty(measure, where) for measure in MEASURES for where in ("tumor", "rois")),
    replace(_count("lesions", "lesions", ""), of_truth=True),
    replace(_mm("lesion_spread_mm", "lesion spread", goal="none"), of_truth=True),
    replace(_ml("reference_ml", "true volume", "volume of the truth"), of_truth=True),
)
_KNOWN = {info.name: replace(info, definition=info.definition or DEFINITIONS[info.name]) for info in _INFOS}


def metric_info(name: str) -> MetricInfo:
    """Return what is known of a metric; of an unknown one, what its name says."""
    unit = next((unit for unit in ("mm", "ml") if name.endswith(f"_{unit}")), "")
    label = name.removesuffix(f"_{unit}").replace("_", " ")
    return _KNOWN.get(name) or MetricInfo(name=name, label=label, unit=unit)


def in_order(names: set[str]) -> tuple[str, ...]:
    """Put metrics in the order of tables: the known ones first, then the others by name."""
    return (*(name for name in _KNOWN if name in names), *sorted(names - _KNOWN.keys()))


def score_values(score: object) -> dict[str, float]:
    """Return all numbers of a score by name: its fields, its properties, and what follows from them.

    Args:
        score: A `CaseScore`, or any dataclass with a field `empty`.

    Returns:
        Floats; NaN for what is undefined. Text is left out, for `zero_dice`, `one_mask_empty`
        and `both_masks_empty` tell what it says.

    Raises:
        SettingsError: It is not a dataclass.
    """
    if not is_dataclass(score):
        raise SettingsError(f"found {type(score).__name__}; expected the scores of a case, a dataclass")
    names = [field.name for field in fields(score)]
    names += [name for name in dir(type(score)) if isinstance(getattr(type(score), name), property)]
    found: dict[str, Any] = {name: getattr(score, name) for name in names}
    values = {name: float(value) for name, value in found.items() if isinstance(value, (int, float))}
    values["zero_dice"] = float(values.get("dice", math.nan) == 0)
    values["one_mask_empty"] = float(found.get("empty") in {"truth", "prediction"})
    values["both_masks_empty"] = float(found.get("empty") == "both")
    if "volume_error_ml" in values:
        values["volume_error_abs_ml"] = abs(values["volume_error_ml"])
    return values


def column_of(values: CaseValues, cases: Sequence[str], metric: str) -> list[float]:
    """Return a metric of some cases, in their order; NaN if it is undefined or not there."""
    return [float(values[case].get(metric, math.nan)) for case in cases]


def metrics_of(values: CaseValues) -> tuple[str, ...]:
    """Return the metrics that any case has, in the order of tables."""
    return in_order({metric for of_case in values.values() for metric in of_case})


def without_nan(content: Any) -> Any:
    """Return plain values with None for NaN, for JSON."""
    if isinstance(content, dict):
        return {name: without_nan(value) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [without_nan(value) for value in content]
    return None if isinstance(content, float) and math.isnan(content) else content
