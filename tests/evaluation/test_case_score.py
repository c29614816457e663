import math
from dataclasses import astuple, fields

import numpy as np
import pytest
from builders.evaluation_strategies import SPACINGS_MM, mask_pairs
from hypothesis import given, settings

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation.case import DERIVED, CaseScore, score_case
from nnunet_cascade.evaluation.definitions import DEFINITIONS


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
    # centroids (1.5, 3.5, 3.5) and (0, 8, 18), (3, 0.5, 10.5), in voxels of 5 × 2 × 1 mm
    assert score.volume_error_ml == pytest.approx(0.03)
    assert (score.predicted_components, score.predicted_components_true) == (2, 1)
    assert score.lesion_spread_mm == pytest.approx(math.hypot(7.5, 9, 14.5))
    assert score.predicted_spread_mm == pytest.approx(math.hypot(7.5, 6, 7))
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
    overlaps = (score.dice, score.nsd_1mm, score.nsd_2mm, score.nsd_3mm, score.lesion_f1)
    distances_mm = (score.hd95_mm, score.hd95_pooled_mm, score.hd_mm, score.assd_mm)
    assert overlaps == pytest.approx([measures[0]] * 5, nan_ok=True)
    assert distances_mm == pytest.approx([measures[1]] * 4, nan_ok=True)


def test_a_small_image_with_one_mask_empty_has_no_surface_within_any_tolerance(drawn_mask):
    score = score_case("a", drawn_mask("#"), drawn_mask("."), (0.5, 0.5, 0.5))
    assert (score.hd_mm < 1, score.nsd_3mm) == (True, 0.0)


@pytest.mark.parametrize(
    ("truth", "prediction", "recall", "precision", "f1"),
    [
        ("#.#.#", "#....", 1 / 3, 1.0, 0.5),
        ("#....", "#.#.#", 1.0, 1 / 3, 0.5),
        ("#....", "..#..", 0.0, 0.0, 0.0),
        ("#....", ".....", 0.0, math.nan, 0.0),
        (".....", "#....", math.nan, 0.0, 0.0),
        (".....", ".....", math.nan, math.nan, math.nan),
    ],
)
def test_recall_is_of_lesions_and_precision_of_predicted_components(
    truth, prediction, recall, precision, f1, drawn_mask
):
    score = score_case("a", drawn_mask(truth), drawn_mask(prediction), (1.0, 1.0, 1.0))
    found = (score.lesion_recall, score.lesion_precision, score.lesion_f1)
    assert found == pytest.approx((recall, precision, f1), nan_ok=True)


def test_a_record_names_every_field_and_every_derived_figure(case_score):
    record = case_score().record()
    assert record.keys() == {field.name for field in fields(CaseScore)} | set(DERIVED)
    assert record["lesion_f1"] == 1.0


def test_every_measure_has_a_definition_and_every_definition_a_measure():
    names = {field.name for field in fields(CaseScore)}
    assert DEFINITIONS.keys() <= names
    assert {name for name in names if name.startswith(("dice", "hd", "assd", "nsd"))} <= DEFINITIONS.keys()


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
        {"empty": "both", "dice": 0.5},
        {"lesions_found": 2},
        {"false_positive_components": -1},
        {"false_positive_ml": 20.0},
        {"false_positive_components": 1},
        {"predicted_components_true": 2, "false_positive_components": -1},
        {"reference_ml": -1.0},
        {"volume_error_ml": -2.0},
        {"nsd_2mm": 1.1},
        {"nsd_3mm": math.nan},
        {"assd_mm": math.nan},
        {"hd_mm": -0.1},
        {"lesion_spread_mm": math.nan},
        {"predicted_spread_mm": -1.0},
        {"lesions": 0, "lesions_found": 0},
    ],
)
def test_an_impossible_score_is_refused(changes, case_score):
    with pytest.raises(SettingsError, match="expected"):
        case_score(**changes)


@settings(deadline=None, max_examples=50)
@given(mask_pairs(), SPACINGS_MM)
def test_every_pair_of_masks_has_a_score(pair, spacing_mm):
    score = score_case("a", *pair, spacing_mm)
    assert math.isnan(score.dice) == math.isnan(score.hd95_mm) == (score.empty == "both")
    assert np.isfinite([score.reference_ml, score.predicted_ml, score.false_positive_ml]).all()
    assert math.isnan(score.dice) or score.nsd_1mm <= score.nsd_2mm <= score.nsd_3mm
    assert math.isnan(score.dice) or score.assd_mm <= score.hd_mm + 1e-9
    assert math.isnan(score.dice) or max(score.hd95_mm, score.hd95_pooled_mm) <= score.hd_mm + 1e-9


@settings(deadline=None, max_examples=50)
@given(mask_pairs(), SPACINGS_MM)
def test_exchanging_truth_and_prediction_exchanges_what_belongs_to_them(pair, spacing_mm):
    one, other = score_case("a", *pair, spacing_mm), score_case("a", *pair[::-1], spacing_mm)
    same = ("dice", "hd95_mm", "hd95_pooled_mm", "hd_mm", "assd_mm", "nsd_1mm", "nsd_2mm", "nsd_3mm", "lesion_f1")
    for name in same:
        assert getattr(one, name) == pytest.approx(getattr(other, name), nan_ok=True)
    assert one.volume_error_ml == -other.volume_error_ml
    assert (one.lesions_found, one.lesions) == (other.predicted_components_true, other.predicted_components)
    assert one.lesion_spread_mm == pytest.approx(other.predicted_spread_mm, nan_ok=True)


@settings(deadline=None, max_examples=50)
@given(mask_pairs())
def test_finer_voxels_of_the_same_count_hold_less(pair):
    coarse, fine = (score_case("a", *pair, (size, size, size)) for size in (2.0, 1.0))
    assert coarse.reference_ml == pytest.approx(8 * fine.reference_ml)
    assert coarse.hd95_mm == pytest.approx(2 * fine.hd95_mm, nan_ok=True)
