"""Where one slice of a series is in the patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnunet_cascade.geometry import Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class SlicePlane:
    """Where one CT image lies in the patient, as its header says.

    Attributes:
        position_mm: World position (x, y, z) of the centre of the first pixel.
        down: Unit vector (x, y, z) in which the row index grows (Y).
        right: Unit vector (x, y, z) in which the column index grows (X).
        spacing_mm: Pixel size along (Y, X).
        shape: Pixels along (Y, X).
    """

    position_mm: Vector
    down: Vector
    right: Vector
    spacing_mm: tuple[float, float]
    shape: tuple[int, int]

    @property
    def normal(self) -> Vector:
        """Unit vector (x, y, z) at right angles to the slice: that of rows cross that of columns, as in DICOM."""
        x, y, z = np.cross(self.right, self.down)
        return float(x), float(y), float(z)

    def is_parallel_to(self, other: SlicePlane) -> bool:
        """Return whether two slices share orientation, pixel size and number of pixels."""
        mine, theirs = (*self.down, *self.right), (*other.down, *other.right)
        return (
            self.shape == other.shape
            and bool(np.allclose(mine, theirs, atol=1e-3))
            and bool(np.allclose(self.spacing_mm, other.spacing_mm, rtol=1e-3))
        )
