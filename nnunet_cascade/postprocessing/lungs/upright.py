"""A coarse, upright copy of a CT to search lungs in, and the way back to the CT's own grid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.geometry import AxisTurn, Grid, Image, Index, Spacing, as_index
from nnunet_cascade.images import Volume

_LIMITS_HU = (-1024, 600)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upright:
    """How an array turns into a coarse one whose axes grow to the head, the back and the left.

    Attributes:
        turn: Of the array's axes.
        factors: How many voxels along each become one.
        shape: Shape after turning, before averaging.
        spacing_mm: Voxel size of the coarse array.
    """

    turn: AxisTurn
    factors: Index
    shape: Index
    spacing_mm: Spacing

    @classmethod
    def of(cls, grid: Grid, *, about_mm: float) -> Upright:
        """Plan coarse voxels of about a size; voxels that are larger stay as they are."""
        turn = AxisTurn.to_code(grid, "LPS")
        sizes, shape = turn.spacing(grid.spacing_mm), as_index(grid.shape[axis] for axis in turn.order)
        factors = as_index(min(max(1, round(about_mm / size)), n) for size, n in zip(sizes, shape, strict=True))
        z, y, x = (size * factor for size, factor in zip(sizes, factors, strict=True))
        return cls(turn=turn, factors=factors, shape=shape, spacing_mm=(z, y, x))

    def coarse(self, ct: Volume) -> Image:
        """Return the CT upright and block-averaged, clipped to −1024…600 HU."""
        return self.averaged(ct.array, _LIMITS_HU)

    def averaged(self, array: NDArray[Any], limits: tuple[int, int] | None = None) -> Image:
        """Return an array (Z, Y, X) on the CT's grid upright and block-averaged; the last block repeats the edge."""
        turned = self.turn.apply(array)
        blocks = [-(-size // factor) for size, factor in zip(self.shape, self.factors, strict=True)]
        total: Image = np.zeros(blocks, dtype=np.float32)
        for shift in product(*(range(factor) for factor in self.factors)):
            picks = [
                np.minimum(np.arange(count) * factor + start, size - 1)
                for count, factor, start, size in zip(blocks, self.factors, shift, self.shape, strict=True)
            ]
            picked = turned[np.ix_(*picks)]
            total += picked if limits is None else np.clip(picked, *limits)
        total /= math.prod(self.factors)
        return total

    def fine(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return coarse labels on the CT's own grid, each block filled with its label."""
        found = np.empty([self.shape[self.turn.order.index(axis)] for axis in range(3)], dtype=np.uint8)
        turned = self.turn.apply(found)
        depth, rows, columns = self.factors
        for place, layer in enumerate(labels):  # one by one: no second array of the CT's size
            fine = np.repeat(np.repeat(layer, rows, axis=0), columns, axis=1)
            turned[place * depth : (place + 1) * depth] = fine[: self.shape[1], : self.shape[2]]
        return found
