"""The reliability diagram: what a probability promises against how often it is kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation.calibration.counts import WIDTH_BINS, CalibrationCounts
from nnunet_cascade.evaluation.method_styles import method_style
from nnunet_cascade.evaluation.statistics.bootstrap import Interval, Resampling
from nnunet_cascade.evaluation.statistics.replicates import RESAMPLING, case_weights, percentile_interval

_MOST_METHODS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityPoint:
    """One bin of the diagram.

    Attributes:
        low: Smallest probability of the bin.
        high: Its end; only the last bin holds it.
        voxels: In the bin.
        mean_probability: Promised; NaN without voxels.
        tumor_share: Kept; NaN without voxels.
        interval: Of the share, over cases; None for fewer than 3 cases with a voxel in the bin.
    """

    low: float
    high: float
    voxels: int
    mean_probability: float
    tumor_share: float
    interval: Interval | None


def reliability_points(
    cases: Sequence[CalibrationCounts], resampling: Resampling = RESAMPLING
) -> tuple[ReliabilityPoint, ...]:
    """Return the diagram of all voxels of some cases as plain values, 15 bins of equal width.

    Args:
        cases: Counts of each, at least one case.
        resampling: How intervals are drawn.

    Raises:
        SettingsError: There is no case.
    """
    if not cases:
        raise SettingsError("found no case; a reliability diagram needs at least one")
    tables = np.stack([counts.width for counts in cases])
    weights = case_weights(len(cases), resampling)
    voxels, promised, tumor = tables.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = (weights @ tables[:, 2]) / (weights @ tables[:, 0])
    return tuple(
        ReliabilityPoint(
            low=at / WIDTH_BINS,
            high=(at + 1) / WIDTH_BINS,
            voxels=round(float(voxels[at])),
            mean_probability=float(promised[at] / voxels[at]) if voxels[at] else math.nan,
            tumor_share=float(tumor[at] / voxels[at]) if voxels[at] else math.nan,
            interval=percentile_interval(
                shares[:, at], cases=int(np.count_nonzero(tables[:, 0, at])), resampling=resampling
            ),
        )
        for at in range(WIDTH_BINS)
    )


def draw_reliability(curves: Mapping[str, Sequence[ReliabilityPoint]], path: Path, *, title: str) -> None:
    """Draw one diagram for some methods, with the voxels of each bin below, legible in grey.

    Args:
        curves: By method, 1 to 5 of them.
        path: Of the picture; its ending says the kind, such as .png or .svg.
        title: Says data, region and n.

    Raises:
        SettingsError: There is no method, or more than 5.
    """
    if not 1 <= len(curves) <= _MOST_METHODS:
        raise SettingsError(f"{len(curves)} methods in one diagram; expected 1 to {_MOST_METHODS}")
    from matplotlib.figure import Figure  # noqa: PLC0415 - for pictures alone

    figure = Figure(figsize=(5, 6.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color="0.75", linewidth=1, label="perfectly calibrated")
    for number, (name, points) in enumerate(curves.items()):
        _draw_curve(upper, lower, name, [point for point in points if point.voxels], method_style(number))
    upper.set(ylabel="share that is tumor", ylim=(0, 1), title=title)
    upper.legend(frameon=False, fontsize=8)
    lower.set(xlabel="predicted tumor probability", ylabel="voxels", yscale="log", xlim=(0, 1))
    figure.savefig(path, dpi=150)


def _draw_curve(upper: Any, lower: Any, name: str, points: Sequence[ReliabilityPoint], drawn: dict[str, Any]) -> None:
    promised = [point.mean_probability for point in points]
    upper.plot(promised, [point.tumor_share for point in points], label=name, **drawn)
    for at, point in zip(promised, points, strict=True):
        if point.interval is not None:
            upper.plot([at, at], [point.interval.low, point.interval.high], color=drawn["color"], linewidth=0.8)
    middles = [(point.low + point.high) / 2 for point in points]
    lower.plot(middles, [point.voxels for point in points], **drawn)
