"""The longest diameter of a lesion in the axial plane."""

import itertools
import math

import numpy as np
import pytest
from builders.oriented_grids import ORIENTATIONS, grid_towards
from hypothesis import given
from hypothesis import strategies as st

from nnunet_cascade.geometry import AxisTurn, Grid
from nnunet_cascade.postprocessing.diameters import axial_diameters

UNIT = Grid(shape=(5, 12, 14), spacing_mm=(3.0, 1.0, 1.0))


def mask_of(grid, *voxels):
    mask = np.zeros(grid.shape, dtype=bool)
    for voxel in voxels:
        mask[voxel] = True
    return mask


@pytest.mark.parametrize(
    ("voxels", "plane", "long_mm"),
    [
        ([(2, 4, slice(3, 9))], 2, 6.0),
        ([(1, slice(2, 8), slice(2, 8)), (3, 5, slice(1, 12))], 3, 11.0),
        ([(slice(1, 4), 5, slice(1, 7))], 1, 6.0),
        ([(slice(None), 5, 5)], 0, 1.0),
        # From (2, 1.5) or (1.5, 2) to (9, 8.5) or (9.5, 8): 7 by 7, or 8 by 6.
        ([(1, slice(2, 10), 2), (1, 2, slice(2, 9)), (1, 9, slice(2, 9))], 1, 10.0),
    ],
    ids=["a row", "longest, not largest", "lowest of equal ones", "not across slices", "across what is no lesion"],
)
def test_the_slice_with_the_longest_diameter_counts(voxels, plane, long_mm):
    found = axial_diameters(mask_of(UNIT, *voxels), UNIT)
    assert (found.plane, found.long_axis_mm) == (plane, pytest.approx(long_mm))


def test_a_row_of_n_voxels_is_n_voxels_long_and_a_voxel_as_long_as_its_longer_edge():
    assert axial_diameters(np.zeros(UNIT.shape, dtype=bool), UNIT) is None
    ends = axial_diameters(mask_of(UNIT, (2, 4, slice(3, 9))), UNIT).ends_mm
    assert sorted(ends) == [(2.5, 4.0, 6.0), (8.5, 4.0, 6.0)]
    grid = Grid(shape=(3, 3, 3), spacing_mm=(9.0, 2.0, 3.0))
    found = axial_diameters(mask_of(grid, (1, 1, 1)), grid)
    assert (found.long_axis_mm, found.short_axis_mm) == (3.0, 2.0)


def test_an_oblong_lesion_has_its_width_across():
    grid = Grid(shape=(1, 80, 120), spacing_mm=(1.0, 0.5, 0.5))
    row, column = (np.indices(grid.shape)[1:] - np.array([40, 60])[:, None, None, None]) * 0.5
    turn = math.radians(30)
    along, across = row * math.sin(turn) + column * math.cos(turn), row * math.cos(turn) - column * math.sin(turn)
    found = axial_diameters((along / 20) ** 2 + (across / 8) ** 2 <= 1, grid)
    assert found.long_axis_mm == pytest.approx(40, abs=0.6)
    assert found.short_axis_mm == pytest.approx(16, abs=0.8)


@given(
    diameter_mm=st.floats(6, 40),
    spacing_mm=st.tuples(st.floats(0.5, 1.5), st.floats(0.5, 1.5)),
    shift=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_a_disc_measures_within_the_bounds_that_pixels_allow(diameter_mm, spacing_mm, shift):
    down, right = spacing_mm
    shape = (1, *(int(diameter_mm / size) + 6 for size in spacing_mm))
    grid = Grid(shape=shape, spacing_mm=(3.0, down, right))
    _, row, column = np.indices(shape)
    row_mm, column_mm = (row - shape[1] / 2 - shift[0]) * down, (column - shape[2] / 2 - shift[1]) * right
    found = axial_diameters(row_mm**2 + column_mm**2 <= (diameter_mm / 2) ** 2, grid).long_axis_mm
    assert found <= diameter_mm + max(spacing_mm) + 1e-9
    # The row next to the center lies at most half a pixel from it.
    assert found > math.sqrt(diameter_mm**2 - down**2) - right - 1e-9
    assert found > math.sqrt(diameter_mm**2 - right**2) - down - 1e-9


@pytest.mark.parametrize("code", ORIENTATIONS)
def test_axial_is_the_patients_plane_however_the_array_lies(code):
    upright = grid_towards("LPS", (9, 10, 12), (3.0, 1.5, 0.75))
    mask = np.random.default_rng(3).random(upright.shape) < 0.05
    turn = AxisTurn.to_code(upright, code)
    turned = turn.apply(mask)
    grid = grid_towards(code, turned.shape, turn.spacing(upright.spacing_mm))
    here, there = axial_diameters(mask, upright), axial_diameters(turned, grid)
    assert there.long_axis_mm == pytest.approx(here.long_axis_mm)
    assert there.short_axis_mm == pytest.approx(here.short_axis_mm)
    assert math.dist(*there.ends_mm) == pytest.approx(there.long_axis_mm)
    assert abs(there.ends_mm[0][2] - there.ends_mm[1][2]) < 1e-9


def test_on_an_oblique_grid_the_planes_nearest_to_axial_are_measured():
    turn = math.radians(20)
    axes = ((0.0, -math.sin(turn), math.cos(turn)), (0.0, math.cos(turn), math.sin(turn)), (1.0, 0.0, 0.0))
    grid = Grid(shape=UNIT.shape, spacing_mm=(3.0, 2.0, 1.0), axes=axes)
    found = axial_diameters(mask_of(grid, (2, slice(1, 9), 4)), grid)
    assert (found.axis, found.long_axis_mm) == (0, 16.0)


@given(mask=st.sets(st.tuples(st.integers(0, 4), st.integers(0, 11), st.integers(0, 13)), min_size=1, max_size=12))
def test_more_voxels_never_make_it_shorter_and_no_voxels_centers_lie_farther_apart(mask):
    voxels = sorted(mask)
    whole, part = axial_diameters(mask_of(UNIT, *voxels), UNIT), axial_diameters(mask_of(UNIT, *voxels[1:]), UNIT)
    assert part is None or part.long_axis_mm <= whole.long_axis_mm + 1e-9
    apart = [math.dist(a[1:], b[1:]) for a, b in itertools.combinations(voxels, 2) if a[0] == b[0]]
    assert max(apart, default=0.0) < whole.long_axis_mm <= max(apart, default=0.0) + 1 + 1e-9
    assert 0 < whole.short_axis_mm <= whole.long_axis_mm + 1e-9
