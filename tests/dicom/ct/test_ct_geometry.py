"""Slices to a grid: every slice's own position decides."""

from dataclasses import replace

import numpy as np
import pytest
from builders.known_shapes import packed_planes
from builders.oriented_grids import grid_towards
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from nnunet_cascade.dicom.ct.geometry import stack_slices
from nnunet_cascade.dicom.slice_plane import SlicePlane
from nnunet_cascade.errors import DicomError
from nnunet_cascade.geometry import Grid

SHAPE = (12, 20, 16)
GRID = grid_towards("LPS", SHAPE, (3.0, 0.8, 0.9))


def at(*heights_mm, x=0.0, y=0.0):
    """Axial slices at some heights."""
    return [
        SlicePlane(
            position_mm=(x, y, float(height)),
            down=(0.0, 1.0, 0.0),
            right=(1.0, 0.0, 0.0),
            spacing_mm=(0.8, 0.9),
            shape=SHAPE[1:],
        )
        for height in heights_mm
    ]


def turned(plane, rotation, center=(0.0, 0.0, 0.0)):
    """A slice of a patient who was turned."""

    def vector(values):
        return tuple(float(v) for v in rotation.apply(values))

    return replace(
        plane,
        position_mm=tuple(np.array(vector(plane.position_mm)) + np.array(center)),
        down=vector(plane.down),
        right=vector(plane.right),
    )


@st.composite
def series(draw):
    """Slices in any direction, some missing, some gantries tilted, in any order."""
    grid = Grid(
        shape=(draw(st.integers(2, 12)), 20, 16),
        spacing_mm=tuple(draw(st.floats(0.5, 5)) for _ in range(3)),
        origin_mm=tuple(draw(st.floats(-300, 300)) for _ in range(3)),
    )
    tilt = draw(st.sampled_from([(0.0, 0.0), (0.7, 0.0), (-1.3, 0.4), (0.001, -0.001)]))
    planes = packed_planes(grid, tilt=tilt)
    inner = range(1, len(planes) - 1)
    missing = draw(st.sets(st.sampled_from(inner), max_size=len(inner) // 3)) if len(inner) > 3 else set()
    rotation = Rotation.from_euler("zyx", [draw(st.floats(-180, 180)) for _ in range(3)], degrees=True)
    left = [turned(plane, rotation) for place, plane in enumerate(planes) if place not in missing]
    return draw(st.permutations(left))


@given(series())
@settings(deadline=None)
def test_every_slice_lies_on_the_grid_where_its_header_says(planes):
    stack = stack_slices(planes)
    assert sorted(stack.order) == list(range(len(planes)))
    for place, height, shift in zip(stack.order, stack.heights_mm, stack.shifts_voxels, strict=True):
        position = np.array(planes[place].position_mm)
        found = stack.coordinates(position[None])[0]
        np.testing.assert_allclose(found[0], height, atol=1e-9)
        # Drift of less than 5 % of a pixel is taken for none.
        np.testing.assert_allclose(found[1:], shift, atol=0.05 if not stack.shifts_voxels.any() else 1e-9)
        np.testing.assert_allclose(stack.grid.world_mm((height / stack.step_mm, *found[1:])), position, atol=1e-8)


@given(series(), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_the_files_does_not_matter(planes, random):
    shuffled = random.sample(range(len(planes)), len(planes))
    one, other = stack_slices(planes), stack_slices([planes[place] for place in shuffled])
    assert one.order == tuple(shuffled[place] for place in other.order)
    assert one.irregularities == other.irregularities
    np.testing.assert_array_equal(one.shifts_voxels, other.shifts_voxels)
    np.testing.assert_array_equal(one.heights_mm, other.heights_mm)
    assert one.grid == other.grid


@given(series(), st.tuples(*[st.floats(-180, 180)] * 3), st.tuples(*[st.floats(-500, 500)] * 3))
@settings(deadline=None)
def test_turning_the_patient_turns_the_grid_and_nothing_else(planes, angles, center):
    rotation = Rotation.from_euler("zyx", angles, degrees=True)
    one, other = stack_slices(planes), stack_slices([turned(plane, rotation, center) for plane in planes])
    assert (one.order, one.grid.shape, one.irregularities) == (other.order, other.grid.shape, other.irregularities)
    np.testing.assert_allclose(one.heights_mm, other.heights_mm, atol=1e-6)
    np.testing.assert_allclose(one.shifts_voxels, other.shifts_voxels, atol=1e-6)
    np.testing.assert_allclose(rotation.apply(one.grid.origin_mm) + center, other.grid.origin_mm, atol=1e-5)
    np.testing.assert_allclose(rotation.apply(one.grid.axes), other.grid.axes, atol=1e-9)


@pytest.mark.parametrize("code", ["LPS", "RAS", "RPI", "PIR", "SPL", "LPI"])
def test_planes_ascend_along_the_normal_of_rows_and_columns(code):
    grid = grid_towards(code, SHAPE, (3.0, 0.8, 0.9))
    normal = np.cross(grid.axes[2], grid.axes[1])
    stack = stack_slices(packed_planes(grid))
    np.testing.assert_allclose(stack.grid.axes, (normal, *grid.axes[1:]), atol=1e-12)
    descending = normal @ np.array(grid.axes[0]) < 0
    assert stack.order == tuple(range(SHAPE[0]))[:: -1 if descending else 1]
    np.testing.assert_allclose(stack.grid.origin_mm, grid.world_mm((SHAPE[0] - 1 if descending else 0, 0, 0)))


def test_a_regular_series_is_its_own_grid():
    stack = stack_slices(packed_planes(GRID))
    assert stack.grid == GRID
    assert (stack.irregularities, stack.interpolated, stack.unused, stack.duplicates) == ((), (), (), ())
    assert stack.sources == tuple(range(12))
    assert stack.deviation_mm < 1e-9


@pytest.mark.parametrize(
    ("missing", "planes", "interpolated"),
    [
        ([0], 11, []),  # first and last leave no gap: the volume is shorter
        ([11], 11, []),
        ([5], 12, [5]),
        ([3, 4, 5, 6], 12, [3, 4, 5, 6]),
        ([1, 4, 7, 10], 12, [1, 4, 7, 10]),
        ([0, 2, 11], 10, [1]),
        ([1], 12, [1]),
        ([*range(1, 8)], 12, [*range(1, 8)]),
    ],
)
def test_missing_slices_leave_planes_without_a_source(missing, planes, interpolated):
    stack = stack_slices([plane for place, plane in enumerate(packed_planes(GRID)) if place not in missing])
    assert stack.grid.shape[0] == planes
    assert stack.step_mm == 3.0
    assert list(stack.interpolated) == interpolated
    assert stack.irregularities == (("missing_slices",) if interpolated else ())
    first = 1 if 0 in missing else 0
    np.testing.assert_allclose(stack.grid.origin_mm, GRID.world_mm((first, 0, 0)))
    assert stack.sources == tuple(
        None if plane in interpolated else sum(p not in missing for p in range(first, first + plane))
        for plane in range(planes)
    )
    assert len(stack.drawable_mm) == planes


@pytest.mark.parametrize(
    ("heights", "step", "base", "planes", "unused", "interpolated"),
    [
        ([0, 3, 6, 7.5, 9, 12, 15], 3, 0, 6, [3], []),  # one extra, half-way
        ([0, 3, 6, 9, 12, 13], 3, 0, 5, [5], []),  # one extra at the end
        ([-1, 0, 3, 6, 9, 12], 3, 0, 5, [0], []),  # one extra at the beginning
        ([0, 3, 6, 6.02, 9, 12], 3, 0, 5, [3], []),  # nearly a duplicate
        ([0, 3, 6, 9, 12, 17, 22], 3, 0, 8, [5, 6], [5, 6, 7]),  # two distances: the frequent one
        ([0, 3, 6, 9, 13.5, 16.5], 3, 0, 6, [4, 5], [4, 5]),  # a slice was left out, and the table moved
    ],
)
def test_other_irregular_series_get_the_distance_that_prevails(heights, step, base, planes, unused, interpolated):
    stack = stack_slices(at(*heights))
    assert stack.irregularities == ("uneven_steps",)
    assert (stack.step_mm, stack.grid.shape[0], stack.grid.origin_mm[2]) == (step, planes, base)
    assert list(stack.unused) == unused
    assert list(stack.interpolated) == interpolated


@pytest.mark.parametrize(("extra", "drawable"), [(6.02, [0, 3, 6, 9, 12]), (7.5, [0, 3, 6, 7.5, 9, 12])])
def test_a_slice_between_the_planes_can_be_drawn_on_and_of_two_on_one_plane_the_one_in_use(extra, drawable):
    assert stack_slices(at(0, 3, 6, extra, 9, 12)).drawable_mm.tolist() == drawable


@pytest.mark.parametrize(("step", "planes"), [(1.25, 120), (0.625, 300), (2.51, 50), (0.7, 90)])
def test_rounded_positions_are_regular(step, planes):
    stack = stack_slices(at(*np.round(-33.3 + step * np.arange(planes), 1)))
    assert stack.irregularities == ()
    assert stack.step_mm == pytest.approx(step, rel=1e-3)
    assert 0 < stack.deviation_mm <= 0.1 + 1e-9


@pytest.mark.parametrize("gap", [2, 5, 21, 60])
def test_rounded_positions_with_a_gap_are_counted_right(gap):
    heights = np.round(1.25 * np.array([*range(50), *range(50 + gap, 100 + gap)]), 1)
    stack = stack_slices(at(*heights))
    assert stack.irregularities == ("missing_slices",)
    assert stack.interpolated == tuple(range(50, 50 + gap))
    assert stack.step_mm == pytest.approx(1.25, rel=1e-3)


def test_rounded_positions_with_an_extra_slice_keep_their_planes():
    heights = np.sort([*np.round(1.25 * np.arange(80), 1), 50.65])
    stack = stack_slices(at(*heights))
    assert (stack.irregularities, stack.grid.shape[0], len(stack.unused)) == (("uneven_steps",), 80, 1)
    assert stack.interpolated == ()


@pytest.mark.parametrize("again", [3, 3.000001])  # noise of single precision is no other place
def test_one_place_given_twice_counts_once(again):
    stack = stack_slices(at(0, 3, 6, again, 9))
    assert (stack.order, stack.duplicates, stack.irregularities) == ((0, 1, 2, 4), ((3, 1),), ())


@pytest.mark.parametrize("degrees", [-25, -4, 10, 30])
def test_a_tilted_gantry_gets_a_grid_wide_enough_for_all(degrees):
    drift = 3.0 * np.tan(np.radians(degrees))
    stack = stack_slices(packed_planes(GRID, tilt=(drift, 0.0))[::-1])
    assert stack.irregularities == ("gantry_tilt",)
    assert stack.grid.shape == (12, 20 + int(np.ceil(abs(11 * drift) / 0.8)), 16)
    assert stack.shifts_voxels.min() >= 0
    assert (stack.shifts_voxels[:, 0] + 20 <= stack.grid.shape[1] + 1e-9).all()


def test_tilt_and_a_gap_are_both_told():
    planes = packed_planes(GRID, tilt=(0.9, 0.0))
    stack = stack_slices([*planes[:5], *planes[6:]])
    assert stack.irregularities == ("missing_slices", "gantry_tilt")
    assert stack.interpolated == (5,)


def test_a_few_slices_of_another_kind_are_set_aside():
    other = [replace(plane, right=(0.0, 0.0, 1.0)) for plane in at(0, 3, 6)]
    stack = stack_slices([*other[:2], *packed_planes(GRID), other[2]])
    assert stack.set_aside == (0, 1, 14)
    assert stack.order == tuple(range(2, 14))
    assert stack.grid == GRID


@pytest.mark.parametrize(
    "change", [{"shape": (20, 17)}, {"spacing_mm": (0.8, 0.91)}, {"down": (0.0, -1.0, 0.0)}, {"right": (0.0, 0.0, 1.0)}]
)
def test_many_slices_of_another_kind_are_refused(change):
    planes = at(*range(0, 60, 3))
    mixed = [replace(plane, **change) if place % 2 else plane for place, plane in enumerate(planes)]
    with pytest.raises(DicomError, match=r"2 orientations or pixel sizes in one series \(\[10, 10\] slices\)"):
        stack_slices(mixed)
    with pytest.raises(DicomError, match="expected one"):
        stack_slices([*mixed[:8], *planes[8:]])


def test_digits_left_out_are_no_other_kind():
    planes = at(0, 3, 6, 9)
    planes[1] = replace(planes[1], spacing_mm=(0.8002, 0.9), right=(0.9999999, 0.0004, 0.0))
    assert stack_slices(planes).set_aside == ()


@pytest.mark.parametrize(
    ("heights", "found"), [([], "found no slice"), ([5], "slices at 1 place"), ([5, 5, 5], "slices at 1 place")]
)
def test_fewer_than_two_places_are_no_volume(heights, found):
    with pytest.raises(DicomError, match=found):
        stack_slices(at(*heights))


def test_slices_too_far_apart_to_fill_the_gap_are_refused():
    assert stack_slices(at(0, 700)).grid.shape[0] == 2
    with pytest.raises(DicomError, match=r"7 slices over 318 mm, most of them 3.00 mm apart"):
        stack_slices(at(0, 3, 6, 9, 312, 315, 318))


def test_a_drift_of_less_than_a_twentieth_of_a_pixel_is_rounding_and_the_lowest_slice_begins_the_grid():
    planes = packed_planes(GRID, tilt=(0.003, -0.003))
    stack = stack_slices(planes[::-1])
    assert (stack.irregularities, stack.grid.origin_mm) == ((), planes[0].position_mm)
