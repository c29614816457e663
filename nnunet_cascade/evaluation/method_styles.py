"""How the curves of methods are drawn, so that print and every eye can tell them apart."""

from typing import Any

_LINES: tuple[tuple[Any, str], ...] = (
    ("-", "0.0"),
    ("--", "0.35"),
    (":", "0.5"),
    ("-.", "0.2"),
    ((0, (6, 1, 1, 1)), "0.6"),
)
_MARKERS = "os^Dv"


def method_style(number: int) -> dict[str, Any]:
    """Return line, marker and grey of a method, as Matplotlib's `plot` takes them.

    Args:
        number: Of the method, from 0 up. The first 5 differ in all three, the first 25 in one of them at least.
    """
    line, grey = _LINES[number % len(_LINES)]
    marker = _MARKERS[(number + number // len(_LINES)) % len(_MARKERS)]
    return {"linestyle": line, "marker": marker, "color": grey, "markersize": 4, "linewidth": 1.2}
