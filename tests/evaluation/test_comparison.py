import json
import math

import pytest

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation.comparison import ComparisonSettings, compare
from nnunet_cascade.evaluation.statistics.bootstrap import Resampling
from nnunet_cascade.evaluation.tables import comparison_page, overview_table

SETTINGS = ComparisonSettings(resampling=Resampling(resamples=200))


def case(dice, hd95_mm=5.0, components=1.0, **more):
    return {"dice": dice, "hd95_mm": hd95_mm, "predicted_components": components, **more}


@pytest.fixture
def values():
    """A stage 1 that finds the more false ones the worse it is, and a cascade that finds one each."""
    coarse, cascade = {}, {}
    for number in range(8):
        volumes = {"reference_ml": 10.0 + number, "lesions": 1.0 + number % 3, "lesions_found": 1.0}
        lost = 0.05 * number
        spread = {"lesion_spread_mm": [0.0, 30.0, 80.0][number % 3]}
        of_case = {**volumes, **spread, "predicted_ml": 14.0, "mean_variance_in_tumor": 0.1}
        coarse[f"c{number}"] = case(0.8 - lost, 5.0 + 10 * number, 1.0 + number, **of_case)
        of_case |= {"predicted_ml": 10.5 + number, "mean_variance_in_tumor": 0.1 - 0.01 * number}
        cascade[f"c{number}"] = case(0.8, 5.0, 1.0, **of_case)
    return {"stage 1": coarse, "cascade": cascade}


def test_the_first_method_is_the_reference_unless_another_is_named(values):
    assert compare(values, SETTINGS).reference == "stage 1"
    found = compare(values, ComparisonSettings(reference="cascade", resampling=SETTINGS.resampling))
    assert list(found.contrasts) == ["stage 1"]
    assert found.contrasts["stage 1"].paired["dice"].mean.value == pytest.approx(-0.175)


def test_differences_are_the_methods_value_less_the_references(values):
    paired = compare(values, SETTINGS).contrasts["cascade"].paired
    assert paired["dice"].mean.value == pytest.approx(0.175)
    assert paired["hd95_mm"].mean.value == pytest.approx(-35.0)
    assert (paired["dice"].rises, paired["dice"].ranks.zeros) == (7, 1)


def test_what_is_true_of_the_case_is_not_compared_between_methods(values):
    paired = compare(values, SETTINGS).contrasts["cascade"].paired
    assert not {"lesions", "reference_ml", "lesion_spread_mm"} & paired.keys()


def test_fewer_components_go_with_gains_by_a_positive_coefficient(values):
    found = compare(values, SETTINGS).contrasts["cascade"].correlations
    assert set(found) == {"gain in dice", "gain in hd95_mm", "drop in mean_variance_in_tumor"}
    for correlation in found.values():
        assert correlation.n == 8
        assert correlation.pearson.value == pytest.approx(1.0)


def test_a_case_that_one_method_lacks_is_named_and_left_out_of_the_pairs(values):
    del values["cascade"]["c3"]
    found = compare(values, SETTINGS, expected=[*values["stage 1"], "never predicted"])
    assert found.methods["cascade"].missing == ("c3", "never predicted")
    assert found.methods["stage 1"].missing == ("never predicted",)
    assert len(found.contrasts["cascade"].common_cases) == found.contrasts["cascade"].paired["dice"].n == 7
    assert found.methods["stage 1"].metrics["dice"].n == 8


def test_undefined_values_are_counted_in_every_table(values):
    values["cascade"]["c0"]["dice"] = math.nan
    found = compare(values, SETTINGS)
    assert (found.methods["cascade"].metrics["dice"].n, found.methods["cascade"].metrics["dice"].undefined) == (7, 1)
    assert (found.contrasts["cascade"].paired["dice"].n, found.contrasts["cascade"].paired["dice"].undefined) == (7, 1)
    assert "0.800 = (n 7)" in overview_table(found)


def test_p_is_corrected_for_the_number_of_methods(values):
    values["again"] = values["cascade"]
    paired = [contrast.paired["dice"] for contrast in compare(values, SETTINGS).contrasts.values()]
    assert [one.p_holm for one in paired] == pytest.approx([2 * one.ranks.p for one in paired])


@pytest.mark.parametrize(
    ("by", "known"),
    [
        ("lesions", {"1": 3, "2": 3, "3 or more": 2}),
        ("predicted_components", {"1": 1, "2": 1, "3 or more": 6}),
        ("lesion_spread_mm", {"one lesion": 3, "up to 50 mm": 3, "to 100 mm": 2}),
    ],
)
def test_groups_hold_each_case_once(values, by, known):
    groups = compare(values, SETTINGS).methods["stage 1"].groups[by]
    assert {group.name: len(group.cases) for group in groups} == known
    assert sorted(case for group in groups for case in group.cases) == sorted(values["stage 1"])


def test_cases_without_a_lesion_or_with_far_ones_have_groups_of_their_own(values):
    values["stage 1"]["c0"].update(lesions=0.0, lesion_spread_mm=math.nan)
    values["stage 1"]["c1"].update(lesions=math.nan, lesion_spread_mm=100.1)
    groups = compare(values, SETTINGS).methods["stage 1"].groups
    assert [group.name for group in groups["lesions"]] == ["0", "1", "2", "3 or more", "unknown"]
    assert [groups["lesion_spread_mm"][place].name for place in (0, -1)] == ["no lesion", "above 100 mm"]


def test_pooled_recall_counts_lesions_and_volumes_are_compared(values):
    found = compare(values, SETTINGS).methods["cascade"]
    assert found.pooled["lesion_recall"].value == pytest.approx(8 / 15)
    assert "lesion_precision" not in found.pooled
    assert found.agreement.absolute.bias == pytest.approx(0.5)
    # variance of 0 … 7 is 5.25: 2·5.25 / (5.25 + 5.25 + 0.5²)
    assert found.agreement.concordance.value == pytest.approx(10.5 / 10.75)


def test_all_of_it_is_json_with_null_for_what_is_undefined(values):
    values["cascade"]["c0"]["dice"] = math.nan
    content = json.dumps(compare(values, SETTINGS).to_json(), allow_nan=False)
    assert json.loads(content)["contrasts"]["cascade"]["paired"]["dice"]["n"] == 7
    assert compare({"a": {}, "b": {}}, SETTINGS).to_json()["methods"]["a"]["metrics"] == {}


@pytest.mark.parametrize("count", [1, 2])
def test_so_few_cases_have_figures_without_intervals(values, count):
    few = {method: dict(list(cases.items())[:count]) for method, cases in values.items()}
    found = compare(few, SETTINGS)
    assert found.methods["cascade"].metrics["dice"].mean.percentile is None
    assert "| cascade | " in comparison_page(found)


def test_a_cohort_of_empty_masks_alone_has_a_page():
    nothing = dict.fromkeys("xy", case(math.nan, math.nan, 0.0, reference_ml=0.0, predicted_ml=0.0))
    assert "| a | 2 | – (n 0) | reference |" in comparison_page(compare({"a": nothing, "b": nothing}, SETTINGS))


def test_a_metric_that_one_method_lacks_is_a_dash():
    page = comparison_page(compare({"a": {"x": {"dice": 0.5}}, "b": {"x": {"lesions": 1.0}}}, SETTINGS))
    assert "| b | 1 | – | – |" in page


def test_no_method_and_an_unknown_reference_are_refused(values):
    with pytest.raises(SettingsError, match="found no method"):
        compare({}, SETTINGS)
    with pytest.raises(SettingsError, match="expected one of stage 1, cascade"):
        compare(values, ComparisonSettings(reference="baseline"))


class TestTables:
    def test_every_line_of_a_table_has_as_many_columns(self, values):
        values["a|b"] = values["cascade"]
        tables = [part for part in comparison_page(compare(values, SETTINGS)).split("\n\n") if part.startswith("|")]
        assert len(tables) == 1 + 3 + 2 * 2 + 1 + 3
        for table in tables:
            assert len({line.replace("\\|", "").count("|") for line in table.splitlines()}) == 1

    def test_better_and_worse_follow_from_which_way_is_better(self, values):
        page = comparison_page(compare(values, SETTINGS))
        rows = page[page.index("## cascade less stage 1, on 8 common cases") :].splitlines()
        assert next(row for row in rows if row.startswith("| Dice ↑")).split(" | ")[4] == "7 / 0 / 1"
        assert next(row for row in rows if row.startswith("| HD95, mm ↓")).split(" | ")[4] == "7 / 0 / 1"
        assert next(row for row in rows if row.startswith("| components")).split(" | ")[4] == "0 up, 7 down, 1 equal"

    def test_published_figures_stand_beside_ours(self, values):
        found = compare(values, SETTINGS)
        table = overview_table(found, metrics=["dice"], published={"cascade": {"dice": 0.6447}})
        interval = found.methods["stage 1"].metrics["dice"].mean.bca
        assert f"0.625 [{interval.low:.3f}, {interval.high:.3f}]" in table
        assert table.splitlines()[0] == "| Method | n | Dice ↑ | Dice, published | Δ Dice; p |"
        assert table.splitlines()[2].split(" | ")[3] == "–"
        assert table.splitlines()[3].split(" | ")[3] == "0.645"

    def test_the_page_names_seed_resamples_and_every_definition(self, values):
        page = comparison_page(compare(values, SETTINGS))
        sources = ("Holm 1979", "Lin 1989", "Bland and Altman 1999")
        for words in ("seed 12345", "200 resamples", *sources, "zero are dropped", "No case is dropped"):
            assert words in page

    @pytest.mark.parametrize(("count", "said"), [(2, "no interval below 3 cases"), (8, "the interval is too narrow")])
    def test_few_cases_are_said_under_the_first_table(self, values, count, said):
        few = {method: dict(list(cases.items())[:count]) for method, cases in values.items()}
        table = overview_table(compare(few, SETTINGS))
        assert f"n = {count}: " in table
        assert said in table

    def test_missing_uncertainty_is_said(self, values):
        for of_case in values["stage 1"].values():
            del of_case["mean_variance_in_tumor"]
        assert "recorded none of the same measure for both" in comparison_page(compare(values, SETTINGS))

    def test_a_difference_shows_its_n_where_the_pairs_are_fewer(self, values):
        del values["stage 1"]["c7"]
        assert "(n 7); " in overview_table(compare(values, SETTINGS))
