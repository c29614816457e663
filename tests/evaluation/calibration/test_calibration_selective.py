"""Risk against coverage and review of a part, against every order of the cases."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation.calibration.selective import aurc, review_curve, risk_coverage
from nnunet_cascade.evaluation.statistics.bootstrap import Resampling

FEW_DRAWS = Resampling(resamples=100)
CASES = st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0.0, 0.1, 0.2, 0.3])), min_size=1, max_size=6)


def orders(doubts):
    """Every order from the least uncertain on; those that tie stand in each way."""
    return [o for o in itertools.permutations(range(len(doubts))) if list(np.take(doubts, o)) == sorted(doubts)]


def brute_aurc(risks, order):
    return np.mean([np.mean(np.take(risks, order[: k + 1])) for k in range(len(order))])


@given(CASES)
@settings(max_examples=100, deadline=None)
def test_aurc_is_the_mean_over_all_orders_of_the_tied(cases):
    risks, doubts = zip(*cases, strict=True)
    expected = np.mean([brute_aurc(risks, order) for order in orders(doubts)])
    assert aurc(np.array(risks), np.array(doubts)) == pytest.approx(expected, abs=1e-12)


@given(CASES)
@settings(max_examples=25, deadline=None)
def test_no_order_beats_that_by_risk(cases):
    risks, doubts = zip(*cases, strict=True)
    found = risk_coverage([1 - risk for risk in risks], doubts, FEW_DRAWS)
    best = min(brute_aurc(risks, order) for order in itertools.permutations(range(len(risks))))
    assert found.best_aurc == pytest.approx(best, abs=1e-12)
    assert found.eaurc >= -1e-12
    assert found.random_aurc == pytest.approx(np.mean(risks), abs=1e-12)


def test_drawn_by_hand():
    # kept one by one: 0.1, then (0.1 + 0.3) / 2, then (0.1 + 0.3 + 0.8) / 3
    found = risk_coverage([0.9, 0.2, 0.7], [1.0, 3.0, 2.0], FEW_DRAWS)
    assert found.aurc == pytest.approx((0.1 + 0.2 + 0.4) / 3)
    assert found.eaurc == pytest.approx(0)
    assert found.gain == pytest.approx(0.4 - 0.7 / 3)
    assert risk_coverage([0.9, 0.2, 0.7], [3.0, 1.0, 2.0], FEW_DRAWS).gain < 0


def test_one_case_and_none():
    one = risk_coverage([0.7], [0.1], FEW_DRAWS)
    assert (one.cases, one.aurc, one.eaurc, one.gain) == (1, pytest.approx(0.3), 0, 0)
    assert one.aurc_interval is None
    none = risk_coverage([math.nan], [0.1], FEW_DRAWS)
    assert (none.cases, none.undefined_dice) == (0, 1)
    assert math.isnan(none.aurc)
    assert math.isnan(none.gain)
    assert review_curve([], []) == ()


def test_equal_uncertainties_are_a_random_order(rng):
    found = risk_coverage(rng.random(9), np.zeros(9), FEW_DRAWS)
    assert found.gain == pytest.approx(0)
    assert found.gain_interval.low == pytest.approx(0)
    assert found.gain_interval.high == pytest.approx(0)


def test_cases_without_uncertainty_are_the_most_uncertain():
    found = risk_coverage([0.0, 0.8, 0.9], [math.nan, 5.0, 1.0], FEW_DRAWS)
    assert found.undefined_uncertainty == 1
    assert found.aurc == pytest.approx((0.1 + 0.15 + 1.3 / 3) / 3)


def test_an_informative_uncertainty_has_an_interval_above_zero(rng):
    dices = rng.random(40)
    found = risk_coverage(dices, 1 - dices + rng.normal(0, 0.1, 40), FEW_DRAWS)
    assert found.gain_interval.low > 0
    assert found.aurc_interval.low < found.aurc < found.aurc_interval.high
    noise = risk_coverage(dices, rng.random(40), FEW_DRAWS)
    assert noise.gain_interval.low < 0 < noise.gain_interval.high


def test_reviewing_the_most_uncertain_catches_the_worst():
    dices = [0.1, 0.2, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95]
    doubts = [8.0, 5.0, 7.0, 4.0, 3.0, 2.0, 1.0, 0.0]
    ten, twenty, thirty = review_curve(dices, doubts, resampling=FEW_DRAWS)
    # the lowest quarter of 8 are two; of 8 cases 10 % are one, 20 % two, 30 % three
    assert [point.reviewed for point in (ten, twenty, thirty)] == [1, 2, 3]
    assert [point.fraction for point in (ten, twenty, thirty)] == [0.5, 0.5, 1.0]
    assert [point.best_fraction for point in (ten, twenty, thirty)] == [0.5, 1.0, 1.0]
    assert ten.random_fraction == pytest.approx(1 / 8)
    assert 0 <= ten.interval.low < ten.interval.high <= 1


@given(CASES)
@settings(max_examples=30, deadline=None)
def test_ties_catch_what_all_orders_catch_on_the_average(cases):
    dices, doubts = zip(*cases, strict=True)
    limit = sorted(dices)[math.ceil(len(dices) / 4) - 1]
    worst = [1 - dice >= 1 - limit for dice in dices]
    for point in review_curve(dices, doubts, resampling=FEW_DRAWS):
        caught = [sum(worst[k] for k in order[::-1][: point.reviewed]) for order in orders(doubts)]
        assert point.caught == pytest.approx(np.mean(caught))
        assert (point.worst, point.fraction) == (sum(worst), pytest.approx(np.mean(caught) / sum(worst)))


def test_what_does_not_fit_is_refused():
    with pytest.raises(SettingsError, match="2 Dices for 1"):
        risk_coverage([0.1, 0.2], [0.3])
