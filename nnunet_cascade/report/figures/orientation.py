"""Axial pictures as radiologists look at them: from the feet, the patient's right on the viewer's left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnunet_cascade.geometry import AxisTurn, Grid

_TOWARDS = ("RL", "AP", "IS")
_OBLIQUE_ABOVE = 0.25
RADIOLOGICAL = "LPS"
"""How the axes (x, y, z) of an array run whose planes are drawn row by row, from the top."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeLetters:
    """What of the patient lies towards each edge of a picture: R, L, A, P, I or S; two letters where it is oblique."""

    left: str
    right: str
    top: str
    bottom: str


def radiological_turn(grid: Grid) -> AxisTurn:
    """Return the turn after which planes (Z) run from the feet to the head and are drawn radiologically."""
    return AxisTurn.to_code(grid, RADIOLOGICAL)


def edge_letters(grid: Grid) -> EdgeLetters:
    """Return the letters of a radiological axial picture of a grid."""
    turn = radiological_turn(grid)
    right, bottom = (np.array(grid.axes[turn.order[axis]]) * (-1.0 if turn.flipped[axis] else 1.0) for axis in (2, 1))
    return EdgeLetters(left=_letters(-right), right=_letters(right), top=_letters(-bottom), bottom=_letters(bottom))


def _letters(direction: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> str:
    """Name the way a direction (x, y, z) points, the larger part first, what is within 14° of an axis by one letter."""
    ordered = sorted(range(3), key=lambda world: -abs(float(direction[world])))
    shown = [world for place, world in enumerate(ordered) if place == 0 or abs(direction[world]) > _OBLIQUE_ABOVE]
    return "".join(_TOWARDS[world][int(direction[world] > 0)] for world in shown)
