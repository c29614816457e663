"""CTs that are not one axial chest with one patient's two lungs, made of a phantom with voxels of 6 mm.

`CHESTS` and `OTHERS` are builders by the names that docs/unusual-scans.md gives them; each gives a `Scan`.
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from builders.tiny_cascades import COARSE

from nnunet_cascade.geometry import Box
from nnunet_cascade.images import Volume
from nnunet_cascade.phantom.thorax import make_phantom

SEED = 3000
WHOLE_BODY_SLICES, LEGS_SLICES = 1000, 500


@dataclass(frozen=True)
class Scan:
    """A CT, what a stage 1 that sees everything would find in it, and its lungs, 1 right and 2 left."""

    image: Volume
    found: np.ndarray
    lungs: np.ndarray


@cache
def chest(**changes):
    phantom = make_phantom(SEED, replace(COARSE, **changes))
    return Scan(Volume(phantom.ct, phantom.grid), phantom.tumors > 0, phantom.lungs)


def cropped(scan, box):
    """The part of a scan inside a box, which may reach outside: there lies −1024 HU."""
    whole = Box.whole(scan.image.grid.shape)
    pads = [
        (max(0, -low), max(0, high - size))
        for low, high, size in zip(box.start, box.stop, scan.image.grid.shape, strict=True)
    ]
    inside = box.intersection(whole).slices
    arrays = [
        np.pad(array[inside], pads, constant_values=fill)
        for array, fill in ((scan.image.array, -1024), (scan.found, False), (scan.lungs, 0))
    ]
    return Scan(Volume(arrays[0], scan.image.grid.cropped(box)), arrays[1], arrays[2])


def slab(axis, start, stop, scan=None):
    """Some slices of a chest along an array axis, counted in shares of its length."""
    scan = scan or chest()
    size = scan.image.grid.shape[axis]
    low, high = [0, 0, 0], list(scan.image.grid.shape)
    low[axis], high[axis] = round(start * size), round(stop * size)
    return cropped(scan, Box(tuple(low), tuple(high)))


def changed(change, scan=None):
    """A chest with other Hounsfield units."""
    scan = scan or chest()
    array = scan.image.array.copy()
    change(array)
    return Scan(Volume(array, scan.image.grid), scan.found, scan.lungs)


def about_the_tumor(reach):
    """A block of `reach` voxels on either side of the tumor's middle."""
    scan = chest()
    middle = np.argwhere(scan.found & (scan.lungs == 2)).mean(axis=0).round().astype(int)
    stops = [min(int(m) + r + 1, size) for m, r, size in zip(middle, reach, scan.found.shape, strict=True)]
    return cropped(scan, Box(tuple(max(0, int(m) - r) for m, r in zip(middle, reach, strict=True)), tuple(stops)))


def ring(value):
    """What lies outside the scanner's round field of view is of one value."""

    def change(array):
        _, height, width = array.shape
        y, x = np.mgrid[:height, :width]
        y, x = (2 * y + 1) / height - 1, (2 * x + 1) / width - 1
        array[:, y**2 + x**2 > 1] = value

    return changed(change)


def frame(value, voxels=8):
    """The scan lies in a larger array of one value."""
    scan = chest()
    box = Box.whole(scan.image.grid.shape).grown((voxels, voxels, voxels))
    framed = cropped(scan, box)
    framed.image.array[framed.image.array == -1024] = value
    framed.image.array[Box.whole(scan.image.grid.shape).relative_to(box).slices] = scan.image.array
    return framed


def without_lung(side):
    """One lung is taken out; soft tissue fills its place."""
    scan = chest()
    array = scan.image.array.copy()
    array[scan.lungs == side] = 30.0
    kept = np.where(scan.lungs == side, 0, scan.lungs)
    return Scan(Volume(array, scan.image.grid), scan.found & (kept > 0), kept)


def oblique(degrees, *, about_x=False):
    """Turned about the axis from right to left as a gantry tilts, and else about the one from foot to head too."""
    scan = chest()
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    if not about_x:
        turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ turn
    axes = tuple(tuple(float(v) for v in turn @ np.array(axis)) for axis in scan.image.grid.axes)
    return replace(scan, image=Volume(scan.image.array, replace(scan.image.grid, axes=axes)))


def whole_body():
    """Legs, belly, chest and head in 1000 slices of 1.8 mm."""
    scan = chest(spacing_mm=(1.8, 6.0, 6.0))
    depth, height, width = scan.image.array.shape
    below = scan.image.array[:1].repeat(LEGS_SLICES, axis=0)
    below[:200, :, width // 2 - 4 : width // 2 + 4] = -1000.0
    above = np.full((WHOLE_BODY_SLICES - LEGS_SLICES - depth, height, width), -1000.0, dtype=np.float32)
    above[:, 8:-8, width // 2 - 12 : width // 2 + 12] = 40.0
    framed = cropped(scan, Box((-len(below), 0, 0), (depth + len(above), height, width)))
    framed.image.array[: len(below)], framed.image.array[-len(above) :] = below, above
    return framed


def nothing_but(array, found=None):
    """A scan without lungs, on the chest's grid."""
    none = np.zeros(array.shape, dtype=bool)
    return Scan(
        Volume(array.astype(np.float32), chest().image.grid), none if found is None else found, none.astype(int)
    )


def spot():
    found = np.zeros(chest().found.shape, dtype=bool)
    found[20:24, 20:24, 20:24] = True
    return found


def abdomen():
    """The lowest slices of a chest, again and again."""
    lowest = chest().image.array[:3]
    return nothing_but(np.tile(lowest, (chest().found.shape[0] // 3, 1, 1)), spot())


def head():
    """A skull with a brain and a nose."""
    z, y, x = (axis * 6.0 for axis in np.indices(chest().found.shape) - np.array([25, 22, 31]).reshape(3, 1, 1, 1))
    depth = np.sqrt((z / 110) ** 2 + (y / 95) ** 2 + (x / 75) ** 2)
    array = np.select([depth > 1, depth > 0.97, depth > 0.88], [-1000.0, 40.0, 900.0], 35.0)
    array[(np.abs(x) < 12) & (np.abs(y + 58) < 18) & (np.abs(z + 20) < 20)] = -950.0
    return nothing_but(array, spot())


CHESTS = {
    "no tumor": lambda: chest(tumors=(0, 0)),
    "upper half": lambda: slab(0, 0.45, 1),
    "lower half": lambda: slab(0, 0, 0.55),
    "apices": lambda: slab(0, 0.8, 1),
    "left half": lambda: slab(2, 0.5, 1),
    "right half": lambda: slab(2, 0, 0.5),
    "cropped into the lungs": lambda: slab(1, 0.25, 0.75, slab(2, 0.17, 0.83)),
    "left lung taken out": lambda: without_lung(2),
    "right lung taken out": lambda: without_lung(1),
    "whole body, 1000 slices": whole_body,
    "slices of 8 mm": lambda: chest(spacing_mm=(8.0, 3.0, 3.0)),
    "slices of 20 mm": lambda: chest(spacing_mm=(20.0, 3.0, 3.0)),
    "sagittal": lambda: chest(orientation="PSL"),
    "coronal": lambda: chest(orientation="RIP"),
    "tilted gantry": lambda: oblique(25, about_x=True),
    "oblique": lambda: oblique(20),
    "huge field of view": lambda: cropped(chest(), Box((-4, -30, -30), (55, 75, 92))),
    "padding of −2000": lambda: ring(-2000.0),
    "padding of −3024": lambda: ring(-3024.0),
    "padding of 0": lambda: ring(0.0),
    "frame of −3024": lambda: frame(-3024.0),
    "frame of 0": lambda: frame(0.0),
    "single slice": lambda: about_the_tumor((0, 60, 60)),
    "smaller than the patch": lambda: about_the_tumor((3, 3, 3)),
    "a line of voxels": lambda: about_the_tumor((60, 0, 0)),
}
OTHERS = {"abdomen": abdomen, "head": head}
REFUSED = {
    "air alone": lambda: nothing_but(np.full(chest().found.shape, -1000.0)),
    "water alone": lambda: nothing_but(np.zeros(chest().found.shape)),
    "values of an MR image": lambda: nothing_but(np.clip(chest().image.array + 1024, 0, None)),
    "values from 0 to 1": lambda: nothing_but(np.clip(chest().image.array / 3000 + 0.34, 0, 1)),
    "padding of −32768": lambda: ring(-32768.0),
}
