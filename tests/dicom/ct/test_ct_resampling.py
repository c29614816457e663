"""From irregular slices to the planes of a grid."""

import numpy as np
import pytest
from builders.known_shapes import packed_planes
from builders.oriented_grids import grid_towards
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_cascade.dicom.ct.geometry import stack_slices
from nnunet_cascade.dicom.ct.resampling import mask_on_grid, resample_voxels
from nnunet_cascade.images import AIR_HU

GRID = grid_towards("LPS", (10, 24, 20), (3.0, 1.0, 1.0))


def disk(radius, grid=GRID, center=(11.3, 9.6)):
    away = (np.moveaxis(np.indices(grid.shape[1:]), 0, -1) - center) * grid.spacing_mm[1:]
    return (away**2).sum(axis=-1) <= radius**2


def series_without(missing, *, grid=GRID, tilt=(0.0, 0.0)):
    """Slices of a grid, some missing, stacked; and the heights of those that are there."""
    planes = [plane for place, plane in enumerate(packed_planes(grid, tilt=tilt)) if place not in missing]
    return stack_slices(planes)


def ramp(positions_mm):
    """Hounsfield units that grow linearly in all directions: interpolation gives them back exactly."""
    return positions_mm @ np.array([2.0, -3.0, 5.0]) + 40


def ramp_on(stack, shape):
    """The ramp on the slices of a stack, each where it lies."""
    grid, (rows, columns) = stack.grid, shape
    slices = np.empty((len(stack.order), *shape))
    for place, (height, shift) in enumerate(zip(stack.heights_mm, stack.shifts_voxels, strict=True)):
        corner = np.array([height / stack.step_mm, *shift])
        index = np.moveaxis(np.indices((1, rows, columns))[:, 0], 0, -1) + corner
        slices[place] = ramp(np.array(grid.origin_mm) + (index * grid.spacing_mm) @ np.array(grid.axes))
    return slices


@pytest.mark.parametrize("tilt", [(0.0, 0.0), (1.3, 0.0), (-0.7, 0.4)])
@pytest.mark.parametrize("missing", [[], [4], [2, 3, 4, 7]])
def test_what_grows_linearly_is_where_it_was(missing, tilt):
    stack = series_without(missing, tilt=tilt)
    volume = resample_voxels(ramp_on(stack, GRID.shape[1:]), stack)
    grid = stack.grid
    index = np.moveaxis(np.indices(grid.shape), 0, -1) * grid.spacing_mm
    expected = ramp(np.array(grid.origin_mm) + index @ np.array(grid.axes))
    # Water is 0 where slices reach, air where none does, and a mixture where only one of two does.
    reached = resample_voxels(np.zeros((len(stack.order), *GRID.shape[1:])), stack) == 0
    assert reached.mean() > 0.5
    np.testing.assert_allclose(volume[reached], expected[reached], atol=1e-3)


def test_slices_on_the_planes_stay_as_they_are(rng):
    stack = series_without([3, 4])
    slices = rng.integers(-1000, 1000, (8, 24, 20)).astype(np.int16)
    before = slices.copy()
    volume = resample_voxels(slices, stack)
    np.testing.assert_array_equal(volume[[0, 1, 2, 5, 6, 7, 8, 9]], slices)
    np.testing.assert_array_equal(slices, before)


@pytest.mark.parametrize(("dtype", "between"), [(np.int16, [5, 8]), (np.float32, [3 + 7 / 3, 3 + 14 / 3])])
def test_missing_planes_are_interpolated_and_rounded_unless_there_are_fractions(dtype, between):
    slices = np.stack([np.full((24, 20), value, dtype=dtype) for value in (0, 1, 2, 3, 10, 5, 6, 7)])
    volume = resample_voxels(slices, series_without([4, 5]))
    assert volume.dtype == dtype
    np.testing.assert_allclose(volume[:, 0, 0], [0, 1, 2, 3, *between, 10, 5, 6, 7], rtol=1e-6)


def test_an_extra_slice_is_not_mixed_in():
    planes = packed_planes(GRID)
    extra = packed_planes(grid_towards("LPS", (20, 24, 20), (1.5, 1.0, 1.0)))[7]
    stack = stack_slices([*planes, extra])
    slices = np.zeros((11, 24, 20), dtype=np.int16)
    slices[stack.unused[0]] = 1000
    assert resample_voxels(slices, stack).max() == 0


@pytest.mark.parametrize("missing", [[], [4]])
def test_a_tilt_of_whole_voxels_is_undone_exactly(rng, missing):
    stack = series_without(missing, tilt=(2.0, 1.0))
    slices = rng.integers(-1000, 1000, (10 - len(missing), 24, 20)).astype(np.int16)
    volume = resample_voxels(slices, stack)
    assert volume.shape == (10, 24 + 18, 20 + 9)
    for place, (plane, shift) in enumerate(zip(np.delete(np.arange(10), missing), stack.shifts_voxels, strict=True)):
        row, column = shift.astype(int)
        assert (row, column) == (2 * plane, plane)
        np.testing.assert_array_equal(volume[plane, row : row + 24, column : column + 20], slices[place])
        assert (volume[plane, :row] == AIR_HU).all()
        assert (volume[plane, :, column + 20 :] == AIR_HU).all()


def drawn_of(stack, masks):
    """Masks by drawable plane, from masks by height in steps."""
    heights = stack.drawable_mm / stack.step_mm
    return {int(np.argmin(np.abs(heights - height))): mask for height, mask in masks.items()}


@pytest.mark.parametrize("missing", [[], [4]])
def test_planes_get_what_was_drawn_on_them_be_there_a_slice_or_not(missing):
    stack = series_without(missing)
    mask = mask_on_grid(drawn_of(stack, {3: disk(5), 4: disk(2), 5: disk(4), 8: disk(3)}), stack)
    np.testing.assert_array_equal(mask[[3, 4, 5, 8]], [disk(5), disk(2), disk(4), disk(3)])
    assert np.flatnonzero(mask.any(axis=(1, 2))).tolist() == [3, 4, 5, 8]


def test_outlines_on_missing_planes_lie_between_their_neighbors():
    stack = series_without([4, 5, 6])
    mask = mask_on_grid(drawn_of(stack, {3: disk(4), 7: disk(8)}), stack)
    for plane, radius in ((4, 5), (5, 6), (6, 7)):
        # Signed distances on a voxel grid are right up to half a voxel.
        assert (mask[plane] >= disk(radius - 0.5)).all()
        assert (mask[plane] <= disk(radius + 0.5)).all()


def test_a_blend_measures_in_millimetres_not_in_pixels():
    grid = grid_towards("LPS", (5, 60, 20), (3.0, 0.4, 1.2))
    stack = series_without([2], grid=grid)
    masks = {1: disk(5, grid, (29.3, 9.6)), 3: disk(9, grid, (29.3, 9.6))}
    found = mask_on_grid(drawn_of(stack, masks), stack)[2]
    assert np.count_nonzero(found) * 0.48 == pytest.approx(np.pi * 7**2, rel=0.08)
    rows, columns = (np.flatnonzero(found.any(axis=axis)) for axis in (1, 0))
    assert (len(rows) * 0.4, len(columns) * 1.2) == pytest.approx((14, 14), abs=1.2)


@pytest.mark.parametrize("empty", [{}, {5: np.zeros(GRID.shape[1:], dtype=bool)}])
def test_a_region_ends_at_a_missing_plane_beside_an_empty_slice(empty):
    stack = series_without([4])
    mask = mask_on_grid(drawn_of(stack, {3: disk(5), **empty}), stack)
    assert np.flatnonzero(mask.any(axis=(1, 2))).tolist() == [3]


@pytest.mark.parametrize("empty", [{}, {5: np.zeros(GRID.shape[1:], dtype=bool)}])
def test_between_unequal_neighbors_the_one_within_half_a_step_counts(empty):
    planes = packed_planes(GRID)
    moved = packed_planes(grid_towards("LPS", (5, 24, 20), (13.0, 1.0, 1.0)))[1]  # at 13 mm: 1 mm above plane 4
    stack = stack_slices([*planes[:4], moved, *planes[5:]])
    assert stack.interpolated == (4,)
    mask = mask_on_grid(drawn_of(stack, {13 / 3: disk(5), **empty}), stack)
    np.testing.assert_array_equal(mask[4], disk(5))
    assert not mask_on_grid(drawn_of(stack, {3: disk(5)}), stack)[4].any()


def test_nothing_is_drawn_beyond_the_slices_and_what_was_drawn_is_left_unchanged():
    stack = series_without([4])
    assert not mask_on_grid({}, stack).any()
    mask = mask_on_grid(drawn_of(stack, {0: disk(5)}), stack)
    assert np.flatnonzero(mask.any(axis=(1, 2))).tolist() == [0]
    drawn = drawn_of(stack, {3: disk(4), 5: disk(8)})
    mask_on_grid(drawn, stack)[:] = True
    np.testing.assert_array_equal(list(drawn.values()), [disk(4), disk(8)])


@given(st.integers(0, 6), st.integers(0, 6), st.sampled_from([(0, 0), (1, 0), (0, 1), (1, 1)]))
@settings(deadline=None, max_examples=30)
def test_blending_is_the_same_seen_in_a_mirror(low, high, flips):
    stack = series_without([4, 5])
    turn = tuple(slice(None, None, -1 if flip else 1) for flip in flips)
    one, other = (np.random.default_rng(seed).random(GRID.shape[1:]) > 0.6 for seed in (low, high))
    straight = mask_on_grid(drawn_of(stack, {3: one, 6: other}), stack)
    mirrored = mask_on_grid(drawn_of(stack, {3: one[turn], 6: other[turn]}), stack)
    np.testing.assert_array_equal(straight[(slice(None), *turn)], mirrored)
