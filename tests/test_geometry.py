"""Grids, boxes and turns."""

import re
from dataclasses import replace

import numpy as np
import pytest
from builders.oriented_grids import ORIENTATIONS, grid_towards
from hypothesis import given
from hypothesis import strategies as st

from nnunet_cascade.errors import GridMismatchError, SettingsError
from nnunet_cascade.geometry import AxisTurn, Box, Grid, crop_with_fill

GRID = Grid(shape=(4, 5, 6), spacing_mm=(3.0, 2.0, 1.0), origin_mm=(10.0, 20.0, 30.0))
SMALL = st.integers(0, 4)
BOXES = st.tuples(SMALL, SMALL, SMALL, *[st.integers(1, 4)] * 3).map(
    lambda v: Box(v[:3], (v[0] + v[3], v[1] + v[4], v[2] + v[5]))
)


@pytest.mark.parametrize("code", ORIENTATIONS)
def test_anatomical_axes_come_from_the_direction(code):
    grid = grid_towards(code, (4, 5, 6))
    for name, letters in (("left-right", "LR"), ("front-back", "PA"), ("foot-head", "SI")):
        place = next(number for number, letter in enumerate(code) if letter in letters)
        assert grid.array_axis(name) == (2 - place, 1 if code[place] == letters[0] else -1)


def test_on_an_oblique_grid_each_anatomical_axis_has_an_array_axis_of_its_own():
    c, s = np.cos(0.76), np.sin(0.76)
    grid = Grid(shape=(2, 2, 2), spacing_mm=(1, 1, 1), axes=((0, 0, 1), (-s, c, 0), (c, s, 0)))
    assert {grid.array_axis(name)[0] for name in ("left-right", "front-back", "foot-head")} == {0, 1, 2}


@pytest.mark.parametrize("changes", [{"shape": (4, 0, 6)}, {"spacing_mm": (1, 0, 1)}, {"axes": ((1, 0, 0),) * 3}])
def test_a_grid_is_valid_from_birth(changes):
    with pytest.raises(SettingsError):
        Grid(**{"shape": (4, 5, 6), "spacing_mm": (1, 1, 1), **changes})


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"origin_mm": (10.5, 20.0, 30.0)}, "first voxel at (10.5"),
        ({"spacing_mm": (3.0, 2.0, 1.1)}, "last voxel at"),
        ({"shape": (4, 5, 7)}, "shape (4, 5, 7)"),
        ({"origin_mm": (15.0, 20.0, 30.0), "axes": ((0, 0, 1), (0, 1, 0), (-1, 0, 0))}, "first voxel at (15.0"),
        ({"origin_mm": (10.001, 20.0, 30.0), "spacing_mm": (3.001, 2.0, 1.0)}, None),
    ],
    ids=["half a voxel", "larger voxels", "more of them", "flipped over the same space", "rounding in a header"],
)
def test_a_grid_is_another_one_by_more_than_rounding(changes, found):
    other = replace(GRID, **changes)
    if found is None:
        GRID.require_same(other, what="mask")
        return
    with pytest.raises(GridMismatchError, match=re.escape(f"mask is not on the image's grid: {found}")):
        GRID.require_same(other, what="mask")


def test_a_cropped_grid_keeps_the_place_of_its_voxels():
    assert GRID.world_mm((1, 1, 1)) == (11.0, 22.0, 33.0)
    cropped = GRID.cropped(Box((-1, 2, 3), (2, 4, 5)))
    assert cropped.shape == (3, 2, 2)
    assert cropped.world_mm((1, 0, 0)) == GRID.world_mm((0, 2, 3))


def test_the_box_around_a_mask_is_tight():
    mask = np.zeros((5, 6, 7), dtype=bool)
    mask[1, 2, 3] = mask[3, 4, 3] = True
    assert Box.around(mask) == Box((1, 2, 3), (4, 5, 4))
    with pytest.raises(SettingsError, match="empty mask"):
        Box.around(np.zeros((2, 2, 2), dtype=bool))


def test_a_margin_rounds_up_and_a_least_size_grows_about_the_centre_with_the_odd_voxel_at_the_end():
    assert Box((5, 5, 5), (6, 6, 6)).grown_mm(4.0, (3.0, 2.0, 1.0)) == Box((3, 3, 1), (8, 8, 10))
    assert Box((4, 4, 4), (5, 6, 14)).at_least((4, 4, 4)) == Box((3, 3, 4), (7, 7, 14))


@given(BOXES, BOXES)
def test_intersection_and_union_agree_with_sets_of_voxels(a, b):
    def voxels(box):
        filled = np.zeros((9, 9, 9), dtype=bool)
        if box is not None:
            filled[box.slices] = True
        return set(np.flatnonzero(filled).tolist())

    assert voxels(a.intersection(b)) == voxels(a) & voxels(b)
    assert voxels(a.union(b)) >= voxels(a) | voxels(b)


@given(BOXES, st.tuples(SMALL, SMALL, SMALL))
def test_a_crop_with_fill_is_the_crop_of_the_padded_image(box, shift):
    image = np.arange(125, dtype=np.float32).reshape(5, 5, 5)
    moved = Box(*(tuple(v - s for v, s in zip(end, shift, strict=True)) for end in (box.start, box.stop)))
    padded = np.pad(image, 10, constant_values=-1)
    expected = padded[tuple(slice(a + 10, b + 10) for a, b in zip(moved.start, moved.stop, strict=True))]
    np.testing.assert_array_equal(crop_with_fill(image, moved, fill=-1), expected)


@pytest.mark.parametrize("code", ["LPS", "RAS"])
@pytest.mark.parametrize("stored", ORIENTATIONS)
def test_a_turn_leads_to_the_code_and_back(stored, code):
    grid = grid_towards(stored, (2, 3, 4), (3.0, 2.0, 1.0))
    turn = AxisTurn.to_code(grid, code)
    array = np.arange(24).reshape(2, 3, 4)
    turned = turn.apply(array)
    np.testing.assert_array_equal(turn.undo(turned), array)
    wanted = grid_towards(code, turned.shape)
    for axis in range(3):
        moved = [0, 0, 0]
        moved[axis] = 1
        here, there = (np.argwhere(array == turned[tuple(index)])[0] for index in ([0, 0, 0], moved))
        step = np.array(grid.world_mm(tuple(there))) - np.array(grid.world_mm(tuple(here)))
        np.testing.assert_allclose(step, np.array(wanted.axes[axis]) * turn.spacing(grid.spacing_mm)[axis])
