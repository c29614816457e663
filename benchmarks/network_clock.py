"""When a process was in a network, told from outside: nnU-Net's predictor is called through a clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor


@dataclass(frozen=True, slots=True)
class Clock:
    """Beginning and end of each call, by name, in seconds of the same clock."""

    spans: dict[str, list[tuple[float, float]]] = field(default_factory=dict[str, list[tuple[float, float]]])

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Give the function with the clock around it."""

        def clocked(*arguments: Any, **named: Any) -> Any:
            begun = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self.spans.setdefault(name, []).append((begun, time.perf_counter()))

        return clocked

    def around_networks(self) -> None:
        """Put the clock around every prediction of a preprocessed image in this process: `networks`."""
        predict = nnUNetPredictor.predict_logits_from_preprocessed_data
        nnUNetPredictor.predict_logits_from_preprocessed_data = self.around("networks", predict)

    def seconds(self, *names: str) -> float:
        """Give the time spent in any of them; what ran side by side counts once."""
        return covered([span for name in names for span in self.spans.get(name, [])])


def covered(spans: Sequence[tuple[float, float]]) -> float:
    """Give the length of the union of intervals; 0 without any."""
    total, until = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total
