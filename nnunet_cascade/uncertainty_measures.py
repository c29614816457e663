"""The measures of uncertainty: what each is, in which unit, and the largest value that it can have."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple, cast

Measure = Literal["variance", "predictive_entropy", "mutual_information"]
"""What is made of the samples of a voxel."""


class MeasureInfo(NamedTuple):
    """A measure in words, its unit, the largest value that it can have, and its definition as records hold it."""

    label: str
    unit: str
    largest: float
    definition: str


MEASURES: Mapping[Measure, MeasureInfo] = {
    "variance": MeasureInfo(
        "variance", "no unit", 0.25, "population variance of the tumor probability over the samples, 0 to 1/4"
    ),
    "predictive_entropy": MeasureInfo(
        "predictive entropy", "nats", math.log(2), "binary entropy of the mean tumor probability in nats, 0 to ln 2"
    ),
    "mutual_information": MeasureInfo(
        "mutual information",
        "nats",
        math.log(2),
        "binary entropy of the mean tumor probability less the mean of the samples' entropies, in nats, 0 to ln 2",
    ),
}
"""By the name that settings and records have for it."""


def measure_info(name: str) -> MeasureInfo | None:
    """Return what is known of a measure by its name or label; None for any other word."""
    return MEASURES.get(cast(Measure, name.replace(" ", "_")))
