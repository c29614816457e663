"""Equal distances that the slices of a series lie at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.errors import DicomError

Heights = NDArray[np.float64]
"""(N,), mm along the normal of the slices."""

_REGULAR = 0.05  # of a step: how far slices may lie from where they should
_ROUNDED_MM = 0.1  # between two positions that are each rounded to a tenth of a mm; thin slices need it
_STEP_DECIMALS = 6  # of a mm: hides the noise of single precision in positions
_STEPS_TRIED = 3
_MOST_PLANES_PER_SLICE = 5


@dataclass(frozen=True, slots=True)
class Lattice:
    """Planes at equal distances.

    Attributes:
        step_mm: Distance.
        base_mm: Height of the first.
        planes: How many.
    """

    step_mm: float
    base_mm: float
    planes: int

    @classmethod
    def above(cls, heights: Heights, base_mm: float, step_mm: float) -> Lattice:
        """Return the planes from a height up to the highest slice."""
        top = float(heights[-1]) - base_mm + tolerance_mm(step_mm)
        return cls(step_mm, base_mm, int(np.floor(top / step_mm)) + 1)

    def mismatches(self, heights: Heights) -> int:
        """Count planes without a slice and slices without a plane."""
        above = heights - self.base_mm
        on_it = np.abs(off_lattice_mm(above, self.step_mm)) <= tolerance_mm(self.step_mm)
        matches = len(np.unique(np.rint(above[on_it] / self.step_mm)))
        return self.planes + len(heights) - 2 * matches


def lattice_of(heights: Heights) -> Lattice:
    """Find the equal distances that slices lie at, in spite of gaps and extra slices.

    Args:
        heights: Ascending, at least two, none twice.

    Raises:
        DicomError: It would take many times more planes than there are slices.
    """
    whole = round(float(heights[-1] - heights[0]) / (len(heights) - 1), _STEP_DECIMALS)
    if _fits(heights, whole):
        return Lattice(whole, float(heights[0]), len(heights))
    found = [lattice for steps in _frequent_steps(heights) for lattice in _lattices(heights, steps)]
    best = min(found, key=lambda lattice: lattice.mismatches(heights))
    if best.planes > max(_MOST_PLANES_PER_SLICE * len(heights), 10):
        raise DicomError(
            f"found {len(heights)} slices over {float(heights[-1] - heights[0]):.0f} mm, most of them "
            f"{best.step_mm:.2f} mm apart; expected a series without such gaps"
        )
    return best


def tolerance_mm(step_mm: float) -> float:
    """Return how far a slice may lie from a plane of the grid that it is taken for."""
    return max(_REGULAR * step_mm, min(_ROUNDED_MM, step_mm / 4)) * (1 + 1e-6)


def off_lattice_mm(heights: Heights, step_mm: float) -> Heights:
    """Return how far heights lie above the nearest multiple of a distance."""
    return heights - np.rint(heights / step_mm) * step_mm


def _lattices(heights: Heights, steps: Heights) -> Iterator[Lattice]:
    """Yield the lattices that distances which are alike may mean."""
    mean, median = (round(float(step), _STEP_DECIMALS) for step in (steps.mean(), np.median(steps)))
    gapped = _step_with_gaps(heights, mean)
    if _fits(heights, gapped):
        yield Lattice.above(heights, float(heights[0]), gapped)
    # The mean is right where positions are rounded (1.2 and 1.3 mm for 1.25), the median where not.
    for step_mm in (median, mean):
        yield Lattice.above(heights, _best_base(heights, step_mm), step_mm)


def _frequent_steps(heights: Heights) -> Iterator[Heights]:
    """Yield distances of neighbours that are alike: the most frequent ones, then smaller ones by frequency.

    The most frequent one may be twice the right one, where every other slice is missing, but not half of it.
    """
    steps = np.sort(np.diff(heights))
    for _ in range(_STEPS_TRIED):
        if not steps.size:
            return
        near = np.array([tolerance_mm(float(step)) for step in steps])
        alike = np.abs(steps[:, None] - steps[None, :]) <= near[:, None]
        most = alike[int(np.argmax(alike.sum(axis=1)))]
        yield steps[most]
        steps = steps[: int(np.argmax(most))]


def _step_with_gaps(heights: Heights, step_mm: float) -> float:
    """Refine a distance on the supposition that all others are whole multiples of it."""
    multiples = np.maximum(1.0, np.rint(np.diff(heights) / step_mm))
    return round(float((heights[-1] - heights[0]) / multiples.sum()), _STEP_DECIMALS)


def _fits(heights: Heights, step_mm: float) -> bool:
    """Return whether each slice lies on a plane of its own."""
    above = heights - heights[0]
    alone = np.diff(np.rint(above / step_mm)).min() >= 1
    return bool(alone and np.abs(off_lattice_mm(above, step_mm)).max() <= tolerance_mm(step_mm))


def _best_base(heights: Heights, step_mm: float) -> float:
    """Return the lowest plane, above or at the lowest slice, of the lattice that most slices lie on."""
    near = tolerance_mm(step_mm)
    on_it = [int((np.abs(off_lattice_mm(heights - height, step_mm)) <= near).sum()) for height in heights]
    anchor = float(heights[int(np.argmax(on_it))])
    return anchor - float(np.floor((anchor - float(heights[0]) + near) / step_mm)) * step_mm
