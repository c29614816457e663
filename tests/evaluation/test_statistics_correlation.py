import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nnunet_cascade.evaluation.statistics.bootstrap import Resampling
from nnunet_cascade.evaluation.statistics.correlation import correlate, pearson, spearman

FEW_DRAWS = Resampling(resamples=200)


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=12))
def test_both_coefficients_are_scipys_with_ties_too(points):
    x, y = np.array(points, dtype=float).T
    found = correlate(x, y, FEW_DRAWS)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert math.isnan(found.pearson.value)
        assert "is the same in all cases" in found.note
        return
    for ours, theirs in ((found.pearson, stats.pearsonr(x, y)), (found.spearman, stats.spearmanr(x, y))):
        assert (ours.value, ours.p) == pytest.approx(tuple(theirs), abs=1e-12, nan_ok=True)
        assert ours.bootstrap.value == pytest.approx(ours.value, abs=1e-12)


def test_the_interval_of_pearsons_r_is_scipys(rng):
    x = rng.normal(size=25)
    y = x + rng.normal(size=25)
    known = stats.pearsonr(x, y).confidence_interval()
    found = correlate(x, y, FEW_DRAWS).pearson.interval
    assert (found.low, found.high) == pytest.approx(tuple(known))


def test_the_interval_of_spearmans_rho_is_wider_by_bonett_and_wright(rng):
    x, y = rng.normal(size=(2, 28))
    found = correlate(x, y, FEW_DRAWS).spearman
    half = 1.959963985 * math.sqrt((1 + found.value**2 / 2) / 25)
    assert math.atanh(found.interval.high) == pytest.approx(math.atanh(found.value) + half)


@pytest.mark.parametrize(
    ("values", "note"),
    [
        (([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]), ""),
        (([1.0, 2.0], [2.0, 1.0]), ""),
        (([], []), ""),
        (([1.0] * 4, [2.0] * 4), "the first and the second number is the same in all cases"),
    ],
)
def test_constant_or_too_few_cases_are_undefined_and_say_so(values, note):
    found = correlate(*values, FEW_DRAWS)
    for coefficient in (found.pearson, found.spearman):
        assert math.isnan(coefficient.value)
        assert math.isnan(coefficient.p)
        assert coefficient.interval is coefficient.bootstrap.percentile is None
    assert found.note.startswith(f"undefined: {note}")


def test_undefined_cases_are_left_out_and_counted(rng):
    x, y = rng.normal(size=(2, 8))
    whole = correlate(x, y, FEW_DRAWS)
    with_gaps = correlate([*x, math.nan, 1.0], [*y, 1.0, math.nan], FEW_DRAWS)
    assert (with_gaps.n, with_gaps.undefined) == (8, 2)
    assert with_gaps.pearson == whole.pearson


def test_a_perfect_correlation_has_no_interval_by_fisher():
    found = correlate([1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 4.0, 6.0, 8.0, 10.0], FEW_DRAWS)
    assert found.pearson.value == pytest.approx(1.0)
    assert found.pearson.interval is None


def test_draws_in_which_all_cases_are_the_same_are_left_out_and_counted():
    # counts that hardly ever drop: most draws of the only two cases that do
    found = correlate([0, 0, 0, 0, 1], [0.1, 0.3, 0.2, 0.5, 0.9], Resampling(resamples=1000))
    # (4/5)^5 of the draws miss the one case
    assert 280 <= found.pearson.bootstrap.undefined_resamples <= 380


def test_many_draws_at_once_are_each_on_its_own(rng):
    x, y = rng.integers(0, 4, size=(2, 6, 9)).astype(float)
    for many, one in ((pearson, stats.pearsonr), (spearman, stats.spearmanr)):
        assert many(x, y) == pytest.approx([one(a, b)[0] for a, b in zip(x, y, strict=True)])
