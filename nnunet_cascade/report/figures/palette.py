"""How things are drawn so that they stay apart in gray and for the color-blind.

Colors are Okabe and Ito's (https://jfly.uni-koeln.de/color/). Their lightness differs where they
share a picture, and so do lines: nothing is told by color alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

_SKY_BLUE, _VERMILLION, _YELLOW, _WHITE = "#56B4E9", "#D55E00", "#F0E442", "#FFFFFF"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """How an outline is drawn.

    Attributes:
        name: What it stands for, in words for the key.
        color: As #RRGGBB.
        dashes: Lengths of strokes and gaps in widths of the line; () is a solid line.
        width_pt: In points.
        hatch: matplotlib's pattern for the inside; "" leaves it clear.
    """

    name: str
    color: str
    dashes: tuple[float, ...] = ()
    width_pt: float = 1.4
    hatch: str = ""


TRUTH = Line(name="ground truth", color=_YELLOW, dashes=(6, 1.5))
PREDICTED = Line(name="predicted tumor, kept candidate", color=_SKY_BLUE)
DROPPED = Line(name="dropped candidate", color=_VERMILLION, dashes=(2, 1.2), hatch="//////")
LUNGS = Line(name="lungs", color=_WHITE, dashes=(1, 1.8), width_pt=0.8)
REGION = Line(name="region of stage 2", color=_WHITE, dashes=(6, 2, 1, 2), width_pt=1.1)

HEAT_BRIGHTNESS = 0.45
"""Of the CT below a map of uncertainty, whose colors are then lighter than any tissue, in gray too."""
_HEAT, _HEAT_FROM = "inferno", 0.42


def heat(share: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the color of an uncertainty, lighter for more, by its root: a usual one is a tenth of the most.

    Args:
        share: Of the most that there can be, 0 to 1; any shape.

    Returns:
        Red, green, blue and opacity, 0 to 255, along one more axis at the end.
    """
    return mpl.colormaps[_HEAT](_HEAT_FROM + (1 - _HEAT_FROM) * np.sqrt(share), bytes=True)
