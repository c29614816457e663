"""The measures of uncertainty, and the largest value of each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, get_args

Measure = Literal["variance", "predictive_entropy", "mutual_information"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
LARGEST: Mapping[str, float] = {
    "variance": 0.25,
    "predictive_entropy": math.log(2),
    "mutual_information": math.log(2),
}
"""By measure: a variance has no unit, entropies are in nats."""
