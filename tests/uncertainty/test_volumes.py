"""Volumes over the samples: each voxel counted once, for the lesion it belongs to."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_cascade.geometry import Box
from nnunet_cascade.uncertainty.lesions import label_lesions
from nnunet_cascade.uncertainty.volumes import RegionSampleMasks, Sampled, VolumeSpread, volume_spreads

SPACING = (3.0, 1.0, 1.0)
ML = 3e-3


def spread(*counts, windows=1):
    return VolumeSpread.of(np.array(counts), voxel_ml=ML, windows=windows)


def packed(masks, *, members=1, windows=1):
    """Votes from masks (S, Z, Y, X)."""
    masks = np.asarray(masks, dtype=np.uint8).reshape(members, -1, *np.shape(masks)[1:])
    return RegionSampleMasks(np.packbits(masks, axis=1, bitorder="little"), masks.shape[1], windows)


def sampled(*sample_masks, shape, boxes):
    regions = np.zeros(shape, dtype=np.uint16)
    for number, box in reversed(list(enumerate(boxes, start=1))):
        regions[box.slices] = number
    pairs = {number: (box, vote) for number, (box, vote) in enumerate(zip(boxes, sample_masks, strict=True), start=1)}
    return Sampled(uncertainty=np.zeros(shape, dtype=np.float32), regions=regions, sample_masks=pairs)


def spreads_of(masks, final, *, dropped=None, **rest):
    """One region that covers everything."""
    whole = Box.whole(final.shape)
    case = sampled(packed(masks, **rest), shape=final.shape, boxes=[whole])
    return volume_spreads(label_lesions(final), np.zeros_like(final) if dropped is None else dropped, case, SPACING)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 3), st.integers(1, 19), st.integers(0, 2**32 - 1))
def test_counts_are_those_of_the_masks(members, passes, seed):
    draw = np.random.default_rng(seed)
    masks, chosen = draw.random((members * passes, 2, 3, 4)) < 0.4, draw.random((2, 3, 4)) < 0.5
    sample_masks = packed(masks, members=members)
    assert sample_masks.total_samples == members * passes
    np.testing.assert_array_equal(sample_masks.counts(chosen), masks[:, chosen].sum(1))
    np.testing.assert_array_equal(sample_masks.any(), masks.any(0))


def test_a_spread_is_mean_deviation_and_percentiles_of_the_volumes():
    found, volumes = spread(4, 8, 8, 20), np.array([4, 8, 8, 20]) * ML
    assert (found.samples, found.mean_ml, found.windows) == (4, pytest.approx(volumes.mean()), 1)
    assert found.sd_ml == pytest.approx(volumes.std(), abs=1e-4)
    assert (found.p5_ml, found.p95_ml) == pytest.approx(tuple(np.percentile(volumes, (5, 95))), abs=1e-4)


def two_lesions(width=20):
    final = np.zeros((3, 3, width), dtype=bool)
    final[1, 1, 2:6] = True
    final[1, 1, 14:16] = True
    return final


def test_every_lesion_has_the_voxels_that_are_nearest_to_it():
    final = two_lesions()
    masks = np.stack([final] * 4)
    masks[0, 1, 1, 6:8] = True  # the first lesion grows,
    masks[1, 1, 1, 13] = True  # the second one,
    masks[2, 1, 1, 14:16] = False  # which one sample does not see
    masks[3, 0, 0, 9] = True  # 3 voxels beside the first lesion's end, 4 beside the second one's begin
    found = spreads_of(masks, final)
    expected = {1: [6, 4, 4, 5], 2: [2, 3, 0, 2]}
    for lesion, counts in expected.items():
        assert found.lesions[lesion] == spread(*counts)
    assert found.case == found.regions[1] == spread(8, 7, 4, 7)


def test_nearest_is_meant_in_millimetres():
    final = np.zeros((5, 1, 9), dtype=bool)
    final[0, 0, 0] = final[2, 0, 8] = True  # one voxel each; 26-connectivity keeps them apart
    masks = np.stack([final, final])
    masks[0, 2, 0, 2] = True  # 2 slices of 3 mm and 2 mm from the first, 6 mm from the second
    found = spreads_of(masks, final)
    assert found.lesions[2].mean_ml == pytest.approx(1.5 * ML, abs=1e-4)
    assert found.lesions[1].mean_ml == pytest.approx(ML, abs=1e-4)


def test_what_lies_nearest_to_a_dropped_component_is_dropped_from_every_volume():
    both = two_lesions()
    final, dropped = both.copy(), np.zeros_like(both)
    final[..., 14:16], dropped[..., 14:16] = False, both[..., 14:16]
    masks = np.stack([both, both])
    masks[0, 1, 1, 13] = True
    found = spreads_of(masks, final, dropped=dropped)
    assert found.case == found.regions[1] == found.lesions[1] == spread(4, 4)


def test_between_a_lesion_and_a_dropped_component_the_lesion_has_it():
    final = np.zeros((1, 1, 9), dtype=bool)
    dropped = final.copy()
    final[..., 2], dropped[..., 6] = True, True
    masks = np.ones((2, 1, 1, 9), dtype=bool)
    assert spreads_of(masks, final, dropped=dropped).case.mean_ml == pytest.approx(5 * ML)
    assert spreads_of(masks, dropped, dropped=final).case.mean_ml == pytest.approx(5 * ML)


@pytest.mark.parametrize("axis", [0, 1, 2])
@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_flipped_case_has_the_same_volumes(axis, seed):
    draw = np.random.default_rng(seed)
    found = draw.random((4, 6, 6)) < 0.15
    final = found & (draw.random(found.shape) < 0.5)
    masks, dropped = draw.random((3, *found.shape)) < 0.4, found & ~final
    turned = spreads_of(np.flip(masks, axis + 1), np.flip(final, axis), dropped=np.flip(dropped, axis))
    assert turned.case == spreads_of(masks, final, dropped=dropped).case


def test_where_the_mean_sees_nothing_samples_still_count_for_region_and_case():
    masks = np.zeros((3, 2, 2, 2), dtype=bool)
    masks[0] = True
    found = spreads_of(masks, np.zeros((2, 2, 2), dtype=bool))
    assert dict(found.lesions) == {}
    assert found.case == found.regions[1] == spread(8, 0, 0)


def test_where_all_was_dropped_or_no_sample_calls_it_tumor_nothing_counts():
    dropped = np.zeros((1, 1, 9), dtype=bool)
    dropped[..., 3] = True
    found = spreads_of(np.ones((2, 1, 1, 9), dtype=bool), np.zeros_like(dropped), dropped=dropped)
    assert found.case.mean_ml == found.regions[1].p95_ml == 0
    found = spreads_of(np.zeros((2, 3, 3, 20), dtype=bool), two_lesions())
    assert found.case.p95_ml == found.lesions[1].mean_ml == 0


def test_without_regions_there_is_no_spread():
    final = np.zeros((2, 2, 2), dtype=bool)
    assert volume_spreads(label_lesions(final), final, sampled(shape=final.shape, boxes=[]), SPACING) is None


def test_where_regions_overlap_the_first_one_counts_and_lesions_join_both():
    shape, boxes = (1, 1, 10), [Box((0, 0, 0), (1, 1, 6)), Box((0, 0, 4), (1, 1, 10))]
    final = np.zeros(shape, dtype=bool)
    final[..., 3:8] = True
    first, second = (packed(np.stack([final[box.slices]] * 2), windows=n) for n, box in enumerate(boxes, start=1))
    found = volume_spreads(
        label_lesions(final), np.zeros_like(final), sampled(first, second, shape=shape, boxes=boxes), SPACING
    )
    assert found.regions[1] == spread(3, 3)
    assert found.regions[2] == spread(2, 2, windows=2)
    assert found.lesions[1] == found.case == spread(5, 5, windows=2)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_lesions_and_the_rest_share_the_case_without_remainder(seed, samples):
    draw = np.random.default_rng(seed)
    final = draw.random((3, 5, 6)) < 0.2
    masks = draw.random((samples, *final.shape)) < 0.4
    found = spreads_of(masks, final)
    assert found.case.mean_ml == pytest.approx(masks.sum((1, 2, 3)).mean() * ML, abs=1e-4)
    if final.any():
        assert sum(lesion.mean_ml for lesion in found.lesions.values()) == pytest.approx(found.case.mean_ml, abs=1e-2)
