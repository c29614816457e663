"""Contours to a mask, matched by position."""

import numpy as np
import pytest
from builders.known_shapes import SHAPES, centered, contours_on, dice, packed_planes, series_grid
from builders.oriented_grids import grid_towards

from nnunet_cascade.dicom.ct.geometry import stack_slices
from nnunet_cascade.dicom.rtstruct.rasterizing import rasterize
from nnunet_cascade.errors import DicomError

GRID = grid_towards("LPS", (9, 24, 20), (3.0, 1.5, 0.8))
STACK = stack_slices(packed_planes(GRID))
SQUARE = np.array([(3.6, 4.4), (3.6, 11.4), (12.4, 11.4), (12.4, 4.4)])
PIXELS = 9 * 7  # rows 4 to 12, columns 5 to 11
SHAPE = SHAPES["shell with a hole"]


def on(plane, polygon=SQUARE, grid=GRID):
    """A contour at a (fractional) plane of a grid, in mm."""
    return np.array([grid.world_mm((plane, row, column)) for row, column in polygon])


def scaled(factor):
    middle = SQUARE.mean(axis=0)
    return middle + factor * (SQUARE - middle)


def drawn_planes(mask):
    return np.flatnonzero(mask.any(axis=(1, 2))).tolist()


def test_contours_are_drawn_on_their_slices():
    raster = rasterize([on(2), on(5)], STACK)
    assert drawn_planes(raster.mask) == [2, 5]
    assert raster.mask[2].sum() == raster.mask[5].sum() == PIXELS
    assert raster.mask[2, 4:13, 5:12].all()
    assert raster.contours == 2
    assert (raster.twins, raster.slivers, raster.outside, raster.clipped, raster.between) == (0,) * 5


@pytest.mark.parametrize(
    ("plane", "drawn"), [(4.49, [4]), (3.51, [4]), (-0.5, [0]), (-0.51, []), (8.5, [8]), (8.51, [])]
)
def test_a_contour_belongs_to_the_nearest_slice_and_half_a_step_beyond_the_last_is_the_end(plane, drawn):
    raster = rasterize([on(plane)], STACK)
    assert (drawn_planes(raster.mask), raster.outside) == (drawn, 0 if drawn else 1)


@pytest.mark.parametrize(
    ("moved", "outside", "clipped", "voxels"),
    [
        ((-30, 0), 1, 0, 0),
        ((0, 30), 1, 0, 0),
        ((-8, 0), 0, 1, 5 * 7),
        ((0, 13), 0, 1, 9 * 2),
        ((14, 13), 0, 1, 6 * 2),
        ((-4.05, -4.8), 0, 0, PIXELS),  # within the first voxel, up to its outer edge
    ],
)
def test_what_reaches_beyond_the_pixels_is_cut_off_and_told(moved, outside, clipped, voxels):
    raster = rasterize([on(3, SQUARE + np.array(moved))], STACK)
    assert (raster.outside, raster.clipped, int(raster.mask.sum())) == (outside, clipped, voxels)


@pytest.mark.parametrize(("apart", "between"), [(0.0, 0), (0.14, 0), (-0.14, 0), (0.16, 1), (-0.16, 1), (0.3, 1)])
def test_contours_within_15_percent_of_a_step_lie_at_one_height(apart, between):
    raster = rasterize([on(4), on(4 + apart, scaled(0.5))], STACK)
    hole = int(rasterize([on(4, scaled(0.5))], STACK).mask.sum())
    assert raster.between == between
    assert raster.mask.sum() == PIXELS - (0 if between else hole)
    assert hole > 0


def test_a_contour_may_leave_its_plane_a_little_and_not_more():
    tilted = on(3)
    tilted[:2, 2] += 1.4
    assert drawn_planes(rasterize([tilted], STACK).mask) == [3]
    tilted[:2, 2] += 0.2
    with pytest.raises(DicomError, match=r"spans 1\.6 mm across the slices"):
        rasterize([tilted], STACK)


def test_slices_without_a_contour_between_others_are_counted_and_planes_without_a_slice_are_not():
    assert rasterize([on(1), on(2), on(5), on(7)], STACK).skipped_slices == 3
    assert rasterize([on(2)], STACK).skipped_slices == 0
    sliver = on(4, np.array([(3.6, 4.1), (3.6, 4.2), (9.0, 4.2)]))
    raster = rasterize([on(2), sliver, on(5)], STACK)
    assert (raster.skipped_slices, raster.slivers) == (2, 1)
    planes = packed_planes(GRID)
    stack = stack_slices([*planes[:3], *planes[5:]])
    assert rasterize([on(2), on(5)], stack).skipped_slices == 0
    assert rasterize([on(1), on(6)], stack).skipped_slices == 2


def test_no_contour_is_an_empty_mask():
    raster = rasterize([], STACK)
    assert raster.mask.shape == GRID.shape
    assert not raster.mask.any()
    assert (raster.contours, raster.skipped_slices) == (0, 0)


@pytest.mark.parametrize("copies", [2, 3])
def test_repeated_contours_leave_no_hole(copies):
    raster = rasterize([on(3)] * copies + [on(3, scaled(0.5))], STACK)
    assert raster.twins == copies - 1
    np.testing.assert_array_equal(raster.mask, rasterize([on(3), on(3, scaled(0.5))], STACK).mask)


def test_contours_closer_than_slices_are_drawn_where_they_lie_nearest():
    half_steps = [on(plane / 2, scaled(1 - plane / 40)) for plane in range(2, 15)]
    raster = rasterize(half_steps, STACK)
    np.testing.assert_array_equal(raster.mask, rasterize(half_steps[::2], STACK).mask)
    assert raster.between == 6
    assert drawn_planes(raster.mask) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("series", ["axial", "oblique"])
@pytest.mark.parametrize("missing", [[0], [-1], [11], [9, 10, 11, 12], [4, 9, 14, 15, 20]])
def test_missing_slices_leave_the_others_where_they_are(series, missing):
    grid = series_grid(series)
    shape, planes = centered(SHAPE, grid), packed_planes(grid)
    missing = [place % len(planes) for place in missing]
    there = [plane for place, plane in enumerate(planes) if place not in missing]
    stack = stack_slices(there)
    truth = shape.voxels(stack.grid)
    real = [plane for plane, source in enumerate(stack.sources) if source is not None]

    # Contours on the slices that are there alone.
    mask = rasterize(contours_on(shape, there), stack).mask
    assert dice(mask[real], truth[real]) > 0.999
    assert dice(mask, truth) > 0.9

    # Contours also where slices are missing.
    raster = rasterize(contours_on(shape, planes), stack)
    assert dice(raster.mask, truth) > 0.999
    assert raster.outside == 0


def test_contours_on_extra_slices_stay_off_the_planes():
    grid = series_grid("axial")
    shape, planes = centered(SHAPE, grid), packed_planes(grid)
    planes.append(packed_planes(series_grid("axial", (1.5, 0.977, 0.977)))[21])  # half-way between two slices
    stack = stack_slices(planes)
    assert len(stack.unused) == 1
    raster = rasterize(contours_on(shape, planes), stack)
    assert dice(raster.mask, shape.voxels(stack.grid)) > 0.999
    assert (raster.between, raster.skipped_slices) == (0, 0)


@pytest.mark.parametrize("series", ["axial", "feet first", "oblique"])
@pytest.mark.parametrize("tilt", [(0.8, 0.0), (-1.7, 0.3)])
def test_a_tilted_gantry_does_not_move_the_contours(series, tilt):
    grid = series_grid(series)
    planes = packed_planes(grid, tilt=tilt)
    middle = packed_planes(grid, tilt=tilt)[len(planes) // 2].position_mm
    shape = centered(SHAPE, grid).moved(np.array(middle) - np.array(grid.world_mm((len(planes) // 2, 0, 0))))
    stack = stack_slices(planes[::-1])
    assert stack.irregularities == ("gantry_tilt",)
    raster = rasterize(contours_on(shape, planes), stack)
    assert dice(raster.mask, shape.voxels(stack.grid)) > 0.999
    assert (raster.outside, raster.clipped) == (0, 0)
