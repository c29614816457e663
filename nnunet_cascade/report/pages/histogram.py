"""A distribution over cases as bars, to be drawn by a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_FEWEST = 5
_BINS = 16
_LEAST_SPREAD = 1e-9
"""Of the largest value; numbers that are as good as the same fill no bins."""
_WIDTH, _HEIGHT = 320.0, 60.0


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar with its corner at the left top, in units of the drawing, and what it stands for."""

    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Bars from left to right.

    Attributes:
        title: What is counted.
        bars: One per bin that holds a case.
        low: Left end, in words.
        high: Right end, in words.
        cases: How many have a value.
        width: Of the drawing.
        height: Of the drawing.
    """

    title: str
    bars: tuple[Bar, ...]
    low: str
    high: str
    cases: int
    width: float = _WIDTH
    height: float = _HEIGHT


def histogram(title: str, values: Sequence[float | None], *, unit: str = "") -> Histogram | None:
    """Count cases in bins of equal width; None below 5 cases, and where values are the same or endlessly far apart."""
    known = np.array([value for value in values if value is not None], dtype=np.float64)
    with np.errstate(over="ignore"):
        spread = np.ptp(known) if known.size else 0.0
    if known.size < _FEWEST or not _LEAST_SPREAD * np.abs(known).max() < spread < np.inf:
        return None
    counts, edges = np.histogram(known, bins=_BINS)
    step, highest = _WIDTH / _BINS, int(counts.max())
    unit = f" {unit}" if unit else ""
    bars: list[Bar] = []
    for place, count in enumerate(counts.tolist()):
        height = round(_HEIGHT * count / highest, 2)
        words = f"{edges[place]:.3g} to {edges[place + 1]:.3g}{unit}: {count} case{'s' if count > 1 else ''}"
        if count:
            bars.append(Bar(round(step * place, 2), round(_HEIGHT - height, 2), round(step - 1, 2), height, words))
    low, high = (f"{edge:.3g}{unit}" for edge in (edges[0], edges[-1]))
    return Histogram(title=title, bars=tuple(bars), low=low, high=high, cases=int(known.size))
