import math
from dataclasses import fields

import numpy as np
import pytest

from nnunet_cascade.evaluation.case import CaseScore, score_case
from nnunet_cascade.evaluation.metric_info import in_order, is_uncertainty, metric_info, score_values


@pytest.fixture
def score(box_mask):
    return score_case(
        "a", box_mask((9, 9, 9), (1, 1, 1), (4, 4, 4)), box_mask((9, 9, 9), (1, 1, 1), (4, 4, 5)), (1, 1, 1)
    )


def test_every_number_of_a_score_is_there_by_name(score):
    values = score_values(score)
    numbers = {field.name for field in fields(CaseScore)} - {"case", "empty"}
    assert numbers | {"lesion_recall", "lesion_precision", "lesion_f1"} <= values.keys()
    assert values["dice"] == score.dice
    assert values["lesion_f1"] == score.lesion_f1
    assert all(isinstance(value, float) for value in values.values())


def test_every_number_of_a_score_has_a_label_and_a_definition(score):
    infos = [metric_info(name) for name in score_values(score)]
    assert [info.name for info in infos if not info.definition] == []
    assert len({info.heading for info in infos}) == len(infos)


@pytest.mark.parametrize(
    ("truth", "prediction", "flags"), [(0, 0, (0, 0, 1)), (1, 0, (1, 1, 0)), (0, 1, (1, 1, 0)), (1, 1, (0, 0, 0))]
)
def test_empty_masks_are_told_in_numbers(truth, prediction, flags):
    masks = [np.full((3, 3, 3), bool(value)) for value in (truth, prediction)]
    values = score_values(score_case("a", *masks, (1.0, 1.0, 1.0)))
    assert tuple(values[name] for name in ("zero_dice", "one_mask_empty", "both_masks_empty")) == flags
    assert math.isnan(values["dice"]) == bool(flags[2])


def test_the_size_of_the_volume_error_has_no_sign(box_mask):
    truth, prediction = box_mask((9, 9, 9), (1, 1, 1), (9, 9, 9)), box_mask((9, 9, 9), (1, 1, 1), (2, 2, 2))
    values = score_values(score_case("a", truth, prediction, (1.0, 1.0, 1.0)))
    assert values["volume_error_abs_ml"] == -values["volume_error_ml"] == pytest.approx(0.511)


def test_different_measures_of_uncertainty_are_different_metrics():
    names = ["mean_variance_in_tumor", "mean_predictive_entropy_in_tumor", "mean_mutual_information_in_rois"]
    assert all(map(is_uncertainty, names))
    assert not is_uncertainty("mean_dice")
    assert len({metric_info(name).label for name in names}) == 3


def test_a_metric_that_nobody_has_heard_of_is_called_by_its_name_and_stands_last():
    info = metric_info("bending_energy_mm")
    assert (info.heading, info.goal) == ("bending energy, mm", "none")
    assert in_order({"half", "dice", "bending_energy_mm"}) == ("dice", "bending_energy_mm", "half")
