"""The picture of a FROC: how many lesions are found for how many false positives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation.froc import RATE_NAMES, RATES, Froc
from nnunet_cascade.evaluation.method_styles import method_style
from nnunet_cascade.files import atomic_file

_MARGIN = 2**0.25


def draw_froc(frocs: Mapping[str, Froc], path: Path, *, title: str) -> None:
    """Draw the FROC of some methods as steps, with intervals at the seven rates, legible in grey.

    Args:
        frocs: By method, at least one. One without lesions has no curve.
        path: Of the picture, which appears whole or not at all; its ending says the kind, such as .png or .svg.
        title: Says data and n.

    Raises:
        SettingsError: There is no method.
        OSError: The picture cannot be written.
    """
    if not frocs:
        raise SettingsError("found no method; a FROC picture needs at least one")
    from matplotlib.figure import Figure  # noqa: PLC0415 - for pictures alone

    figure = Figure(figsize=(5, 4.4), layout="constrained")
    axes = figure.subplots()
    for number, (name, froc) in enumerate(frocs.items()):
        _draw(axes, name, froc, number)
    axes.set_xscale("log", base=2)
    axes.set_xticks(RATES, labels=RATE_NAMES)
    axes.set(xlim=(RATES[0] / _MARGIN, RATES[-1] * _MARGIN), ylim=(0, 1.02), title=title)
    axes.set(xlabel="false positives per scan", ylabel="sensitivity per lesion")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    with atomic_file(path) as beside:
        figure.savefig(beside, dpi=150)


def _draw(axes: Any, name: str, froc: Froc, number: int) -> None:
    """Draw the steps of a method without markers, and its seven sensitivities without a line."""
    style = method_style(number)
    steps = np.concatenate([[0.0], froc.curve.false_positives, [RATES[-1] * 2]])
    heights = np.concatenate([[0.0], froc.curve.sensitivities, froc.curve.sensitivities[-1:] if froc.findings else [0]])
    axes.step(steps, heights, where="post", **{**style, "marker": ""})
    shifted = [rate * 2 ** (0.04 * ((number + 1) // 2) * (-1) ** number) for rate in froc.rates]
    axes.plot(shifted, [found.value for found in froc.sensitivities], **{**style, "linestyle": ""})
    axes.plot([], [], label=f"{name}, mean {froc.mean.value:.3f}", **style)  # the legend has line and marker
    for at, found in zip(shifted, froc.sensitivities, strict=True):
        if found.percentile is not None:
            axes.plot([at, at], [found.percentile.low, found.percentile.high], color=style["color"], linewidth=0.8)
