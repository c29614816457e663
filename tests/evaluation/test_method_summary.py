import math
from dataclasses import replace

import pytest

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation.summary import format_table, summarize
from nnunet_cascade.evaluation.surface import HD95_DEFINITION


@pytest.fixture
def scores(case_score):
    return [
        case_score(case="a", dice=0.8, hd95_mm=4.0, lesions=3, lesions_found=2),
        case_score(case="b", dice=0.7, hd95_mm=6.0, false_positive_components=4, false_positive_ml=2.0),
        case_score(case="c", empty="prediction", dice=0.0, hd95_mm=500.0, lesions_found=0, predicted_ml=0.0),
        case_score(case="d", empty="both", dice=math.nan, hd95_mm=math.nan, lesions=0, lesions_found=0),
    ]


def test_undefined_cases_are_counted_and_left_out_of_the_means(scores):
    summary = summarize("cascade", scores)
    assert (summary.cases, summary.defined_cases, summary.undefined_cases) == (4, 3, 1)
    assert summary.dice_mean == pytest.approx(1.5 / 3)


def test_a_missed_case_weighs_on_every_mean(scores):
    summary = summarize("cascade", scores)
    assert summary.one_empty_cases == 1
    assert (summary.hd95_mean_mm, summary.hd95_median_mm) == pytest.approx((170.0, 6.0))


def test_recall_counts_every_lesion_once_whatever_its_case(scores):
    summary = summarize("cascade", scores)
    assert (summary.lesions_found, summary.lesions) == (3, 5)
    assert summary.lesion_recall == pytest.approx(0.6)


def test_false_positives_are_counted_per_case_over_all_cases(scores):
    summary = summarize("cascade", scores)
    assert (summary.false_positive_components, summary.false_positive_ml) == (4, 2.0)
    assert summary.false_positives_per_case == pytest.approx(1.0)


def test_the_order_of_cases_changes_nothing(scores):
    assert summarize("cascade", scores[::-1]) == summarize("cascade", scores)


def test_cases_without_anything_have_no_means_and_no_recall(scores):
    summary = summarize("cascade", scores[3:])
    assert all(map(math.isnan, (summary.dice_mean, summary.hd95_mean_mm, summary.lesion_recall)))


def test_no_case_is_no_summary():
    with pytest.raises(SettingsError, match="found no case"):
        summarize("cascade", [])


def test_a_case_scored_twice_is_refused(scores):
    with pytest.raises(SettingsError, match="cases scored twice: a"):
        summarize("cascade", [*scores, scores[0]])


@pytest.mark.parametrize("changes", [{"undefined_cases": 4}, {"undefined_cases": -1}, {"lesions_found": 6}])
def test_counts_of_more_than_there_is_are_refused(changes, scores):
    with pytest.raises(SettingsError):
        replace(summarize("cascade", scores), **changes)


def test_the_table_names_its_n_and_its_definitions(scores):
    table = format_table([summarize("cascade", scores), summarize("a|b", scores[3:])])
    assert table.splitlines()[2:4] == [
        "| cascade | 4 | 0.500 (3) | 170.0 (3) | 6.0 | 1 | 0.600 (3/5) | 4 | 1.00 |",
        "| a\\|b | 1 | – (0) | – (0) | – | 0 | – (0/0) | 0 | 0.00 |",
    ]
    assert HD95_DEFINITION in table
    assert "No case is dropped" in table


def test_every_line_of_the_table_has_as_many_columns(scores):
    lines = [line for line in format_table([summarize("cascade", scores)]).splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
