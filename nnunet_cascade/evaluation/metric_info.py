"""What metrics are called, in which unit, and which way is better; scores become plain numbers by name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nnunet_cascade.evaluation.case import CaseScore
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


def _unit(name: str) -> str:
    return next((unit for unit in ("mm", "ml") if name.endswith(f"_{unit}")), "")


def _info(name: str, label: str, definition: str = "", *, share: bool = False, **named: Any) -> MetricInfo:
    """Return what is known of a distance, a volume, a count, or of a share, which is better if it is high."""
    unit = _unit(name)
    named |= {"digits": 3, "goal": "high"} if share else {"digits": 1 if unit == "mm" else 2}
    return MetricInfo(name=name, label=label, unit=unit, definition=definition or DEFINITIONS[name], **named)


_PIECES = "26-connected components"
_INFOS = (
    _info("dice", "Dice", share=True),
    _info("hd95_mm", "HD95", goal="low"),
    _info("hd95_pooled_mm", "HD95 pooled", goal="low"),
    _info("hd_mm", "HD", goal="low"),
    _info("assd_mm", "ASSD", goal="low"),
    _info("nsd_1mm", "NSD 1 mm", share=True),
    _info("nsd_2mm", "NSD 2 mm", share=True),
    _info("nsd_3mm", "NSD 3 mm", share=True),
    _info("lesion_recall", "lesion recall", "lesions found of the lesions of the case", share=True),
    _info(
        "lesion_precision",
        "lesion precision",
        f"predicted {_PIECES} with a voxel of truth, of all predicted",
        share=True,
    ),
    _info("lesion_f1", "lesion F1", "harmonic mean of lesion recall and precision of the case", share=True),
    _info("false_positive_components", "false positives", f"predicted {_PIECES} without a voxel of truth", goal="low"),
    _info("false_positive_ml", "false positives", "volume of the false positives", goal="low"),
    _info("volume_error_ml", "volume error", goal="zero"),
    _info("volume_error_abs_ml", "size of volume error", "its absolute value", goal="low"),
    _info("predicted_components", "components", f"predicted {_PIECES}"),
    _info("predicted_components_true", "true components", f"predicted {_PIECES} with a voxel of truth"),
    _info(
        "predicted_spread_mm",
        "predicted spread",
        "largest distance between the centroids of two predicted components; 0 for one, undefined for none",
    ),
    _info("predicted_ml", "predicted volume", "volume of the prediction"),
    _info("lesions_found", "lesions found", "lesions that the prediction overlaps", goal="high"),
    _info("zero_dice", "Dice of 0", "1 for a case whose Dice is 0, else 0", goal="low"),
    _info("one_mask_empty", "one mask empty", "1 for a case with one mask empty, else 0", goal="low"),
    _info("both_masks_empty", "both masks empty", "1 for a case with both masks empty, else 0"),
    *(_uncertainty(measure, where) for measure in MEASURES for where in ("tumor", "rois")),
    _info("lesions", "lesions", of_truth=True),
    _info("lesion_spread_mm", "lesion spread", of_truth=True),
    _info("reference_ml", "true volume", "volume of the truth", of_truth=True),
)
_KNOWN = {info.name: info for info in _INFOS}


def metric_info(name: str) -> MetricInfo:
    """Return what is known of a metric; of an unknown one, what its name says."""
    unit = _unit(name)
    label = name.removesuffix(f"_{unit}").replace("_", " ")
    return _KNOWN.get(name) or MetricInfo(name=name, label=label, unit=unit)


def in_order(names: set[str]) -> tuple[str, ...]:
    """Put metrics in the order of tables: the known ones first, then the others by name."""
    return (*(name for name in _KNOWN if name in names), *sorted(names - _KNOWN.keys()))


def score_values(score: CaseScore) -> dict[str, float]:
    """Return all numbers of a score by name: its fields, its properties, and what follows from them.

    Returns:
        Floats; NaN for what is undefined. Text is left out, for `zero_dice`, `one_mask_empty`
        and `both_masks_empty` tell what it says.
    """
    record = score.record()
    return {
        **{name: float(value) for name, value in record.items() if name not in {"case", "empty"}},
        "zero_dice": float(score.dice == 0),
        "one_mask_empty": float(score.empty in {"truth", "prediction"}),
        "both_masks_empty": float(score.empty == "both"),
        "volume_error_abs_ml": abs(score.volume_error_ml),
    }


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
