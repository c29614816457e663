import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation.statistics.bootstrap import ALL_THE_SAME, Interval, Resampling, estimate, mean, median
from nnunet_cascade.evaluation.statistics.description import describe, pooled_share

FEW_DRAWS = Resampling(resamples=400, seed=3)
numbers = st.lists(st.floats(-1e3, 1e3, allow_nan=False), min_size=1, max_size=12)


@pytest.mark.parametrize(("ours", "plain"), [(mean, np.mean), (median, np.median)])
def test_both_intervals_are_those_of_scipy_on_the_same_draws(ours, plain, rng):
    sample = rng.gamma(2.0, 5.0, size=23)
    found = estimate([sample], ours, FEW_DRAWS)
    places = np.random.default_rng(FEW_DRAWS.seed).integers(0, sample.size, size=(FEW_DRAWS.resamples, sample.size))
    drawn = np.array([plain(sample[place]) for place in places])
    for method in ("percentile", "bca"):
        given_draws = stats._resampling.BootstrapResult(None, drawn, None)
        known = stats.bootstrap(
            (sample,), plain, n_resamples=0, bootstrap_result=given_draws, method=method, vectorized=True
        )
        interval = getattr(found, method)
        assert (interval.low, interval.high) == pytest.approx(tuple(known.confidence_interval), rel=1e-9)
    assert found.value == pytest.approx(plain(sample))


def test_draws_that_do_not_fit_into_memory_at_once_are_the_same(rng, monkeypatch):
    sample = rng.normal(size=15)
    whole = estimate([sample], mean, FEW_DRAWS)
    monkeypatch.setattr("nnunet_cascade.evaluation.statistics.bootstrap._NUMBERS_AT_A_TIME", 100)
    assert estimate([sample], mean, FEW_DRAWS) == whole


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0], [1.0, 2.0, math.nan]])
def test_fewer_than_three_cases_have_no_interval_and_say_so(values):
    found = estimate([values], mean, FEW_DRAWS)
    assert found.percentile is found.bca is None
    assert found.note == f"n = {found.n}: no interval below 3 cases"
    assert math.isnan(found.value) == (not values)


@pytest.mark.parametrize(("count", "said"), [(3, True), (19, True), (20, False)])
def test_few_cases_are_said_to_make_intervals_too_narrow(count, said, rng):
    assert ("too narrow" in estimate([rng.normal(size=count)], mean, FEW_DRAWS).note) == said


def test_cases_that_are_all_the_same_have_no_interval_that_would_look_like_certainty():
    found = estimate([[0.1 + 0.2, 0.3, 0.3, 0.3]], mean, FEW_DRAWS)
    assert (found.percentile, found.bca, found.note) == (None, None, ALL_THE_SAME)


def test_undefined_cases_are_left_out_and_counted():
    found = describe([1.0, math.nan, 3.0, 5.0, math.nan], FEW_DRAWS)
    assert (found.n, found.undefined, found.mean.value, found.median.value) == (3, 2, 3.0, 3.0)
    assert (found.sd, found.lowest, found.highest, found.total) == (2.0, 1.0, 5.0, 9.0)


def test_a_metric_without_a_defined_case_is_undefined_and_counted():
    found = describe([math.nan, math.nan], FEW_DRAWS)
    assert (found.n, found.undefined, found.total) == (0, 2, 0.0)
    assert all(map(math.isnan, (found.mean.value, found.median.value, found.sd, found.lowest, found.highest)))


def test_a_median_of_ties_has_no_bca_interval_and_says_so():
    found = estimate([[1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 9.0]], median, FEW_DRAWS)
    assert found.bca is None
    assert "BCa undefined" in found.note
    assert found.percentile is not None


@pytest.mark.parametrize("of_draws", [math.nan, 100.0], ids=["undefined", "all on one side"])
def test_draws_that_say_nothing_of_the_value_give_no_bca_interval(of_draws):
    found = estimate([[1.0, 2.0, 4.0]], lambda it: mean(it) + (of_draws if it.ndim > 1 else 0.0), FEW_DRAWS)
    assert found.bca is None
    assert (found.percentile is None) == math.isnan(of_draws)


@given(numbers)
@example([0.0, 0.0, 2e-138])
def test_intervals_lie_between_the_smallest_and_the_largest_case(values):
    found = estimate([values], mean, Resampling(resamples=100))
    slack = 1e-9 * max(map(abs, values))
    for interval in (found.percentile, found.bca):
        if interval is not None:
            assert min(values) - slack <= interval.low <= interval.high <= max(values) + slack


@given(numbers, st.floats(0.1, 10.0))
def test_an_interval_is_scaled_with_its_cases(values, factor):
    plain, scaled = (estimate([[f * v for v in values]], mean, Resampling(resamples=100)) for f in (1.0, factor))
    if plain.percentile is not None and scaled.percentile is not None:
        assert scaled.percentile.low == pytest.approx(factor * plain.percentile.low, rel=1e-6, abs=1e-9)


class TestPooledShares:
    def test_every_lesion_counts_once_whatever_its_case(self):
        assert pooled_share([1, 0, 3, 1], [1, 1, 3, 4], FEW_DRAWS).value == pytest.approx(5 / 9)

    def test_there_is_none_without_lesions(self):
        found = pooled_share([0, 0, 0], [0, 0, 0], FEW_DRAWS)
        assert math.isnan(found.value)
        assert "undefined" in found.note

    def test_draws_without_lesions_are_left_out_and_counted(self):
        found = pooled_share([1, 0, 0, 0], [2, 0, 0, 0], FEW_DRAWS)
        # (3/4)^4 of the draws miss the one case with lesions
        assert 80 <= found.undefined_resamples <= 175
        assert f"undefined in {found.undefined_resamples} of 400" in found.note

    def test_its_interval_is_that_of_redrawn_cases(self, rng):
        found, known = rng.integers(0, 3, size=30), rng.integers(3, 6, size=30)
        places = np.random.default_rng(3).integers(0, 30, size=(400, 30))
        shares = [found[place].sum() / known[place].sum() for place in places]
        interval = pooled_share(found, known, FEW_DRAWS).percentile
        assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(shares, [0.025, 0.975])))


@pytest.mark.parametrize("changes", [{"resamples": 99}, {"level": 1.0}, {"level": 0.0}, {"seed": -1}])
def test_resampling_out_of_range_is_refused(changes):
    with pytest.raises(SettingsError, match="expected"):
        Resampling(**changes)


@pytest.mark.parametrize("ends", [(2.0, 1.0), (math.nan, 1.0), (0.0, math.inf)])
def test_an_interval_has_finite_ends_in_order(ends):
    with pytest.raises(SettingsError, match="two finite ends in order"):
        Interval(*ends)


@pytest.mark.parametrize(
    ("parts", "wholes", "message"),
    [([1.0, math.inf], [1.0, 2.0], "found an infinite number"), ([1.0], [1.0, 2.0], "one number per case in each")],
)
def test_infinite_numbers_and_columns_of_different_cases_are_refused(parts, wholes, message):
    with pytest.raises(SettingsError, match=message):
        pooled_share(parts, wholes, FEW_DRAWS)
