"""A coarse, upright copy of a CT to search lungs in, and the way back to the CT's own grid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.geometry import Grid, Image, Index, Spacing
from nnunet_cascade.images import Volume

_LIMITS_HU = (-1024, 600)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upright:
    """How an array turns into a coarse one whose axes grow to the head, the back and the left.

    Attributes:
        order: Which array axis becomes Z, Y and X.
        flips: Whether each of them is turned round, +1 or −1.
        factors: How many voxels along each become one.
        shape: Shape after turning, before averaging.
        spacing_mm: Voxel size of the coarse array.
    """

    order: Index
    flips: Index
    factors: Index
    shape: Index
    spacing_mm: Spacing

    @classmethod
    def of(cls, grid: Grid, *, about_mm: float) -> Upright:
        """Plan coarse voxels of about a size; voxels that are larger stay as they are."""
        axes = [grid.array_axis(name) for name in ("foot-head", "front-back", "left-right")]
        z, y, x = (axis for axis, _ in axes)
        sizes = [grid.spacing_mm[axis] for axis, _ in axes]
        factors = [
            min(max(1, round(about_mm / size)), grid.shape[axis]) for size, (axis, _) in zip(sizes, axes, strict=True)
        ]
        return cls(
            order=(z, y, x),
            flips=(axes[0][1], axes[1][1], axes[2][1]),
            factors=(factors[0], factors[1], factors[2]),
            shape=(grid.shape[z], grid.shape[y], grid.shape[x]),
            spacing_mm=(sizes[0] * factors[0], sizes[1] * factors[1], sizes[2] * factors[2]),
        )

    def coarse(self, ct: Volume) -> Image:
        """Return the CT upright and block-averaged, clipped to −1024…600 HU."""
        return self.averaged(ct.array, _LIMITS_HU)

    def averaged(self, array: NDArray[Any], limits: tuple[int, int] | None = None) -> Image:
        """Return an array (Z, Y, X) on the CT's grid upright and block-averaged; the last block repeats the edge."""
        turned = array.transpose(self.order)[self._steps()]
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
        found = np.empty([self.shape[self.order.index(axis)] for axis in range(3)], dtype=np.uint8)
        turned = found.transpose(self.order)[self._steps()]
        depth, rows, columns = self.factors
        for place, layer in enumerate(labels):  # one by one: no second array of the CT's size
            fine = np.repeat(np.repeat(layer, rows, axis=0), columns, axis=1)
            turned[place * depth : (place + 1) * depth] = fine[: self.shape[1], : self.shape[2]]
        return found

    def _steps(self) -> tuple[slice, slice, slice]:
        z, y, x = (slice(None, None, flip) for flip in self.flips)
        return z, y, x
