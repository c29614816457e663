import math

import pytest

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation.definitions import DEFINITIONS, NSD_DEFINITION
from nnunet_cascade.evaluation.summary import format_table, summarize


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


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("undefined cases are counted", {"cases": 4, "defined_cases": 3, "undefined_cases": 1}),
        ("and left out of the means", {"dice_mean": 1.5 / 3}),
        ("a missed case weighs on every mean", {"one_empty_cases": 1, "hd95_mean_mm": 170.0, "hd95_median_mm": 6.0}),
        # 2, 2, −10 and 0 ml
        ("errors do not cancel in their size", {"volume_error_mean_ml": -1.5, "volume_error_mean_absolute_ml": 3.5}),
        ("every lesion counts once", {"lesions_found": 3, "lesions": 5, "lesion_recall": 0.6}),
        (
            "every component, too",
            {"predicted_components_true": 2, "predicted_components": 6, "lesion_precision": 1 / 3},
        ),
        ("F1 is their harmonic mean", {"lesion_f1": 2 * 0.6 / 3 / (0.6 + 1 / 3)}),
        ("false positives are those of all cases", {"false_positive_components": 4, "false_positive_ml": 2.0}),
        ("and are divided by all cases", {"false_positives_per_case": 1.0}),
    ],
)
def test_a_summary_has_its_rules(scores, rule, expected):
    summary = summarize("cascade", scores)
    assert {name: summary[name] for name in expected} == pytest.approx(expected), rule


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
    told = [DEFINITIONS[name] for name in ("hd95_mm", "assd_mm", "lesions", "empty")]
    assert all(words in table for words in (*told, NSD_DEFINITION))
    assert len({line.count("|") for line in table.replace("\\|", "").splitlines() if line.startswith("|")}) == 1
