"""Linear interpolation between two grids of the same extent, only where somebody looks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from nnunet_cascade.geometry import Box, Index, Mask, as_index

_BLOCK = 32


@dataclass(frozen=True, slots=True)
class _Taps:
    """For each place along an axis of the fine grid, the two of the coarse one it lies between, and their weights."""

    low: NDArray[np.intp]
    high: NDArray[np.intp]
    of_low: NDArray[np.float32]
    of_high: NDArray[np.float32]

    @classmethod
    def between(cls, count: int, size: int) -> _Taps:
        """Take PyTorch's own weights, read off where it interpolates one place after the other."""
        each = interpolate(torch.eye(count)[None], size=size, mode="linear", align_corners=False)[0].numpy()
        places = np.arange(size)
        low = (each != 0).argmax(axis=0)
        high = np.minimum(low + 1, count - 1)
        return cls(low, high, each[low, places], np.where(high > low, each[high, places], np.float32(0)))

    def reach(self, start: int, stop: int) -> tuple[int, int]:
        """Return the fine places that take anything of the coarse ones from `start` up to `stop`; perhaps none."""
        last = np.where(self.of_high != 0, self.high, self.low)
        return int(np.searchsorted(last, start)), int(np.searchsorted(self.low, stop))


class Interpolation:
    """Trilinear interpolation from a coarse shape to a fine one, as PyTorch's with `align_corners=False`, box by box.

    Both grids cover the same extent, so voxel faces, not centres, coincide at the ends.
    The weights are PyTorch's; sums are rounded after every product, which may differ from it in the last digit.
    """

    def __init__(self, coarse: Index, fine: Index) -> None:
        self._axes = tuple(_Taps.between(count, size) for count, size in zip(coarse, fine, strict=True))

    def boxes(self, wanted: Mask) -> Iterator[Box]:
        """Return boxes of the fine grid that hold every voxel which takes anything of a wanted coarse one.

        Args:
            wanted: (Z, Y, X), on the coarse grid; none wanted gives no box.
        """
        for corner in product(*(range(0, size, _BLOCK) for size in wanted.shape)):
            block = wanted[tuple(slice(start, start + _BLOCK) for start in corner)]
            if not block.any():
                continue
            box = Box.around(block)
            spans = [
                taps.reach(origin + low, origin + high)
                for taps, origin, low, high in zip(self._axes, corner, box.start, box.stop, strict=True)
            ]
            if all(start < stop for start, stop in spans):
                yield Box(as_index(start for start, _ in spans), as_index(stop for _, stop in spans))

    def values(self, channels: NDArray[np.float32], box: Box) -> NDArray[np.float32]:
        """Interpolate (C, Z, Y, X) inside a box of the fine grid; a voxel's value does not depend on the box."""
        found = channels
        for axis, part in ((2, box.slices[2]), (1, box.slices[1]), (0, box.slices[0])):
            taps, shape = self._axes[axis], (-1, *(1,) * (2 - axis))
            low, high = found.take(taps.low[part], axis + 1), found.take(taps.high[part], axis + 1)
            low *= taps.of_low[part].reshape(shape)
            high *= taps.of_high[part].reshape(shape)
            found = np.add(low, high, out=low)
        return found
