import math

import pytest

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation.lesions import LESION_DEFINITION
from nnunet_cascade.evaluation.summary import format_table, summarize
from nnunet_cascade.evaluation.surface import ASSD_DEFINITION, HD95_DEFINITION, NSD_DEFINITION


@pytest.fixture
def scores(case_score):
    missed = {
        "empty": "prediction",
        "dice": 0.0,
        **dict.fromkeys(("hd95_mm", "hd95_pooled_mm", "hd_mm", "assd_mm"), 500.0),
        **dict.fromkeys(("nsd_1mm", "nsd_2mm", "nsd_3mm", "predicted_ml"), 0.0),
        **dict.fromkeys(("lesions_found", "predicted_components", "predicted_components_true"), 0),
        "volume_error_ml": -10.0,
        "predicted_spread_mm": math.nan,
    }
    false = {"predicted_components": 5, "false_positive_components": 4, "false_positive_ml": 2.0}
    return [
        case_score(case="a", dice=0.8, hd95_mm=4.0, lesions=3, lesions_found=2),
        case_score(case="b", dice=0.7, hd95_mm=6.0, **false),
        case_score(case="c", **missed),
        case_score(case="d", empty="both"),
    ]


def test_undefined_cases_are_counted_and_left_out_of_the_means(scores):
    summary = summarize("cascade", scores)
    assert (summary["cases"], summary["defined_cases"], summary["undefined_cases"]) == (4, 3, 1)
    assert summary["dice_mean"] == pytest.approx(1.5 / 3)


def test_a_missed_case_weighs_on_every_mean(scores):
    summary = summarize("cascade", scores)
    assert summary["one_empty_cases"] == 1
    assert (summary["hd95_mean_mm"], summary["hd95_median_mm"]) == pytest.approx((170.0, 6.0))


def test_every_mean_is_that_of_its_own_figure(case_score):
    names = ("dice", "hd95_mm", "hd95_pooled_mm", "hd_mm", "assd_mm", "nsd_1mm", "nsd_2mm", "nsd_3mm")
    values = {name: (place + 1) / 10 for place, name in enumerate(names)}
    summary = summarize("cascade", [case_score(case="a", **values)])
    means = (
        *(summary["dice_mean"], summary["hd95_mean_mm"], summary["hd95_pooled_mean_mm"], summary["hd_mean_mm"]),
        *(summary["assd_mean_mm"], summary["nsd_1mm_mean"], summary["nsd_2mm_mean"], summary["nsd_3mm_mean"]),
    )
    assert means == tuple(values.values())


def test_a_dice_of_zero_counts_whether_a_mask_is_empty_or_not(scores, case_score):
    beside = case_score(case="e", dice=0.0)
    assert summarize("cascade", scores)["zero_dice_cases"] == 1
    assert summarize("cascade", [*scores, beside])["zero_dice_cases"] == 2


def test_volume_errors_of_both_signs_do_not_cancel_in_their_size(scores):
    summary = summarize("cascade", scores)  # 2, 2, −10 and 0 ml
    assert (summary["volume_error_mean_ml"], summary["volume_error_mean_absolute_ml"]) == (-1.5, 3.5)


def test_precision_counts_every_component_once_whatever_its_case(scores):
    summary = summarize("cascade", scores)
    assert (summary["predicted_components_true"], summary["predicted_components"]) == (2, 6)
    assert summary["lesion_precision"] == pytest.approx(1 / 3)
    assert summary["lesion_f1"] == pytest.approx(2 * 0.6 / 3 / (0.6 + 1 / 3))


def test_recall_counts_every_lesion_once_whatever_its_case(scores):
    summary = summarize("cascade", scores)
    assert (summary["lesions_found"], summary["lesions"]) == (3, 5)
    assert summary["lesion_recall"] == pytest.approx(0.6)


def test_false_positives_are_counted_per_case_over_all_cases(scores):
    summary = summarize("cascade", scores)
    assert (summary["false_positive_components"], summary["false_positive_ml"]) == (4, 2.0)
    assert summary["false_positives_per_case"] == pytest.approx(1.0)


def test_the_order_of_cases_changes_nothing(scores):
    assert summarize("cascade", scores[::-1]) == summarize("cascade", scores)


def test_cases_without_anything_have_no_means_and_no_recall(scores):
    summary = summarize("cascade", scores[3:])
    assert all(map(math.isnan, (summary["dice_mean"], summary["hd95_mean_mm"], summary["nsd_2mm_mean"])))
    assert all(map(math.isnan, (summary["lesion_recall"], summary["lesion_precision"], summary["lesion_f1"])))


def test_no_case_and_a_case_scored_twice_are_refused(scores):
    for cases, message in (([], "found no case"), ([*scores, scores[0]], "cases scored twice: a")):
        with pytest.raises(SettingsError, match=message):
            summarize("cascade", cases)


def test_the_table_names_its_n_and_its_definitions(scores):
    table = format_table([summarize("all", scores), summarize("a|b", scores[3:])])
    assert table.splitlines()[2:4] == [
        "| all | 4 | 0.500 (3) | 1 | 170.0 (3) | 6.0 | 167.3 | 0.400 | 0.467 | -1.5 | 1 | 0.600 (3/5) | 0.333 (2/6) | 0.429 | 4 | 1.00 |",  # noqa: E501 - a line of the table
        "| a\\|b | 1 | – (0) | 0 | – (0) | – | – | – | – | 0.0 | 0 | – (0/0) | – (0/0) | – | 0 | 0.00 |",
    ]
    assert all(words in table for words in (HD95_DEFINITION, ASSD_DEFINITION, NSD_DEFINITION, LESION_DEFINITION))
    assert "No case is dropped" in table


def test_every_line_of_the_table_has_as_many_columns(scores):
    lines = [line for line in format_table([summarize("cascade", scores)]).splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
