"""A lung mask and what is known about it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.errors import GridMismatchError
from nnunet_cascade.flags import Flag
from nnunet_cascade.geometry import MM3_PER_ML, Grid, Labels, Mask

RIGHT = 1
LEFT = 2
UNKNOWN_SIDE = 3

_PLAUSIBLE_ML = (1000.0, 10000.0)
SMALL_SIDE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class LungMask:
    """The lungs of one CT.

    Attributes:
        labels: (Z, Y, X), uint8, on the CT's grid: 1 the patient's right lung, 2 the
            left, 3 lung of unknown side, 0 no lung.
        volume_ml: Volume of all of it.
        source: Where it comes from, such as "threshold" or "lungmask R231".
        flags: Those of `Flag` that come from the lungs.

    Example:
        >>> labels = np.ones((10, 10, 10), np.uint8)
        >>> grid = nnc.Grid(shape=labels.shape, spacing_mm=(10, 10, 10))
        >>> nnc.LungMask.of(labels, grid, source="drawn").flags
        ('one_lung_small',)
    """

    labels: NDArray[np.uint8]
    volume_ml: float
    source: str
    flags: tuple[str, ...]

    @classmethod
    def of(cls, labels: Labels, grid: Grid, *, source: str) -> LungMask:
        """Measure and flag a label map.

        Args:
            labels: (Z, Y, X), 0 to 3. May be empty, which is flagged.
            grid: Its grid.
            source: Where it comes from.

        Raises:
            GridMismatchError: `labels` is not of the grid's shape.
        """
        if labels.shape != grid.shape:
            raise GridMismatchError(f"lung mask has shape {labels.shape}, the CT {grid.shape}; resample it to the CT")
        counts = [np.count_nonzero(labels == side) for side in (RIGHT, LEFT, UNKNOWN_SIDE)]
        volumes_ml = [float(count) * grid.voxel_volume_mm3 / MM3_PER_ML for count in counts]
        return cls(
            labels=labels.astype(np.uint8, copy=False),
            volume_ml=sum(volumes_ml),
            source=source,
            flags=_flags(volumes_ml),
        )

    @property
    def mask(self) -> Mask:
        """(Z, Y, X), True inside either lung."""
        return self.labels > 0

    def with_flag(self, flag: str) -> LungMask:
        """Return the same mask with one more flag."""
        return replace(self, flags=(*self.flags, flag))


def _flags(volumes_ml: list[float]) -> tuple[str, ...]:
    total_ml = sum(volumes_ml)
    if total_ml == 0:
        return (Flag.LUNGS_EMPTY,)
    flags = () if _PLAUSIBLE_ML[0] <= total_ml <= _PLAUSIBLE_ML[1] else (Flag.LUNGS_IMPLAUSIBLE,)
    right_ml, left_ml, unknown_ml = volumes_ml
    one_sided = unknown_ml == 0 and min(right_ml, left_ml) < SMALL_SIDE * max(right_ml, left_ml)
    return (*flags, Flag.ONE_LUNG_SMALL) if one_sided else flags
