from dataclasses import astuple

import numpy as np
import pytest
from builders.evaluation_strategies import mask_pairs
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from nnunet_cascade.evaluation.lesions import count_lesions


@pytest.mark.parametrize(
    ("truth", "prediction", "expected"),
    [
        ("##..", "##..", (1, 1, 1, 1, 0)),
        ("##..", ".#..", (1, 1, 1, 1, 0)),  # one voxel of it is enough
        ("##..", "...#", (1, 0, 1, 0, 1)),  # beside it is not
        ("##.#", "####", (2, 2, 1, 1, 0)),  # one component may find two
        ("##.#", "##..", (2, 1, 1, 1, 0)),
        ("#...", "#.##", (1, 1, 2, 1, 2)),
        ("####", "#.#.", (1, 1, 2, 2, 0)),  # two pieces on one lesion are no false positives
        ("....", "#.##", (0, 0, 2, 0, 3)),
        ("#.#.", "....", (2, 0, 0, 0, 0)),
        ("....", "....", (0, 0, 0, 0, 0)),
    ],
)
def test_lesions_and_islands_are_counted(truth, prediction, expected, drawn_mask):
    counts = count_lesions(drawn_mask(truth), drawn_mask(prediction))
    # lesions, found, predicted components, those with truth, voxels of those without
    assert astuple(counts) == expected
    assert counts.false_positive_components == expected[2] - expected[3]


@given(mask_pairs(max_side=9))
def test_components_are_those_that_scipy_labels(pair):
    mask, _ = pair
    assert count_lesions(mask, mask).lesions == ndimage.label(mask, np.ones((3, 3, 3)))[1]


@pytest.mark.parametrize(("shape", "step", "lesions"), [((5, 65, 65), 2, 3 * 33 * 33), ((2, 2, 2), None, 1)])
def test_isolated_voxels_are_a_lesion_each_and_voxels_that_share_a_corner_one(shape, step, lesions):
    mask = np.zeros(shape, dtype=bool)
    if step is None:
        mask[0, 0, 0] = mask[1, 1, 1] = True
    else:
        mask[::step, ::step, ::step] = True
    assert count_lesions(mask, mask).lesions == lesions


@settings(deadline=None, max_examples=50)
@given(mask_pairs())
def test_a_perfect_prediction_finds_every_lesion_and_nothing_else(pair):
    truth, _ = pair
    counts = count_lesions(truth, truth)
    assert (counts.found, counts.false_positive_components) == (counts.lesions, 0)


@settings(deadline=None, max_examples=50)
@given(mask_pairs(), st.permutations([0, 1, 2]), st.tuples(*[st.booleans()] * 3))
def test_turning_and_flipping_the_patient_changes_no_count(pair, order, flips):
    turned = [np.flip(mask.transpose(order), [axis for axis in range(3) if flips[axis]]) for mask in pair]
    assert count_lesions(*turned) == count_lesions(*pair)


@settings(deadline=None, max_examples=50)
@given(mask_pairs())
def test_predicting_more_loses_no_lesion(pair):
    truth, prediction = pair
    assert count_lesions(truth, prediction | truth[::-1]).found >= count_lesions(truth, prediction).found
