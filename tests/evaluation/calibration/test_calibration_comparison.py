"""Methods side by side: paired draws, cases that are missing, cases without a voxel."""

import math

import numpy as np
import pytest

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation.calibration.comparison import calibration_table, compare_methods
from nnunet_cascade.evaluation.calibration.counts import added
from nnunet_cascade.evaluation.calibration.figures import MEASURES, figures_of
from nnunet_cascade.evaluation.statistics.bootstrap import Resampling

FEW_DRAWS = Resampling(resamples=200)


@pytest.fixture
def methods(counted):
    """A well-calibrated and an overconfident method on the same voxels of six cases."""
    return {
        name: {f"case {k}": counted(1000 + 500 * k, sharpness=sharpness, seed=k) for k in range(6)}
        for name, sharpness in (("good", 1.0), ("overconfident", 2.0))
    }


def test_figures_are_those_of_cases_and_of_all_their_voxels(methods):
    found = compare_methods(methods, resampling=FEW_DRAWS)
    for name, cases in methods.items():
        each, pooled = [figures_of(counts) for counts in cases.values()], figures_of(added(cases.values()))
        for measure in MEASURES:
            row = found.row(name, measure)
            assert row.per_case.value == pytest.approx(np.mean([getattr(figures, measure) for figures in each]))
            assert row.pooled.value == pytest.approx(getattr(pooled, measure))
            assert row.per_case.interval.low <= row.per_case.value <= row.per_case.interval.high
    assert found.row("good", "nll").pooled_difference is None


def test_intervals_equal_a_loop_over_the_draws(methods):
    found = compare_methods(methods, resampling=FEW_DRAWS).row("overconfident", "nll")
    drawn = np.random.default_rng(FEW_DRAWS.seed).integers(0, 6, (200, 6))

    def pooled(name, draw):
        return figures_of(added(methods[name][f"case {k}"] for k in draw)).nll

    differences = [pooled("overconfident", draw) - pooled("good", draw) for draw in drawn]
    assert found.pooled_difference.interval.low == pytest.approx(np.percentile(differences, 2.5))
    assert found.pooled_difference.interval.high == pytest.approx(np.percentile(differences, 97.5))
    each = {name: np.array([figures_of(counts).nll for counts in cases.values()]) for name, cases in methods.items()}
    differences = [(each["overconfident"] - each["good"])[draw].mean() for draw in drawn]
    assert found.per_case_difference.interval.low == pytest.approx(np.percentile(differences, 2.5))


def test_the_baseline_may_be_any_method_and_cases_that_one_lacks_are_named(methods):
    del methods["good"]["case 2"]
    found = compare_methods(methods, baseline="overconfident", resampling=FEW_DRAWS)
    assert found.row("good", "nll").pooled_difference.interval.high < 0
    assert found.row("overconfident", "nll").pooled_difference is None
    assert found.left_out == {"good": (), "overconfident": ("case 2",)}
    assert "case 2" not in found.cases


def test_a_case_without_a_voxel_counts_in_no_figure(methods):
    plain = compare_methods(methods, resampling=FEW_DRAWS)
    for cases in methods.values():
        cases["empty"] = added([])
    found = compare_methods(methods, resampling=FEW_DRAWS)
    for name in methods:
        assert found.row(name, "ece").per_case.cases == 6
        assert found.row(name, "ece").per_case.value == pytest.approx(plain.row(name, "ece").per_case.value)
        assert found.row(name, "ece").pooled.value == pytest.approx(plain.row(name, "ece").pooled.value)
    alone = compare_methods({"none": {"empty": added([])}}, resampling=FEW_DRAWS)
    assert math.isnan(alone.row("none", "nll").per_case.value)
    assert "–" in calibration_table(alone)


def test_fewer_than_three_cases_have_no_interval(methods):
    two = {name: {case: cases[case] for case in ("case 0", "case 1")} for name, cases in methods.items()}
    row = compare_methods(two, resampling=FEW_DRAWS).row("overconfident", "ace")
    assert row.per_case.interval is None
    assert row.pooled_difference.interval is None


def test_the_table_tells_definitions_n_and_seed(methods):
    table = calibration_table(compare_methods({"a|b": methods["good"]}, resampling=FEW_DRAWS))
    assert table.count("\n") == 2 + 4 + 2
    assert "a\\|b" in table
    assert "200 draws, seed 12345" in table
    assert all(definition in table for definition in MEASURES.values())


def test_what_cannot_be_compared_is_refused(methods):
    with pytest.raises(SettingsError, match="at least one method"):
        compare_methods({})
    with pytest.raises(SettingsError, match="expected one of"):
        compare_methods(methods, baseline="bad")
    with pytest.raises(SettingsError, match="share no case"):
        compare_methods({"good": methods["good"], "other": {"z": added([])}})
