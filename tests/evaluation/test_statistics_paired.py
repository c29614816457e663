import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation.statistics.bootstrap import Resampling
from nnunet_cascade.evaluation.statistics.paired import compare_paired, holm, signed_ranks, with_holm

FEW_DRAWS = Resampling(resamples=200)


def p_over_all_signs(differences):
    """Every sign that the nonzero differences could have, counted."""
    ranks = stats.rankdata(np.abs([d for d in differences if d]))
    seen = min(
        ranks[np.array([d for d in differences if d]) > 0].sum(),
        ranks[np.array([d for d in differences if d]) < 0].sum(),
    )
    sums = [
        sum(r for r, up in zip(ranks, signs, strict=True) if up)
        for signs in itertools.product((0, 1), repeat=len(ranks))
    ]
    return min(1.0, 2 * np.mean([total <= seen + 1e-9 for total in sums]))


@pytest.mark.parametrize("count", [1, 2, 5, 10, 25, 50])
def test_without_ties_p_is_scipys_exact_one(count, rng):
    differences = rng.normal(0.3, 1.0, size=count)
    known = stats.wilcoxon(differences, method="exact")
    found = signed_ranks(differences)
    assert (found.statistic, found.p) == pytest.approx((known.statistic, known.pvalue), rel=1e-9)
    assert (found.exact, found.zeros, found.n) == (True, 0, count)


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_with_ties_and_zeros_p_counts_all_signs(differences):
    found = signed_ranks([float(d) for d in differences])
    assert found.zeros == differences.count(0)
    if any(differences):
        assert found.p == pytest.approx(p_over_all_signs(differences), abs=1e-12)


def test_above_a_hundred_differences_p_is_scipys_approximation(rng):
    differences = np.round(rng.normal(0.2, 1.0, size=150), 1)
    nonzero = differences[differences != 0]
    known = stats.wilcoxon(nonzero, method="approx", correction=True)
    found = signed_ranks(differences)
    assert not found.exact
    assert (found.statistic, found.p) == pytest.approx((known.statistic, known.pvalue), rel=1e-9)
    assert found.zeros == differences.size - nonzero.size


def test_two_equal_methods_differ_by_zero_with_p_one():
    found = compare_paired([0.5, 0.6, 0.7], [0.5, 0.6, 0.7], FEW_DRAWS)
    assert (found.mean.value, found.rises, found.falls) == (0.0, 0, 0)
    assert (found.ranks.p, found.ranks.zeros, found.ranks.n) == (1.0, 3, 0)
    assert found.mean.percentile is None


def test_differences_by_rounding_alone_are_zeros_and_ties():
    found = compare_paired([0.1 + 0.2, 0.9, 0.8], [0.3, 0.6, 0.5], FEW_DRAWS)
    assert (found.ranks.zeros, found.rises) == (1, 2)
    assert found.ranks.p == signed_ranks([1.0, 1.0]).p


def test_swapping_the_methods_turns_every_sign_and_keeps_p(rng):
    first, second = rng.random(12), rng.random(12)
    one, other = (compare_paired(*pair, FEW_DRAWS) for pair in ((first, second), (second, first)))
    assert one.ranks == other.ranks
    assert (one.rises, one.falls) == (other.falls, other.rises)
    assert one.mean.value == pytest.approx(-other.mean.value)
    assert one.mean.percentile.low == pytest.approx(-other.mean.percentile.high)


def test_cases_that_are_undefined_for_one_method_are_left_out_and_counted():
    found = compare_paired([0.5, math.nan, 0.7, 0.9], [0.4, 0.5, math.nan, 0.6], FEW_DRAWS)
    assert (found.n, found.undefined) == (2, 2)
    assert found.mean.value == pytest.approx(0.2)
    assert found.mean.note == "n = 2: no interval below 3 cases"


def test_no_case_is_no_test():
    found = compare_paired([], [], FEW_DRAWS)
    assert found.n == 0
    assert math.isnan(found.ranks.p)
    assert math.isnan(found.mean.value)


class TestHolm:
    def test_a_worked_example(self):
        # 0.01·4, 0.02·3, 0.03·2 = 0.06, then 0.04·1, each at least as large as the one before
        assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx((0.06, 0.04, 0.06, 0.06))

    @given(st.lists(st.floats(0, 1), max_size=8), st.floats(0.001, 0.999))
    def test_rejects_what_the_step_down_procedure_rejects(self, p_values, level):
        rejected, left = set(), sorted(range(len(p_values)), key=lambda place: p_values[place])
        while left and p_values[left[0]] * len(left) <= level:
            rejected.add(left.pop(0))
        assert {place for place, p in enumerate(holm(p_values)) if p <= level} == rejected

    def test_what_is_no_test_does_not_count(self):
        first, second, third = holm([0.01, math.nan, 0.02])
        assert (first, third) == pytest.approx((0.02, 0.02))
        assert math.isnan(second)

    def test_a_single_comparison_stays_as_it_is(self):
        assert holm([0.03]) == (0.03,)
        assert holm([]) == ()

    @pytest.mark.parametrize("p", [-0.1, 1.1])
    def test_what_is_no_p_value_is_refused(self, p):
        with pytest.raises(SettingsError, match="expected 0 … 1"):
            holm([p])

    def test_comparisons_of_a_metric_are_corrected_together(self, rng):
        reference = rng.random(12)
        found = with_holm([compare_paired(reference + shift, reference, FEW_DRAWS) for shift in (0.1, 0.2)])
        assert [one.p_holm for one in found] == pytest.approx([2 * found[0].ranks.p] * 2)
