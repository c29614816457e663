import math

import numpy as np
import pytest
from builders.evaluation_strategies import SPACINGS_MM, mask_pairs
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation import surface as surface_module
from nnunet_cascade.evaluation.surface import SurfaceDistances, hd95_mm, measure_surfaces
from nnunet_cascade.morphology import surface

SPACING_MM = (3.0, 0.977, 0.977)


def distances(*, to_prediction_mm, to_truth_mm, empty="none"):
    return SurfaceDistances(
        to_prediction_mm=np.array(to_prediction_mm), to_truth_mm=np.array(to_truth_mm), empty=empty, diagonal_mm=100.0
    )


def brute_distances_mm(first, second, spacing_mm):
    """Give the distances from the surface of one mask to that of the other, by looking at every pair of voxels."""
    one, other = (np.argwhere(mask & ~ndimage.binary_erosion(mask)) * np.array(spacing_mm) for mask in (first, second))
    return np.sort(np.linalg.norm(one[:, None] - other[None], axis=-1).min(axis=1))


@pytest.mark.parametrize(
    ("shift", "expected_mm"),
    [
        ((0, 0, 0), 0.0),
        ((2, 0, 0), 6.0),  # 2 slices of 3 mm
        ((0, 3, 0), 3.0),  # 3 rows of 1 mm
        ((0, 0, 4), 8.0),  # 4 columns of 2 mm
        ((2, 0, 4), 10.0),  # √(6² + 8²)
    ],
)
def test_hd95_of_a_shifted_voxel_is_the_length_of_the_shift(shift, expected_mm, box_mask):
    start = (1, 1, 1)
    moved = [a + b for a, b in zip(start, shift, strict=True)]
    truth = box_mask((5, 6, 7), start, (2, 2, 2))
    prediction = box_mask((5, 6, 7), moved, [at + 1 for at in moved])
    assert hd95_mm(truth, prediction, spacing_mm=(3.0, 1.0, 2.0)) == pytest.approx(expected_mm)


def test_hd95_of_a_shifted_plate_is_the_shift_in_mm(box_mask):
    truth = box_mask((9, 12, 12), (2, 1, 1), (3, 11, 11))
    prediction = box_mask((9, 12, 12), (6, 1, 1), (7, 11, 11))
    # every voxel of a plate has its partner straight above, 4 slices away
    assert hd95_mm(truth, prediction, spacing_mm=SPACING_MM) == pytest.approx(12.0)


def test_a_far_false_positive_is_not_hidden_behind_a_large_lesion(box_mask):
    shape = (4, 40, 200)
    lesion = box_mask(shape, (0, 0, 0), (4, 40, 40))
    part = box_mask(shape, (0, 0, 0), (4, 3, 3))
    island = box_mask(shape, (0, 0, 190), (2, 2, 192))
    # 34 surface voxels of the part and 8 of the island, 4 at 190 − 39 = 151 and 4 at 152 mm:
    # rank 0.95 · 41 = 38.95 of 0 … 41 lies with the last four; pooled with the lesion's thousands it would not
    found = measure_surfaces(lesion, part | island, spacing_mm=(1.0, 1.0, 1.0))
    assert found.hd95_mm == pytest.approx(152.0)
    assert found.hd95_pooled_mm < 60


def test_pooling_takes_the_percentile_of_both_sides_together():
    found = distances(to_prediction_mm=[0.0] * 90, to_truth_mm=[0.0] * 4 + [10.0] * 6)
    # ranks 0 … 99, of which 94 … 99 hold 10: rank 94.05
    assert (found.hd95_pooled_mm, found.hd95_mm) == (10.0, 10.0)
    found = distances(to_prediction_mm=[0.0] * 96, to_truth_mm=[10.0] * 4)
    assert (found.hd95_pooled_mm, found.hd95_mm) == (0.0, 10.0)


def test_assd_counts_every_surface_voxel_once():
    # 3 voxels at 0 and 1 at 4: not the mean 2 of the two directed means
    assert distances(to_prediction_mm=[0.0] * 3, to_truth_mm=[4.0]).assd_mm == 1.0


def test_nsd_counts_what_is_within_the_tolerance_or_exactly_at_it():
    found = distances(to_prediction_mm=[0.0, 1.0, 2.0], to_truth_mm=[2.0, 3.0])
    assert [found.nsd(mm) for mm in (0.0, 1.0, 1.9, 2.0, 3.0)] == [0.2, 0.4, 0.4, 0.8, 1.0]


@pytest.mark.parametrize("tolerance_mm", [-1.0, math.nan, math.inf])
def test_a_tolerance_that_is_no_distance_is_refused(tolerance_mm):
    with pytest.raises(SettingsError, match="tolerance"):
        distances(to_prediction_mm=[0.0], to_truth_mm=[0.0]).nsd(tolerance_mm)


@pytest.mark.parametrize(
    "changes",
    [
        {"to_truth_mm": [2.0, 1.0]},
        {"to_truth_mm": [-1.0]},
        {"to_truth_mm": [math.inf]},
        {"to_truth_mm": [0.0, math.nan]},
        {"to_truth_mm": []},
        {"empty": "truth"},
        {"empty": "both", "to_truth_mm": []},
    ],
)
def test_distances_that_cannot_be_are_refused(changes):
    with pytest.raises(SettingsError, match="found"):
        distances(**{"to_prediction_mm": [0.0], "to_truth_mm": [0.0], **changes})


@pytest.mark.parametrize("dense", [0.0, math.inf], ids=["transform", "tree"])
@settings(deadline=None)
@given(mask_pairs(max_side=8), SPACINGS_MM)
def test_distances_are_those_of_all_pairs_however_they_are_found(dense, pair, spacing_mm):
    if all(mask.any() for mask in pair):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(surface_module, "_DENSE", dense)
            found = measure_surfaces(*pair, spacing_mm=spacing_mm)
        assert np.allclose(found.to_prediction_mm, brute_distances_mm(*pair, spacing_mm), rtol=1e-12)
        assert np.allclose(found.to_truth_mm, brute_distances_mm(*pair[::-1], spacing_mm), rtol=1e-12)


def test_one_empty_mask_costs_the_diagonal_of_the_image_and_two_are_undefined(box_mask):
    truth = box_mask((2, 3, 4), (0, 0, 0), (1, 1, 1))
    empty = np.zeros_like(truth)
    diagonal_mm = math.hypot(2 * 3.0, 3 * 1.0, 4 * 2.0)
    assert hd95_mm(truth, empty, spacing_mm=(3.0, 1.0, 2.0)) == pytest.approx(diagonal_mm)
    assert hd95_mm(empty, truth, spacing_mm=(3.0, 1.0, 2.0)) == pytest.approx(diagonal_mm)
    assert math.isnan(hd95_mm(empty, empty, spacing_mm=SPACING_MM))


def test_voxels_without_a_size_are_refused():
    mask = np.ones((2, 2, 2), dtype=bool)
    with pytest.raises(SettingsError, match="voxel sizes must be positive"):
        hd95_mm(mask, mask, spacing_mm=(1.0, 0.0, 1.0))


def test_the_surface_has_the_voxels_with_a_face_outside(drawn_mask):
    block = np.repeat(drawn_mask("##### ##### #####"), 3, axis=0)
    inner = np.zeros_like(block)
    inner[1, 1, 1:4] = True  # the array's edge counts as outside, so only these three are inside
    assert np.array_equal(surface(block), block & ~inner)


@settings(deadline=None)
@given(mask_pairs(), SPACINGS_MM)
def test_hd95_does_not_ask_which_is_the_truth(pair, spacing_mm):
    there, back = (hd95_mm(*masks, spacing_mm=spacing_mm) for masks in (pair, pair[::-1]))
    assert there == pytest.approx(back, nan_ok=True)


@settings(deadline=None)
@given(mask_pairs(), SPACINGS_MM, st.permutations([0, 1, 2]), st.tuples(*[st.booleans()] * 3))
def test_turning_and_flipping_the_patient_changes_nothing(pair, spacing_mm, order, flips):
    turned = [np.flip(mask.transpose(order), [axis for axis in range(3) if flips[axis]]) for mask in pair]
    turned_mm = tuple(spacing_mm[axis] for axis in order)
    expected = hd95_mm(*pair, spacing_mm=spacing_mm)
    assert hd95_mm(*turned, spacing_mm=turned_mm) == pytest.approx(expected, nan_ok=True)


@settings(deadline=None)
@given(mask_pairs(), SPACINGS_MM, st.integers(1, 5))
def test_air_around_the_image_changes_nothing_where_both_masks_have_voxels(pair, spacing_mm, margin):
    if all(mask.any() for mask in pair):
        padded = [np.pad(mask, margin) for mask in pair]
        expected = hd95_mm(*pair, spacing_mm=spacing_mm)
        assert hd95_mm(*padded, spacing_mm=spacing_mm) == pytest.approx(expected)


@settings(deadline=None)
@given(mask_pairs(), SPACINGS_MM)
def test_hd95_is_at_most_the_penalty_for_an_empty_mask(pair, spacing_mm):
    value = hd95_mm(*pair, spacing_mm=spacing_mm)
    sizes = zip(pair[0].shape, spacing_mm, strict=True)
    assert math.isnan(value) or 0 <= value <= math.hypot(*(count * size for count, size in sizes))
