import math

import numpy as np
import pytest
from builders.evaluation_strategies import SPACINGS_MM, mask_pairs
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from nnunet_cascade.evaluation import surface as surface_module
from nnunet_cascade.evaluation.disjoint_boxes import separate_parts
from nnunet_cascade.evaluation.mask_pair import shared_grid
from nnunet_cascade.evaluation.surface import SurfaceDistances, measure_surfaces


def measured(truth, prediction, spacing_mm):
    return measure_surfaces(separate_parts(truth, prediction), shared_grid(truth, prediction, spacing_mm))


def distances(to_prediction_mm, to_truth_mm):
    return SurfaceDistances(
        to_prediction_mm=np.array(to_prediction_mm), to_truth_mm=np.array(to_truth_mm), empty="none"
    )


def brute_distances_mm(first, second, spacing_mm):
    """Give the distances from the surface of one mask to that of the other, by looking at every pair of voxels."""
    one, other = (np.argwhere(mask & ~ndimage.binary_erosion(mask)) * np.array(spacing_mm) for mask in (first, second))
    return np.sort(np.linalg.norm(one[:, None] - other[None], axis=-1).min(axis=1))


def test_a_far_false_positive_is_not_hidden_behind_a_large_lesion(box_mask):
    shape = (4, 40, 200)
    lesion = box_mask(shape, (0, 0, 0), (4, 40, 40))
    part = box_mask(shape, (0, 0, 0), (4, 3, 3))
    island = box_mask(shape, (0, 0, 190), (2, 2, 192))
    # 34 surface voxels of the part and 8 of the island, 4 at 190 − 39 = 151 and 4 at 152 mm:
    # rank 0.95 · 41 = 38.95 of 0 … 41 lies with the last four; pooled with the lesion's thousands it would not
    found = measured(lesion, part | island, (1.0, 1.0, 1.0))
    assert found.hd95_mm == pytest.approx(152.0)
    assert found.hd95_pooled_mm < 60


def test_pooling_takes_the_percentile_of_both_sides_together():
    found = distances([0.0] * 90, [0.0] * 4 + [10.0] * 6)
    # ranks 0 … 99, of which 94 … 99 hold 10: rank 94.05
    assert (found.hd95_pooled_mm, found.hd95_mm) == (10.0, 10.0)
    found = distances([0.0] * 96, [10.0] * 4)
    assert (found.hd95_pooled_mm, found.hd95_mm) == (0.0, 10.0)


def test_assd_counts_every_surface_voxel_once():
    # 3 voxels at 0 and 1 at 4: not the mean 2 of the two directed means
    assert distances([0.0] * 3, [4.0]).assd_mm == 1.0


def test_nsd_counts_what_is_within_the_tolerance_or_exactly_at_it():
    found = distances([0.0, 1.0, 2.0], [2.0, 3.0])
    assert [found.nsd(mm) for mm in (0.0, 1.0, 1.9, 2.0, 3.0)] == [0.2, 0.4, 0.4, 0.8, 1.0]


@pytest.mark.parametrize("dense", [0.0, math.inf], ids=["transform", "tree"])
@settings(deadline=None, max_examples=50)
@given(mask_pairs(max_side=8), SPACINGS_MM)
def test_distances_are_those_of_all_pairs_however_they_are_found(dense, pair, spacing_mm):
    if all(mask.any() for mask in pair):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(surface_module, "_DENSE", dense)
            found = measured(*pair, spacing_mm)
        assert np.allclose(found.to_prediction_mm, brute_distances_mm(*pair, spacing_mm), rtol=1e-12)
        assert np.allclose(found.to_truth_mm, brute_distances_mm(*pair[::-1], spacing_mm), rtol=1e-12)


@settings(deadline=None, max_examples=50)
@given(mask_pairs(), SPACINGS_MM, st.permutations([0, 1, 2]), st.tuples(*[st.booleans()] * 3))
def test_turning_flipping_and_swapping_change_nothing(pair, spacing_mm, order, flips):
    turned = [np.flip(mask.transpose(order), [axis for axis in range(3) if flips[axis]]) for mask in pair]
    turned_mm = tuple(spacing_mm[axis] for axis in order)
    expected = measured(*pair, spacing_mm).hd95_mm
    assert measured(*pair[::-1], spacing_mm).hd95_mm == pytest.approx(expected, nan_ok=True)
    assert measured(*turned, turned_mm).hd95_mm == pytest.approx(expected, nan_ok=True)


@settings(deadline=None, max_examples=50)
@given(mask_pairs(), SPACINGS_MM, st.integers(1, 5))
def test_air_around_the_image_changes_nothing_where_both_masks_have_voxels(pair, spacing_mm, margin):
    if all(mask.any() for mask in pair):
        padded = [np.pad(mask, margin) for mask in pair]
        expected = measured(*pair, spacing_mm).hd95_mm
        assert measured(*padded, spacing_mm).hd95_mm == pytest.approx(expected)


@settings(deadline=None, max_examples=50)
@given(mask_pairs(), SPACINGS_MM)
def test_hd95_is_at_most_the_penalty_for_an_empty_mask(pair, spacing_mm):
    value = measured(*pair, spacing_mm).hd95_mm
    sizes = zip(pair[0].shape, spacing_mm, strict=True)
    assert math.isnan(value) or 0 <= value <= math.hypot(*(count * size for count, size in sizes))
