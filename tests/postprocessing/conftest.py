"""Builders for arrays one can draw by hand, and for the same patient laid out in other ways."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from nnunet_cascade.dicom_export.series_geometry import turned_grid
from nnunet_cascade.geometry import AxisTurn, Grid
from nnunet_cascade.images import Volume
from nnunet_cascade.postprocessing.lungs.threshold import threshold_lungs


@dataclass(frozen=True, slots=True)
class Layout:
    """Another order of axes, some of them turned round."""

    turn: AxisTurn

    def array(self, array):
        return np.ascontiguousarray(self.turn.apply(array))

    def grid(self, grid):
        return turned_grid(grid, self.turn)


LAYOUTS = {
    "upright": AxisTurn((0, 1, 2), (False, False, False)),
    "x flipped": AxisTurn((0, 1, 2), (False, False, True)),
    "all flipped": AxisTurn((0, 1, 2), (True, True, True)),
    "z last": AxisTurn((1, 2, 0), (False, True, False)),
    "x first": AxisTurn((2, 0, 1), (True, False, False)),
    "x and y swapped": AxisTurn((0, 2, 1), (True, False, True)),
}


@pytest.fixture(params=list(LAYOUTS.values()), ids=list(LAYOUTS))
def layout(request):
    return Layout(request.param)


@pytest.fixture(scope="session")
def tilted():
    """Turn a grid by 12 degrees about each axis, as an oblique scan."""

    def build(grid):
        c, s = np.cos(np.deg2rad(12)), np.sin(np.deg2rad(12))
        turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
        axes = tuple(tuple(float(v) for v in turn @ np.array(axis)) for axis in grid.axes)
        return replace(grid, axes=axes)

    return build


@pytest.fixture(scope="session")
def chest():
    """Two box lungs, 1 mm voxels, and tumor blocks given as (z, y, x) slices.

    The lungs fill x 4–14 (right) and 30–40 (left) of 44, y 3–17 of 20 and z 2–22 of
    24: their box is x 4–40, its middle half, the central zone, x 13–31.
    """

    def build(*blocks):
        grid = Grid(shape=(24, 20, 44), spacing_mm=(1.0, 1.0, 1.0))
        lungs = np.zeros(grid.shape, dtype=bool)
        lungs[2:22, 3:17, 4:14] = True
        lungs[2:22, 3:17, 30:40] = True
        tumor = np.zeros(grid.shape, dtype=bool)
        for block in blocks:
            tumor[block] = True
        return grid, lungs, tumor

    return build


@dataclass(frozen=True, slots=True, kw_only=True)
class Thorax:
    """A drawn thorax with air around, a trachea, two lungs, bowel gas and a table."""

    ct: Volume
    right: np.ndarray
    left: np.ndarray


@pytest.fixture(scope="session")
def thorax():
    grid = Grid(shape=(70, 90, 110), spacing_mm=(4.0, 3.5, 3.5), origin_mm=(-190.0, -150.0, 20.0))
    z, y, x = np.meshgrid(*(np.arange(size) for size in grid.shape), indexing="ij")
    z_mm, y_mm, x_mm = z * 4.0, (y - 42) * 3.5, (x - 54.5) * 3.5
    rng = np.random.default_rng(0)
    hu = np.full(grid.shape, -1000.0)
    hu[(x_mm / 175) ** 2 + (y_mm / 120) ** 2 < 1] = 30.0
    right = ((x_mm + 78) / 62) ** 2 + (y_mm / 88) ** 2 + ((z_mm - 150) / 110) ** 2 < 1
    left = ((x_mm - 82) / 54) ** 2 + (y_mm / 82) ** 2 + ((z_mm - 155) / 100) ** 2 < 1
    hu[right | left] = -850.0
    vessel = (right | left) & ((y_mm % 35) < 3.5) & ((z_mm % 40) < 4)
    hu[vessel] = 40.0
    hu[(x_mm**2 + (y_mm + 5) ** 2 < 9.5**2) & (z_mm > 170)] = -1000.0
    hu[((x_mm - 60) / 30) ** 2 + ((y_mm + 60) / 20) ** 2 + ((z_mm - 15) / 12) ** 2 < 1] = -1000.0
    hu[:, 86:88, 15:95] = 200.0
    noisy = (hu + rng.normal(0, 15, grid.shape)).astype(np.float32)
    return Thorax(ct=Volume(noisy, grid), right=right, left=left)


@pytest.fixture(scope="session")
def thorax_lungs(thorax):
    """The lungs that are found in the drawn thorax."""
    return threshold_lungs(thorax.ct)
