"""Polygons to pixels."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nnunet_cascade.dicom.rtstruct.polygons import fill, without_twins

SHAPE = (13, 11)
NUMBERS = st.integers(-300, 1600).map(lambda value: value / 100)
POINTS = st.tuples(NUMBERS, NUMBERS)
POLYGONS = st.lists(POINTS, min_size=3, max_size=12).map(np.array)
WHOLE = st.lists(st.tuples(*[st.integers(-2, 14)] * 2), min_size=3, max_size=9).map(lambda v: np.array(v, dtype=float))
UNTOUCHED = 1e-4  # of a pixel: a centre nearer to an outline is a tie, which the brute force does not settle


def crossings_to_the_left(polygon, centers):
    """Parity of edges met on the way from each centre to the left, one edge at a time."""
    inside = np.zeros(len(centers), dtype=bool)
    for (row_a, column_a), (row_b, column_b) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        for place, (row, column) in enumerate(centers):
            if (row_a <= row) != (row_b <= row):
                inside[place] ^= column_a + (row - row_a) * (column_b - column_a) / (row_b - row_a) < column
    return inside


def distance_to_outline(polygon, centers):
    start, end = polygon, np.roll(polygon, -1, axis=0)
    along = end - start
    squared = np.maximum((along**2).sum(axis=1), 1e-30)
    share = np.clip(((centers[:, None] - start) * along).sum(axis=2) / squared, 0, 1)
    return np.linalg.norm(centers[:, None] - start - share[..., None] * along, axis=2).min(axis=1)


def centers(shape=SHAPE):
    return np.argwhere(np.ones(shape)).astype(float)


def circle(radius, center=(30.2, 31.3), vertices=90, phase=0.0):
    angles = np.linspace(0, 2 * np.pi, vertices, endpoint=False) + phase
    return np.array(center) + radius * np.column_stack([np.sin(angles), np.cos(angles)])


@given(POLYGONS)
@settings(deadline=None)
def test_pixels_are_inside_where_their_centres_are(polygon):
    clear = distance_to_outline(polygon, centers()) > UNTOUCHED
    expected = crossings_to_the_left(polygon, centers())
    np.testing.assert_array_equal(fill([polygon], SHAPE).ravel()[clear], expected[clear])


@given(st.lists(POLYGONS, min_size=1, max_size=4))
@settings(deadline=None)
def test_several_polygons_are_the_parity_of_each(polygons):
    each = np.logical_xor.reduce([fill([polygon], SHAPE) for polygon in polygons])
    np.testing.assert_array_equal(fill(polygons, SHAPE), each)
    np.testing.assert_array_equal(fill(polygons[::-1], SHAPE), each)


@given(st.one_of(POLYGONS, WHOLE), st.integers(0, 11), st.booleans())
@settings(deadline=None)
def test_first_vertex_and_direction_do_not_matter(polygon, first, backward):
    turned = np.roll(polygon[::-1] if backward else polygon, first, axis=0)
    np.testing.assert_array_equal(fill([turned], SHAPE), fill([polygon], SHAPE))


@given(st.one_of(POLYGONS, WHOLE), st.integers(0, 12), st.integers(0, 12))
@settings(deadline=None)
def test_cutting_a_polygon_in_two_leaves_out_no_pixel_and_shares_none(polygon, first, second):
    low, high = sorted((first % len(polygon), second % len(polygon)))
    assume(high - low >= 2)
    assume(len(polygon) - (high - low) >= 2)
    one, other = polygon[low : high + 1], np.concatenate([polygon[high:], polygon[: low + 1]])
    np.testing.assert_array_equal(fill([one], SHAPE) ^ fill([other], SHAPE), fill([polygon], SHAPE))


@given(st.lists(NUMBERS, min_size=1, max_size=5, unique=True), st.lists(NUMBERS, min_size=1, max_size=5, unique=True))
@settings(deadline=None)
def test_tiles_cover_each_pixel_once_wherever_their_edges_run(rows, columns):
    def tiles(cuts):
        return list(itertools.pairwise(sorted({-5.0, 20.0, *cuts})))

    squares = [
        np.array([(top, left), (top, right), (bottom, right), (bottom, left)])
        for top, bottom in tiles(rows)
        for left, right in tiles(columns)
    ]
    assert (np.sum([fill([square], SHAPE) for square in squares], axis=0) == 1).all()


@given(POLYGONS, st.integers(-3, 3), st.integers(-3, 3))
@settings(deadline=None)
def test_moving_by_whole_pixels_moves_the_mask(polygon, down, right):
    wide = fill([polygon + 8], (30, 28))
    moved = fill([polygon + 8 + (down, right)], (30, 28))
    np.testing.assert_array_equal(np.roll(wide, (down, right), axis=(0, 1))[4:-4, 4:-4], moved[4:-4, 4:-4])


@given(POLYGONS)
@settings(deadline=None)
def test_what_lies_outside_the_image_is_cut_off(polygon):
    np.testing.assert_array_equal(fill([polygon + 5], (26, 24))[5:18, 5:16], fill([polygon], SHAPE))


@given(POLYGONS)
@settings(deadline=None)
def test_a_vertex_more_on_an_edge_changes_nothing(polygon):
    middles = (polygon + np.roll(polygon, -1, axis=0)) / 2
    denser = np.stack([polygon, middles], axis=1).reshape(-1, 2)
    clear = (distance_to_outline(polygon, centers()) > UNTOUCHED).reshape(SHAPE)
    np.testing.assert_array_equal(fill([denser], SHAPE)[clear], fill([polygon], SHAPE)[clear])


@pytest.mark.parametrize("noise", [0, 4e-7, -4e-7])
def test_a_square_on_the_centres_has_the_pixels_on_its_upper_and_left_side_in_spite_of_noise(noise):
    mask = fill([np.array([(2.0, 3.0), (2.0, 7.0), (6.0, 7.0), (6.0, 3.0)]) + noise], SHAPE)
    assert (mask.sum(), mask[2:6, 3:7].sum()) == (16, 16)


@pytest.mark.parametrize(
    "polygon",
    [
        [(1.0, 1.0), (1.0, 1.0), (1.0, 1.0)],
        [(1.0, 1.0), (5.0, 5.0), (1.0, 1.0)],
        [(4.1, 0.0), (4.1, 9.0), (4.3, 9.0), (4.3, 0.0)],
        [(-9.0, -9.0), (-9.0, -4.0), (-4.0, -4.0)],
        [(1.0, 20.0), (5.0, 20.0), (5.0, 24.0)],
    ],
)
def test_what_covers_no_centre_is_no_pixel(polygon):
    assert not fill([np.array(polygon)], SHAPE).any()
    np.testing.assert_array_equal(fill([], SHAPE), np.zeros(SHAPE))


TWINS = {
    "the same": lambda p: p.copy(),
    "another first vertex": lambda p: np.roll(p, 17, axis=0),
    "backward": lambda p: p[::-1],
    "half the vertices": lambda p: p[::2],
    "denser": lambda p: np.stack([p, (p + np.roll(p, -1, axis=0)) / 2], axis=1).reshape(-1, 2),
    "rounded to a tenth": lambda p: p.round(1),
    "closed twice": lambda p: np.concatenate([p, p[:1]]),
    "moved a little": lambda p: p + np.array([0.06, -0.08]),
}


@pytest.mark.parametrize("radius", [1.6, 3.1, 12, 28])
@pytest.mark.parametrize("change", TWINS.values(), ids=TWINS)
def test_a_contour_that_stands_twice_counts_once(radius, change):
    contour = circle(radius)
    assert without_twins([contour, change(contour)]) == [0]
    assert without_twins([change(contour), contour, contour]) == [0]


@pytest.mark.parametrize("radius", [3, 10, 30, 120, 250])
@pytest.mark.parametrize("rim", [0.5, 0.7, 1.0, 2.0])
def test_a_thin_wall_is_no_twin(radius, rim):
    assert without_twins([circle(radius, vertices=400), circle(radius - rim, vertices=400)]) == [0, 1]


CORNERS = np.array([(0.0, 0.0), (0.0, 1.0), (1.0, 1.0), (1.0, 0.0)])
SLIVER = np.array([(5.0, 1.0), (5.0, 90.0), (5.12, 90.0), (5.12, 1.0)])
THREE = [circle(20), circle(5, (12, 12)), circle(20, phase=0.01), circle(20), circle(5, (12, 12), 40)]


@pytest.mark.parametrize(
    ("contours", "left"),
    [(THREE, [0, 1]), ([SLIVER, SLIVER[::-1]], [0]), ([], [])],
    ids=["three copies", "slivers", "no contour"],
)
def test_copies_count_once_each(contours, left):
    assert without_twins(contours) == left


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (circle(0.3, (5.2, 5.1)), circle(0.3, (5.2, 5.9))),  # specks beside each other
        (circle(0.2, (5.2, 5.1)), circle(0.2, (5.2, 5.6))),
        (np.array([(5.0, 1), (5.0, 90), (5.1, 90), (5.1, 1)]), np.array([(5.5, 1), (5.5, 90), (5.6, 90), (5.6, 1)])),
        (circle(9), circle(9, (30.2, 31.9))),  # of one size, half a pixel apart
        (circle(9), circle(9) * (1.0, 1.05)),
        (CORNERS * 3 - 0.5, CORNERS * 2 + 0.5),  # a wall of one voxel
        (CORNERS * 101 - 0.5, CORNERS * 99 + 0.5),
    ],
)
def test_what_only_looks_alike_is_no_twin(one, other):
    assert without_twins([one, other]) == [0, 1]
