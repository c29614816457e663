import math
from dataclasses import astuple

import numpy as np
import pytest
from evaluation_strategies import SPACINGS_MM, mask_pairs
from hypothesis import given, settings

from nnunet_cascade.errors import GridMismatchError, SettingsError
from nnunet_cascade.evaluation.case import score_case


def test_a_case_is_scored_in_millimetres_and_millilitres(box_mask):
    shape = (4, 10, 20)
    truth = box_mask(shape, (1, 2, 2), (3, 6, 6)) | box_mask(shape, (0, 8, 18), (1, 9, 19))
    prediction = box_mask(shape, (1, 2, 2), (3, 6, 6)) | box_mask(shape, (3, 0, 10), (4, 2, 12))
    score = score_case("LUNG1-001", truth, prediction, (5.0, 2.0, 1.0))
    # truth 32 + 1 voxels, prediction 32 + 4, of 10 mm³ each; 32 in common
    assert score.dice == pytest.approx(64 / 69)
    assert (score.reference_ml, score.predicted_ml) == pytest.approx((0.33, 0.36))
    assert (score.lesions, score.lesions_found) == (2, 1)
    assert (score.false_positive_components, score.false_positive_ml) == (1, pytest.approx(0.04))
    assert score.empty == "none"
    assert {type(value) for value in astuple(score)} == {str, int, float}


@pytest.mark.parametrize(
    ("truth", "prediction", "empty", "measures"),
    [
        ("...", "...", "both", (math.nan, math.nan)),
        ("#..", "...", "prediction", (0.0, math.sqrt(1 + 1 + 9))),
        ("...", "#..", "truth", (0.0, math.sqrt(1 + 1 + 9))),
        ("#..", "#..", "none", (1.0, 0.0)),
    ],
)
def test_empty_masks_are_named_and_scored_by_one_policy(truth, prediction, empty, measures, drawn_mask):
    score = score_case("a", drawn_mask(truth), drawn_mask(prediction), (1.0, 1.0, 1.0))
    assert score.empty == empty
    assert (score.dice, score.hd95_mm) == pytest.approx(measures, nan_ok=True)


def test_the_least_overlap_reaches_the_lesions(drawn_mask):
    truth, prediction = drawn_mask("##."), drawn_mask("#..")
    assert score_case("a", truth, prediction, (1.0, 1.0, 1.0), min_overlap_voxels=2).lesions_found == 0


def test_a_prediction_on_another_grid_is_refused(drawn_mask):
    with pytest.raises(GridMismatchError, match="resample"):
        score_case("a", drawn_mask("##."), drawn_mask("##"), (1.0, 1.0, 1.0))


def test_the_masks_are_left_unchanged(box_mask):
    truth, prediction = box_mask((4, 4, 4), (0, 0, 0), (2, 2, 2)), box_mask((4, 4, 4), (1, 1, 1), (4, 4, 4))
    for mask in (truth, prediction):
        mask.setflags(write=False)
    score_case("a", truth, prediction, (1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    "changes",
    [
        {"case": ""},
        {"dice": math.nan},
        {"dice": 1.5},
        {"hd95_mm": -1.0},
        {"hd95_mm": math.nan},
        {"empty": "both"},
        {"lesions_found": 2},
        {"false_positive_components": -1},
        {"false_positive_ml": 20.0},
        {"reference_ml": -1.0},
    ],
)
def test_an_impossible_score_is_refused(changes, case_score):
    with pytest.raises(SettingsError, match="expected"):
        case_score(**changes)


@settings(deadline=None)
@given(mask_pairs(), SPACINGS_MM)
def test_every_pair_of_masks_has_a_score(pair, spacing_mm):
    score = score_case("a", *pair, spacing_mm)
    assert math.isnan(score.dice) == math.isnan(score.hd95_mm) == (score.empty == "both")
    assert np.isfinite([score.reference_ml, score.predicted_ml, score.false_positive_ml]).all()


@settings(deadline=None)
@given(mask_pairs())
def test_finer_voxels_of_the_same_count_hold_less(pair):
    coarse, fine = (score_case("a", *pair, (size, size, size)) for size in (2.0, 1.0))
    assert coarse.reference_ml == pytest.approx(8 * fine.reference_ml)
    assert coarse.hd95_mm == pytest.approx(2 * fine.hd95_mm, nan_ok=True)
