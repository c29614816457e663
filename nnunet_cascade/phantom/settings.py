"""What a phantom is drawn with, apart from its seed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nnunet_cascade.geometry import Grid, Spacing, Vector, as_index
from nnunet_cascade.settings.serialization import require

FIELD_OF_VIEW_MM: Vector = (372.0, 270.0, 306.0)
"""What a scan covers along left-right, front-back and foot-head, centred on the world's origin."""
_DIRECTIONS: dict[str, tuple[int, float]] = {
    "L": (0, 1.0),
    "R": (0, -1.0),
    "P": (1, 1.0),
    "A": (1, -1.0),
    "S": (2, 1.0),
    "I": (2, -1.0),
}
_MOST_LESIONS = 20
_LARGEST_RADIUS_MM = 30.0
_SMALLEST_FIELD_VOXELS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomSettings:
    """How the phantom is scanned and how much is wrong with it.

    Attributes:
        spacing_mm: Voxel size along (Z, Y, X).
        orientation: Direction in which the index grows along X, Y and Z, in this order, one letter
            each: L or R, P or A, S or I, such as "LPS" or "SAR".
        noise_hu: Standard deviation of the noise; 0 for none.
        tumors: Smallest and largest number of tumors.
        tumor_radius_mm: Smallest and largest radius of a sphere with the tumor's volume.
            Distractors are drawn from the same range, and are smaller at narrow places.
        distractors: Smallest and largest number of distractors. Half of them, rounded down, reach a
            lung; the others are far from both.

    Raises:
        SettingsError: A value is out of its range.
    """

    spacing_mm: Spacing = (3.0, 3.0, 3.0)
    orientation: str = "LPS"
    noise_hu: float = 18.0
    tumors: tuple[int, int] = (0, 3)
    tumor_radius_mm: tuple[float, float] = (7.0, 20.0)
    distractors: tuple[int, int] = (4, 8)

    def __post_init__(self) -> None:
        largest, found = min(FIELD_OF_VIEW_MM) / _SMALLEST_FIELD_VOXELS, self.spacing_mm
        fits = all(math.isfinite(size) and 0 < size <= largest for size in found)
        require(fits, f"spacing_mm must be above 0 and at most {largest:.0f} mm; found {found}")
        axes = sorted(_DIRECTIONS.get(letter, (-1, 0.0))[0] for letter in self.orientation)
        expected = "expected one each of L/R, P/A and S/I, such as 'LPS'"
        require(axes == [0, 1, 2], f"orientation {self.orientation!r}: {expected}")
        is_noise = math.isfinite(self.noise_hu) and self.noise_hu >= 0
        require(is_noise, f"noise_hu must be 0 or more; found {self.noise_hu}")
        _require_range("tumors", self.tumors, lowest=0, highest=_MOST_LESIONS)
        _require_range("distractors", self.distractors, lowest=0, highest=_MOST_LESIONS)
        _require_range("tumor_radius_mm", self.tumor_radius_mm, lowest=1, highest=_LARGEST_RADIUS_MM)


def grid_of_settings(settings: PhantomSettings) -> Grid:
    """Return the grid that covers the field of view, the same voxel centres whatever the flips."""
    axes = [_direction(letter) for letter in reversed(settings.orientation)]
    world = [_DIRECTIONS[letter][0] for letter in reversed(settings.orientation)]
    counts = [max(1, round(FIELD_OF_VIEW_MM[w] / size)) for w, size in zip(world, settings.spacing_mm, strict=True)]
    half = np.array([(n - 1) / 2 * size for n, size in zip(counts, settings.spacing_mm, strict=True)])
    x, y, z = (float(v) for v in -(half @ np.array(axes)))
    return Grid(
        shape=as_index(counts), spacing_mm=settings.spacing_mm, origin_mm=(x, y, z), axes=(axes[0], axes[1], axes[2])
    )


def _direction(letter: str) -> Vector:
    world, sign = _DIRECTIONS[letter]
    x, y, z = (sign if axis == world else 0.0 for axis in range(3))
    return x, y, z


def _require_range(name: str, found: tuple[float, float], *, lowest: float, highest: float) -> None:
    low, high = found
    expected = f"(low, high) with {lowest} <= low <= high <= {highest:g}"
    require(lowest <= low <= high <= highest, f"{name} must be {expected}; found {found}")
