"""Regions in millimetres, against distances to every voxel's solid one by one."""

import itertools

import numpy as np
import pytest
from builders.evaluation_strategies import SPACINGS_MM, mask_pairs
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_cascade.errors import GridMismatchError, SettingsError
from nnunet_cascade.evaluation.calibration.regions import near_surface, near_union, region_of, within_mm


def distances_mm(mask, spacing_mm):
    """From each voxel's centre to the nearest voxel of a mask, a box from face to face."""
    found = np.full(mask.shape, np.inf)
    for index in itertools.product(*map(range, mask.shape)):
        gaps = (np.abs(np.argwhere(mask) - index) - 0.5).clip(0) * spacing_mm
        found[index] = np.sqrt((gaps**2).sum(axis=1)).min(initial=np.inf)
    return found


@given(mask_pairs(), SPACINGS_MM, st.sampled_from([0.0, 0.4, 1.0, 3.0, 5.0]))
@settings(max_examples=60, deadline=None)
def test_regions_hold_what_is_near_by_brute_force(pair, spacing_mm, distance_mm):
    truth, prediction = pair
    limit = distance_mm + 1e-6
    found = near_union(truth, prediction, spacing_mm=spacing_mm, distance_mm=distance_mm)
    assert np.array_equal(found, distances_mm(truth | prediction, spacing_mm) <= limit)
    band = near_surface(truth, spacing_mm=spacing_mm, distance_mm=distance_mm)
    both = np.maximum(distances_mm(truth, spacing_mm), distances_mm(~truth, spacing_mm))
    assert np.array_equal(band, both <= limit)


@given(mask_pairs(max_side=5), SPACINGS_MM)
@settings(max_examples=10, deadline=None)
def test_regions_turn_with_the_image(pair, spacing_mm):
    truth, prediction = pair
    for name in ("union", "surface"):
        straight = region_of(name, truth, prediction, spacing_mm)
        turned = [np.flip(mask.transpose(2, 0, 1), axis=1) for mask in pair]
        spacing = (spacing_mm[2], spacing_mm[0], spacing_mm[1])
        assert np.array_equal(region_of(name, *turned, spacing), np.flip(straight.transpose(2, 0, 1), axis=1))


def test_slices_of_5_mm_have_neighbors_2_5_mm_away(box_mask):
    mask = box_mask((7, 9, 9), (3, 4, 4), (4, 5, 5))
    assert within_mm(mask, spacing_mm=(5.0, 1.0, 1.0), distance_mm=2.5)[:, 4, 4].tolist() == [0, 0, 1, 1, 1, 0, 0]
    # 3 mm to the face of the voxel are 3.5 to its centre
    assert within_mm(mask, spacing_mm=(5.0, 1.0, 1.0), distance_mm=3.0)[3, 4].tolist() == [0, 1, 1, 1, 1, 1, 1, 1, 0]


def test_the_band_has_as_much_inside_as_outside(box_mask):
    truth = box_mask((1, 1, 40), (0, 0, 0), (1, 1, 20))
    band = near_surface(truth, spacing_mm=(1.0, 1.0, 1.0))[0, 0]
    # centres 0.5, 1.5 and 2.5 mm from the face between voxels 19 and 20; where the array ends there is no surface
    assert np.flatnonzero(band).tolist() == [17, 18, 19, 20, 21, 22]


def test_a_flat_surface_needs_voxels_of_at_most_twice_the_distance(box_mask):
    truth = box_mask((6, 1, 1), (0, 0, 0), (3, 1, 1))
    assert near_surface(truth, spacing_mm=(6.0, 1.0, 1.0)).sum() == 2
    assert near_surface(truth, spacing_mm=(6.1, 1.0, 1.0)).sum() == 0


def test_empty_masks_have_empty_regions():
    empty, full = np.zeros((3, 4, 5), dtype=bool), np.ones((3, 4, 5), dtype=bool)
    one = empty.copy()
    one[1, 1, 1] = True
    spacing_mm = (3.0, 1.0, 1.0)
    assert not region_of("union", empty, empty, spacing_mm).any()
    assert not region_of("surface", empty, one, spacing_mm).any()
    assert region_of("union", empty, one, spacing_mm).all()
    assert not region_of("surface", full, one, spacing_mm).any()


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_order_of_memory_does_not_matter(rng, order):
    truth = np.asarray(rng.random((6, 7, 8)) < 0.05, order=order)
    assert np.array_equal(
        within_mm(truth, spacing_mm=(2.0, 1.0, 1.0), distance_mm=2.0),
        within_mm(truth.copy(order="C"), spacing_mm=(2.0, 1.0, 1.0), distance_mm=2.0),
    )
    assert within_mm(truth, spacing_mm=(2.0, 1.0, 1.0), distance_mm=2.0).sum() > truth.sum()


def test_arguments_stay_as_they_are(box_mask):
    truth = box_mask((4, 5, 6), (1, 1, 1), (2, 3, 4))
    before = truth.copy()
    truth.flags.writeable = False
    region_of("union", truth, truth, (1.0, 1.0, 1.0))
    region_of("surface", truth, truth, (1.0, 1.0, 1.0))
    assert np.array_equal(truth, before)


@pytest.mark.parametrize("distance_mm", [-1.0, float("nan"), float("inf")])
def test_a_distance_must_be_one(distance_mm):
    with pytest.raises(SettingsError, match="expected a number from 0 up"):
        within_mm(np.ones((2, 2, 2), dtype=bool), spacing_mm=(1.0, 1.0, 1.0), distance_mm=distance_mm)


def test_what_is_no_pair_is_refused():
    mask = np.ones((2, 2, 2), dtype=bool)
    with pytest.raises(GridMismatchError, match="resample"):
        region_of("union", mask, mask[:1], (1.0, 1.0, 1.0))
    with pytest.raises(GridMismatchError, match="resample"):
        region_of("surface", mask, mask[:1], (1.0, 1.0, 1.0))
    with pytest.raises(SettingsError, match="boolean"):
        region_of("surface", mask.astype(np.uint8), mask, (1.0, 1.0, 1.0))
    with pytest.raises(SettingsError, match="expected one of union, surface"):
        region_of("lungs", mask, mask, (1.0, 1.0, 1.0))
