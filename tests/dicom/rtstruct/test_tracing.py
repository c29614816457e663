"""Outlines of masks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from nnunet_cascade.dicom.rtstruct.polygons import fill
from nnunet_cascade.dicom.rtstruct.tracing import trace
from nnunet_cascade.dicom.writing import decimal_string

MASKS = npst.arrays(np.bool_, npst.array_shapes(min_dims=2, max_dims=2, max_side=12))
SHIFTS = st.tuples(*[st.floats(-0.2, 0.2)] * 2)


def drawn(text):
    """A mask from a drawing: # is inside."""
    return np.array([[letter == "#" for letter in line] for line in text.split()])


@given(MASKS, SHIFTS)
def test_each_outline_may_be_filled_by_itself(mask, shift):
    filled = [fill([polygon + np.array(shift)], mask.shape) for polygon in trace(mask)]
    np.testing.assert_array_equal(np.sum(filled, axis=0, dtype=int) if filled else 0 * mask, mask)


@given(MASKS)
def test_winding_numbers_fill_the_same_as_parity(mask):
    centers = np.stack(np.nonzero(np.ones_like(mask)), axis=1) + np.array([1e-3, 0])
    inside = np.zeros(mask.size, dtype=bool)
    for polygon in trace(mask):
        start, end = polygon, np.roll(polygon, -1, axis=0)
        passes = (start[:, 0] <= centers[:, :1]) != (end[:, 0] <= centers[:, :1])
        with np.errstate(divide="ignore", invalid="ignore"):
            at = start[:, 1] + (centers[:, :1] - start[:, 0]) / (end - start)[:, 0] * (end - start)[:, 1]
        winding = np.where(passes & (at > centers[:, 1:]), np.sign((end - start)[:, 0]), 0).sum(axis=1)
        inside |= winding != 0
    np.testing.assert_array_equal(inside.reshape(mask.shape), mask)


@given(MASKS, SHIFTS)
def test_outlines_fill_the_mask_bit_for_bit_and_keep_away_from_the_centres(mask, shift):
    outlines = trace(mask)
    np.testing.assert_array_equal(fill(outlines, mask.shape), mask)
    np.testing.assert_array_equal(fill([polygon + np.array(shift) for polygon in outlines], mask.shape), mask)


@given(MASKS, st.floats(0.1, 5), st.floats(-1000, 1000))
def test_outlines_survive_the_way_through_millimetres_and_text(mask, spacing_mm, origin_mm):
    polygons = [
        (np.array([[float(decimal_string(v)) for v in row] for row in polygon * spacing_mm + origin_mm]) - origin_mm)
        / spacing_mm
        for polygon in trace(mask)
    ]
    np.testing.assert_array_equal(fill(polygons, mask.shape), mask)


@given(MASKS)
def test_vertices_stand_at_corners_alone(mask):
    for polygon in trace(mask):
        before, after = polygon - np.roll(polygon, 1, axis=0), np.roll(polygon, -1, axis=0) - polygon
        assert len(polygon) >= 4
        assert (before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]).all()


@pytest.mark.parametrize(
    ("drawing", "outlines"),
    [
        (".... ....", 0),
        (".#.. ....", 1),
        ("#### ####", 1),
        ("##.. ..##", 2),  # touching at a corner
        ("##### #...# #.#.# #...# #####", 2),  # an island in a hole
        ("####### #.#.#.# #######", 1),
    ],
)
def test_islands_have_outlines_of_their_own_and_holes_are_joined_to_them(drawing, outlines):
    assert len(trace(drawn(drawing))) == outlines


def test_an_outline_runs_half_way_between_pixels():
    (polygon,) = trace(drawn("... .#. ..."))
    assert {tuple(vertex) for vertex in polygon.tolist()} == {(0.5, 1.0), (1.5, 1.0), (1.0, 0.5), (1.0, 1.5)}
