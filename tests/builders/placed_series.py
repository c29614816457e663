"""Fixtures: CT series in any place and orientation, written and read again."""

import numpy as np
import pytest
from builders.oriented_grids import grid_towards
from scipy.spatial.transform import Rotation

from nnunet_cascade.dicom.ct.writing import USUAL_STORAGE, write_ct_series
from nnunet_cascade.dicom.headers import read_header
from nnunet_cascade.dicom.writing import Identity, Series, uid_from
from nnunet_cascade.geometry import Grid

SHAPE = (5, 12, 10)
IDENTITY = Identity(patient_id="NOBODY", study_uid=uid_from("study"), frame_of_reference_uid=uid_from("frame"))


def _oblique(sense=1.0):
    right, down, normal = Rotation.from_euler("zyx", (20, -35, 50), degrees=True).as_matrix()
    axes = tuple(tuple(float(v) for v in axis) for axis in (sense * normal, down, right))
    return Grid(shape=SHAPE, spacing_mm=(2.5, 0.7, 1.1), origin_mm=(100 / 3, -200 / 7, -1000 / 9), axes=axes)


GRIDS = {
    "axial": Grid(shape=SHAPE, spacing_mm=(3.0, 0.9765625, 0.9765625), origin_mm=(-249.51171875, -460.5, -681.5)),
    "anisotropic": Grid(shape=SHAPE, spacing_mm=(5.0, 0.7, 1 / 3), origin_mm=(-1.0, 2.0, 3.0)),
    "prone": grid_towards("RAS", SHAPE, (3.0, 0.8, 0.8)),
    "feet first": grid_towards("RPI", SHAPE, (3.0, 0.8, 0.8)),
    "sagittal": grid_towards("PIR", SHAPE, (3.0, 0.8, 0.9)),
    "oblique": _oblique(),
    "flipped": grid_towards("LPI", SHAPE, (3.0, 0.8, 0.8)),
    "oblique flipped": _oblique(-1.0),
}
"""By what is special about them; the slices of the flipped ones are read in the opposite order."""


@pytest.fixture(params=GRIDS)
def placed_grid(request):
    """A small grid somewhere."""
    return GRIDS[request.param]


@pytest.fixture
def axial_grid():
    return GRIDS["axial"]


@pytest.fixture(scope="session")
def as_read():
    """Put the planes of an array in the order in which slices are read: `as_read(array, grid)`."""

    def build(array, grid):
        normal = np.cross(grid.axes[2], grid.axes[1])
        return array if normal @ np.array(grid.axes[0]) > 0 else array[::-1]

    return build


@pytest.fixture(scope="session")
def series_of():
    """Describe a series of nobody: `series_of("ct")`."""
    return lambda name, **changes: Series(identity=IDENTITY, uid=uid_from(name), description=name, **changes)


@pytest.fixture
def write_slices(tmp_path, series_of):
    """Write a CT and give the headers of its planes: `write_slices(grid, voxels)`; without voxels it is water."""

    def build(grid, voxels=None, *, name="ct", storage=USUAL_STORAGE):
        values = np.zeros(grid.shape, dtype=np.int16) if voxels is None else voxels
        paths = write_ct_series(values, grid, tmp_path / name, series=series_of(name), storage=storage)
        return [read_header(path) for path in paths]

    return build
