"""The vocabulary of space: arrays, grids and boxes.

Arrays are (Z, Y, X). World coordinates are millimetres in LPS, as in DICOM and
ITK: x grows to the patient's left, y to the back, z to the head. A `Grid` keeps
what relates the two; nothing else in the package guesses at orientation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.errors import GridMismatchError, SettingsError, WrongTypeError, require_type

Spacing = tuple[float, float, float]
"""Voxel size in mm along (Z, Y, X)."""
Index = tuple[int, int, int]
"""Voxel position or extent along (Z, Y, X)."""
Vector = tuple[float, float, float]
"""World coordinates in mm, LPS, in the order (x, y, z)."""
Mask = NDArray[np.bool_]
"""(Z, Y, X), True inside."""
Image = NDArray[np.float32]
"""(Z, Y, X), Hounsfield units or probabilities, as the name says."""
Stored = NDArray[np.float32 | np.int16]
"""(Z, Y, X), an image in half the memory where its file holds whole numbers of 16 bits."""
Labels = NDArray[np.integer]
"""(Z, Y, X), 0 is background."""

Anatomical = Literal["left-right", "front-back", "foot-head"]
MM3_PER_ML = 1000.0
_WORLD_AXIS: dict[Anatomical, int] = {"left-right": 0, "front-back": 1, "foot-head": 2}
_LETTERS: dict[str, tuple[Anatomical, bool]] = {
    "L": ("left-right", True),
    "R": ("left-right", False),
    "P": ("front-back", True),
    "A": ("front-back", False),
    "S": ("foot-head", True),
    "I": ("foot-head", False),
}
_Element = TypeVar("_Element", bound=np.generic)
_POSITION_TOLERANCE_MM = 0.05
_DIRECTION_TOLERANCE = 1e-3


def as_mask(array: object, *, what: str) -> Mask:
    """Return an array (Z, Y, X) of booleans, or of labels of which all but 0 are inside, as a mask.

    Raises:
        WrongTypeError: It is no array of the kind; the message names `what`.
    """
    require_type(array, np.ndarray, "an array (Z, Y, X) of booleans or labels", what=what)
    found = np.asarray(array)
    if found.ndim != 3 or found.dtype.kind not in "bui":
        raise WrongTypeError(
            f"{what}: expected an array (Z, Y, X) of booleans or labels; found {found.ndim} dimensions of "
            f"{found.dtype}; compare probabilities with a threshold first"
        )
    return found if found.dtype == np.bool_ else found != 0


def as_index(values: Iterable[int]) -> Index:
    """Return three whole numbers, of NumPy or not, as an index (Z, Y, X)."""
    z, y, x = (int(value) for value in values)
    return z, y, x


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Where the voxels of an array lie in the patient.

    Attributes:
        shape: Number of voxels along (Z, Y, X), all positive.
        spacing_mm: Voxel size along (Z, Y, X), all positive.
        origin_mm: World position (x, y, z) of the centre of voxel (0, 0, 0).
        axes: Three unit vectors (x, y, z): the world direction in which the index
            grows along Z, along Y and along X. Orthogonal.

    Raises:
        SettingsError: A size is not positive or the axes are not orthonormal.

    Example:
        >>> grid = nnc.Grid(shape=(40, 512, 512), spacing_mm=(3, 0.8, 0.8))
        >>> grid.world_mm((1, 0, 0))
        (0.0, 0.0, 3.0)
    """

    shape: Index
    spacing_mm: Spacing
    origin_mm: Vector = (0.0, 0.0, 0.0)
    axes: tuple[Vector, Vector, Vector] = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise SettingsError(f"a grid needs at least one voxel along each axis; found shape {self.shape}")
        if not all(math.isfinite(size) and size > 0 for size in self.spacing_mm):
            raise SettingsError(f"voxel sizes must be positive; found {self.spacing_mm} mm along (Z, Y, X)")
        matrix = np.array(self.axes)
        if not np.allclose(matrix @ matrix.T, np.eye(3), atol=_DIRECTION_TOLERANCE):
            raise SettingsError(f"the axes of a grid must be orthonormal; found {self.axes}")

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel."""
        return math.prod(self.spacing_mm)

    def world_mm(self, index: tuple[float, float, float]) -> Vector:
        """Return the world position (x, y, z) of a (fractional) voxel index (Z, Y, X)."""
        steps = np.array(index) * np.array(self.spacing_mm)
        x, y, z = np.array(self.origin_mm) + steps @ np.array(self.axes)
        return float(x), float(y), float(z)

    def array_axis(self, anatomical: Anatomical) -> tuple[int, int]:
        """Find the array axis that runs along an anatomical one.

        Returns:
            The axis (0 is Z, 1 is Y, 2 is X) and +1 where the index grows to the left, the back or the head, −1 where
            it grows the other way. On an oblique grid each anatomical axis has an array axis of its own.
        """
        matrix = np.abs(np.array(self.axes))
        best = max(permutations(range(3)), key=lambda order: sum(matrix[order[world], world] for world in range(3)))
        world = _WORLD_AXIS[anatomical]
        axis = best[world]
        return axis, 1 if self.axes[axis][world] >= 0 else -1

    def cropped(self, box: Box) -> Grid:
        """Return the grid of the part of an array inside a box; the box may reach outside."""
        return replace(self, shape=box.shape, origin_mm=self.world_mm(box.start))

    def difference(self, other: Grid) -> str | None:
        """Say in words how another grid differs, or None where both are the same.

        Positions may differ by 0.05 mm at any corner, which is more than rounding
        in a NIfTI header and far less than half a voxel.
        """
        if self.shape != other.shape:
            return f"shape {other.shape} instead of {self.shape}"
        for name, index in (("first", (0, 0, 0)), ("last", as_index(size - 1 for size in self.shape))):
            here, there = self.world_mm(index), other.world_mm(index)
            if math.dist(here, there) > _POSITION_TOLERANCE_MM:
                return f"{name} voxel at {_rounded(there)} mm instead of {_rounded(here)} mm"
        if not np.allclose(self.axes, other.axes, atol=_DIRECTION_TOLERANCE):
            return f"directions {other.axes} instead of {self.axes}"
        return None

    def require_same(self, other: Grid, *, what: str) -> None:
        """Raise a GridMismatchError naming `what` where another grid differs from this one."""
        found = self.difference(other)
        if found is not None:
            raise GridMismatchError(f"{what} is not on the image's grid: {found}; resample it to the image")


@dataclass(frozen=True, slots=True)
class Box:
    """A half-open block of voxels: from `start` up to, not including, `stop`, in (Z, Y, X).

    It may reach outside an array, where what lies there is the caller's to say.

    Raises:
        SettingsError: The box is empty along an axis.

    Example:
        >>> box = nnc.Box((1, 2, 3), (3, 4, 5))
        >>> box.shape, np.zeros((8, 8, 8))[box.slices].shape
        ((2, 2, 2), (2, 2, 2))
    """

    start: Index
    stop: Index

    def __post_init__(self) -> None:
        if any(low >= high for low, high in zip(self.start, self.stop, strict=True)):
            raise SettingsError(f"a box needs at least one voxel along each axis; found {self.start} to {self.stop}")

    @classmethod
    def around(cls, mask: Mask) -> Box:
        """Return the smallest box that holds every voxel of a mask; it must have one."""
        spans = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
        if any(span.size == 0 for span in spans):
            raise SettingsError("an empty mask has no bounding box; test for voxels first")
        return cls(as_index(int(span[0]) for span in spans), as_index(int(span[-1]) + 1 for span in spans))

    @classmethod
    def whole(cls, shape: Index) -> Box:
        """Return the box of a whole array."""
        return cls((0, 0, 0), shape)

    @property
    def shape(self) -> Index:
        """Number of voxels along (Z, Y, X)."""
        return as_index(high - low for low, high in zip(self.start, self.stop, strict=True))

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The box as an index into an array that holds all of it."""
        z, y, x = (slice(low, high) for low, high in zip(self.start, self.stop, strict=True))
        return z, y, x

    def grown(self, voxels: Index) -> Box:
        """Return the box with `voxels` more on both sides of each axis."""
        return Box(
            as_index(low - more for low, more in zip(self.start, voxels, strict=True)),
            as_index(high + more for high, more in zip(self.stop, voxels, strict=True)),
        )

    def grown_mm(self, margin_mm: float, spacing_mm: Spacing) -> Box:
        """Return the box with at least `margin_mm` more on every side: fractions of voxels count as whole ones."""
        return self.grown(as_index(math.ceil(margin_mm / size - 1e-6) for size in spacing_mm))

    def at_least(self, shape: Index) -> Box:
        """Return the box grown about its centre until it has `shape` voxels, the odd one at the end."""
        missing = [max(0, wanted - size) for wanted, size in zip(shape, self.shape, strict=True)]
        return Box(
            as_index(low - lack // 2 for low, lack in zip(self.start, missing, strict=True)),
            as_index(high + lack - lack // 2 for high, lack in zip(self.stop, missing, strict=True)),
        )

    def intersection(self, other: Box) -> Box | None:
        """Return the part inside both boxes, or None where they do not meet."""
        start = as_index(max(a, b) for a, b in zip(self.start, other.start, strict=True))
        stop = as_index(min(a, b) for a, b in zip(self.stop, other.stop, strict=True))
        return Box(start, stop) if all(a < b for a, b in zip(start, stop, strict=True)) else None

    def union(self, other: Box) -> Box:
        """Return the smallest box that holds both."""
        start = as_index(min(a, b) for a, b in zip(self.start, other.start, strict=True))
        return Box(start, as_index(max(a, b) for a, b in zip(self.stop, other.stop, strict=True)))

    def clipped(self, shape: Index) -> Box:
        """Return the part of the box inside an array of `shape`; there must be one."""
        inside = self.intersection(Box.whole(shape))
        if inside is None:
            raise SettingsError(f"box {self.start} to {self.stop} lies outside an array of shape {shape}")
        return inside

    def relative_to(self, outer: Box) -> Box:
        """Return the same voxels counted from the start of `outer`."""
        return Box(
            as_index(a - b for a, b in zip(self.start, outer.start, strict=True)),
            as_index(a - b for a, b in zip(self.stop, outer.start, strict=True)),
        )


@dataclass(frozen=True, slots=True)
class AxisTurn:
    """A change of the order and the sense of array axes, which no interpolation is needed for.

    Attributes:
        order: For each axis of the turned array, the axis of the original it comes from.
        flipped: Whether it runs the other way.
    """

    order: Index
    flipped: tuple[bool, bool, bool]

    @classmethod
    def to_code(cls, grid: Grid, code: str) -> AxisTurn:
        """Return the turn after which x, y and z indices grow towards the letters of a code.

        Args:
            grid: Of the original array.
            code: Three letters for (x, y, z), such as "LPS": the x index then grows to
                the left, y to the back, z to the head. Oblique grids turn to the nearest.
        """
        towards: list[tuple[Anatomical, bool]] = [_LETTERS[letter] for letter in reversed(code)]
        places = [(grid.array_axis(anatomical), growing) for anatomical, growing in towards]
        flips = [(sense > 0) != growing for (_, sense), growing in places]
        return cls(as_index(axis for (axis, _), _ in places), (flips[0], flips[1], flips[2]))

    def apply(self, array: NDArray[_Element]) -> NDArray[_Element]:
        """Turn an array (Z, Y, X); the result may share its memory."""
        return array.transpose(self.order)[self._senses]

    def undo(self, array: NDArray[_Element]) -> NDArray[_Element]:
        """Turn an array back to the original order; the result may share its memory."""
        back = [self.order.index(axis) for axis in range(3)]
        return array[self._senses].transpose(back)

    def box(self, box: Box, shape: Index) -> Box:
        """Return the same voxels in the turned array; `shape` is that of the original."""
        ends = [
            (shape[axis] - box.stop[axis], shape[axis] - box.start[axis]) if flip else (box.start[axis], box.stop[axis])
            for axis, flip in zip(self.order, self.flipped, strict=True)
        ]
        return Box(as_index(start for start, _ in ends), as_index(stop for _, stop in ends))

    def spacing(self, spacing_mm: Spacing) -> Spacing:
        """Return the voxel size along the turned axes."""
        z, y, x = (spacing_mm[axis] for axis in self.order)
        return z, y, x

    @property
    def _senses(self) -> tuple[slice, slice, slice]:
        z, y, x = (slice(None, None, -1 if flip else 1) for flip in self.flipped)
        return z, y, x


def crop_with_fill(image: NDArray[_Element], box: Box, *, fill: float) -> NDArray[_Element]:
    """Copy the part of an image inside a box; what lies outside the image is `fill`.

    Args:
        image: (Z, Y, X). Left unchanged.
        box: May reach outside the image, or lie wholly outside it.
        fill: Value outside the image, such as −1024 HU for air.
    """
    crop = np.full(box.shape, fill, dtype=image.dtype)
    inside = box.intersection(Box.whole(as_index(image.shape)))
    if inside is not None:
        crop[inside.relative_to(box).slices] = image[inside.slices]
    return crop


def _rounded(position: Vector) -> Vector:
    x, y, z = (round(value, 2) for value in position)
    return x, y, z
