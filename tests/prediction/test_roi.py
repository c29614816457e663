"""Regions around candidates, and what is pasted back of them."""

import itertools

import numpy as np
import pytest
from builders.oriented_grids import grid_towards
from hypothesis import given
from hypothesis import strategies as st

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.geometry import AxisTurn, Box
from nnunet_cascade.postprocessing.anatomy import AnatomySettings, filter_candidates
from nnunet_cascade.prediction.roi import (
    Roi,
    RoiBlender,
    apply_island_policy,
    is_clipped,
    patch_voxels,
    plan_rois,
    roi_map,
)
from nnunet_cascade.prediction.spec import RoiSettings

SHAPE = (12, 12, 12)
INSIDE = Box((3, 3, 4), (8, 9, 9))


def block(start, stop, shape=SHAPE):
    mask = np.zeros(shape, dtype=bool)
    mask[Box(start, stop).slices] = True
    return mask


def rois_of(mask, grid, **settings):
    anatomy = AnatomySettings(min_volume_mm3=0, top_k="all", merge_radius_mm=0)
    kept = filter_candidates(mask, grid, None, anatomy).kept
    return plan_rois(kept, grid, RoiSettings(**{"margin_mm": 2.0, **settings}))


@pytest.mark.parametrize(
    ("margin", "expected"),
    [
        ({"margin_mm": 3.0}, Box((3, 0, 2), (8, 5, 9))),
        ({"margin_mm": None, "margin_voxels": 3}, Box((2, 0, 2), (9, 5, 9))),
    ],
    ids=["in mm", "in voxels"],
)
def test_a_region_is_the_box_with_its_margin_clipped_to_the_image(margin, expected):
    grid = grid_towards("LPS", SHAPE, (2.0, 1.0, 1.0))
    (roi,) = rois_of(block((5, 0, 5), (6, 2, 6)), grid, **margin)
    assert roi.box == expected
    assert rois_of(np.zeros(SHAPE, dtype=bool), grid, **margin) == ()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"margin_voxels": 3}, "one of margin_mm and margin_voxels"),
        ({"margin_mm": None}, "one of margin_mm and margin_voxels"),
        ({"margin_mm": None, "margin_voxels": -1}, "margin_voxels"),
        ({"margin_mm": None, "margin_voxels": 1.5}, "margin_voxels"),
        ({"merge_overlapping": "yes"}, "merge_overlapping"),
    ],
)
def test_exactly_one_margin_is_given(wrong, words):
    with pytest.raises(SettingsError, match=words):
        RoiSettings(**wrong)


def test_regions_that_overlap_become_one_if_asked():
    grid = grid_towards("LPS", SHAPE)
    far, large, small = block((0, 0, 9), (1, 1, 10)), block((5, 5, 0), (7, 7, 2)), block((5, 5, 5), (6, 6, 6))
    apart = rois_of(far | large | small, grid)
    assert [(roi.candidate, roi.merged) for roi in apart] == [(1, ()), (2, ()), (3, ())]
    joined = rois_of(far | large | small, grid, merge_overlapping=True)
    assert [(roi.id, roi.candidate, roi.merged) for roi in joined] == [(1, 1, (3,)), (2, 2, ())]
    assert joined[0].box == Box((3, 3, 0), (9, 9, 8))


def test_regions_that_only_touch_stay_two():
    grid = grid_towards("LPS", SHAPE)
    mask = block((5, 5, 2), (6, 6, 3)) | block((5, 5, 7), (6, 6, 8))
    assert len(rois_of(mask, grid, merge_overlapping=True)) == 2
    assert len(rois_of(mask, grid, merge_overlapping=True, margin_mm=3.0)) == 1


@given(places=st.lists(st.tuples(*[st.integers(0, 11)] * 3), max_size=8), margin=st.integers(0, 3))
def test_joined_regions_never_overlap_and_hold_all_there_were(places, margin):
    mask = np.zeros(SHAPE, dtype=bool)
    for place in places:
        mask[place] = True
    grid = grid_towards("LPS", SHAPE)
    apart = rois_of(mask, grid, margin_mm=None, margin_voxels=margin)
    joined = rois_of(mask, grid, margin_mm=None, margin_voxels=margin, merge_overlapping=True)
    assert all(a.box.intersection(b.box) is None for a, b in itertools.combinations(joined, 2))
    homes = {candidate: roi.box for roi in joined for candidate in (roi.candidate, *roi.merged)}
    assert sorted(homes) == [roi.candidate for roi in apart]
    assert all(homes[roi.candidate].union(roi.box) == homes[roi.candidate] for roi in apart)
    assert [roi.candidate for roi in joined] == sorted(roi.candidate for roi in joined)


@pytest.mark.parametrize(("spacing", "voxels"), [(3.0, 32), (0.9766, 98), (0.7, 137), (2.5, 38), (200.0, 1)])
def test_a_patch_is_shown_in_the_nearest_number_of_voxels(spacing, voxels):
    assert patch_voxels((96.0, 96.0, 96.0), (spacing, 1.0, 96.0)) == (voxels, 96, 1)


def test_overlapping_regions_average_their_values():
    canvas = RoiBlender((1, 1, 4), AxisTurn((0, 1, 2), (False, False, False)))
    canvas.paste(np.full((1, 1, 3), 0.8, dtype=np.float32), Box((0, 0, 0), (1, 1, 3)))
    canvas.paste(np.full((1, 1, 2), 0.4, dtype=np.float32), Box((0, 0, 1), (1, 1, 3)))
    np.testing.assert_allclose(canvas.mean()[0, 0], [0.8, 0.6, 0.6, 0.0], rtol=1e-6)


def test_where_regions_overlap_the_first_one_stands_in_the_map():
    rois = [Roi(1, 1, Box((0, 0, 0), (1, 1, 3))), Roi(2, 2, Box((0, 0, 2), (1, 1, 4)))]
    np.testing.assert_array_equal(roi_map(rois, (1, 1, 5))[0, 0], [1, 1, 1, 2, 0])
    many = [Roi(n, n, Box((0, 0, n), (1, 1, n + 1))) for n in range(1, 301)]
    assert roi_map(many, (1, 1, 302)).max() == 300, "more than a byte counts"


@pytest.mark.parametrize(
    ("mask", "box", "expected"),
    [
        (block((5, 5, 5), (7, 7, 7)), INSIDE, False),
        (block((5, 5, 5), (8, 7, 7)), INSIDE, True),
        (block((3, 5, 5), (7, 7, 7)), INSIDE, True),
        (block((5, 5, 4), (7, 7, 7)), INSIDE, True),
        (block((0, 4, 4), (2, 6, 6)), Box((0, 3, 3), (5, 8, 8)), False),  # the image ends there
    ],
)
def test_a_mask_at_a_face_inside_the_image_is_clipped(mask, box, expected):
    roi = Roi(1, 1, box)
    assert is_clipped(mask, roi, roi_map([roi], SHAPE)) is expected


def test_a_mask_that_goes_on_into_a_neighbouring_region_is_not_clipped():
    rois = [Roi(n, n, box) for n, box in ((1, Box((0, 0, 0), (6, 12, 12))), (2, Box((6, 0, 0), (12, 12, 12))))]
    assert not is_clipped(block((4, 4, 4), (8, 6, 6)), rois[0], roi_map(rois, SHAPE))


@pytest.mark.parametrize("policy", ["drop", "keep"])
def test_an_island_near_no_kept_candidate_is_dropped_whole_or_kept_by_policy_and_counted(policy):
    kept, far = block((1, 1, 1), (3, 3, 3)), block((8, 8, 8), (10, 10, 10))
    found = block((1, 1, 1), (4, 4, 4)) | far
    before = found.copy()
    islands = apply_island_policy(found, kept, RoiSettings(islands=policy, island_reach_mm=2.0), (1.0, 1.0, 1.0))
    np.testing.assert_array_equal(found, before)
    np.testing.assert_array_equal(islands.mask, found & ~far if policy == "drop" else found)
    assert (islands.count, islands.voxels, islands.dropped) == (1, 8, policy == "drop")


def test_reach_is_in_mm_not_in_voxels():
    kept, near = block((1, 5, 5), (2, 6, 6)), block((3, 5, 5), (4, 6, 6))
    settings = RoiSettings(island_reach_mm=3.0)
    assert apply_island_policy(near, kept, settings, (1.0, 1.0, 1.0)).count == 0
    assert apply_island_policy(near, kept, settings, (2.0, 1.0, 1.0)).count == 1


def test_nothing_found_has_no_islands():
    nothing = np.zeros(SHAPE, dtype=bool)
    assert apply_island_policy(nothing, nothing, RoiSettings(), (1.0, 1.0, 1.0)).count == 0
