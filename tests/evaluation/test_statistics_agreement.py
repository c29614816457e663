import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation.statistics.agreement import agree, concordance
from nnunet_cascade.evaluation.statistics.bootstrap import Resampling

FEW_DRAWS = Resampling(resamples=200)
# Bland and Altman, Lancet 1986, first readings of peak flow in l/min by two meters, of which they print: mean
# difference −2.1, standard deviation 38.8, limits −79.7 and 75.5, interval of the bias −22.0 to 17.8.
WRIGHT = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]


def test_bias_and_limits_are_those_that_bland_and_altman_print():
    found = agree(MINI, WRIGHT, FEW_DRAWS).absolute
    assert (found.bias, found.sd) == pytest.approx((-2.1, 38.8), abs=0.05)
    # they compute with two standard deviations: −2.1 ± 77.6
    assert (found.bias - 2 * found.sd, found.bias + 2 * found.sd) == pytest.approx((-79.7, 75.5), abs=0.1)
    assert (found.bias_interval.low, found.bias_interval.high) == pytest.approx((-22.0, 17.8), abs=0.1)


def test_limits_lie_at_1_96_standard_deviations_with_the_interval_of_1999():
    found = agree(MINI, WRIGHT, FEW_DRAWS).absolute
    differences = np.subtract(WRIGHT, MINI)
    sd = differences.std(ddof=1)
    assert found.lower == pytest.approx(differences.mean() - 1.96 * sd)
    half = 2.119905 * sd * math.sqrt(1 / 17 + 1.96**2 / (2 * 16))  # t of 16 degrees of freedom
    assert found.upper_interval.high == pytest.approx(found.upper + half, rel=1e-6)
    assert found.lower_interval.low == pytest.approx(found.lower - half, rel=1e-6)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=3, max_size=12))
def test_concordance_is_one_less_the_mean_square_apart_of_that_of_independent_ones(both):
    x, y = np.array(both, dtype=float).T
    apart = x.var() + y.var() + (x.mean() - y.mean()) ** 2
    found = concordance(x, y, FEW_DRAWS)
    if apart == 0:
        assert math.isnan(found.value)
    else:
        assert found.value == pytest.approx(1 - np.mean((x - y) ** 2) / apart, abs=1e-12)


def test_concordance_falls_by_a_shift_and_correlation_does_not():
    x = np.arange(10.0)
    # variance of 0 … 9 is 8.25: 2·8.25 / (8.25 + 8.25 + 3²)
    assert concordance(x, x + 3, FEW_DRAWS).value == pytest.approx(16.5 / 25.5)
    # twice as large: 2·16.5 / (8.25 + 33 + 4.5²)
    assert concordance(x, 2 * x, FEW_DRAWS).value == pytest.approx(33 / 61.5)


def test_equal_measurements_agree_perfectly_and_have_no_interval():
    found = agree([1.0, 2.0, 4.0], [1.0, 2.0, 4.0], FEW_DRAWS)
    assert found.concordance.value == pytest.approx(1.0)
    assert found.concordance.interval is None
    assert "a perfect one" in found.concordance.note
    assert (found.absolute.bias, found.absolute.sd) == (0.0, 0.0)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_lins_interval_holds_the_truth_about_as_often_as_it_says(shift):
    rng, correlation = np.random.default_rng(6), 0.9
    truth, hits = 2 * correlation / (2 + shift**2), 0
    for _ in range(250):
        x = rng.normal(size=50)
        y = shift + correlation * x + math.sqrt(1 - correlation**2) * rng.normal(size=50)
        interval = concordance(x, y, Resampling(resamples=100)).interval
        hits += interval.low <= truth <= interval.high
    assert 0.91 <= hits / 250 <= 0.985


def test_relative_differences_are_of_the_mean_of_both():
    found = agree([10.0, 10.0, 0.0, 4.0], [30.0, 10.0, 5.0, 0.0], FEW_DRAWS).relative_percent
    # +100 %, 0 %, +200 % and −200 %
    assert found.bias == pytest.approx(25.0)


def test_volumes_of_zero_on_both_sides_have_no_relative_difference_and_are_counted():
    found = agree([0.0, 1.0, 2.0, math.nan], [0.0, 1.0, 3.0, 1.0], FEW_DRAWS)
    assert (found.relative_percent.n, found.relative_percent.undefined) == (2, 2)
    assert (found.absolute.n, found.absolute.undefined) == (3, 1)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_than_three_cases_have_no_interval_and_say_so(count):
    found = agree([1.0, 2.0][:count], [2.0, 4.0][:count], FEW_DRAWS)
    assert found.absolute.bias_interval is found.concordance.interval is None
    assert "no interval below 3 cases" in found.absolute.note
    assert "no interval below 3 cases" in found.concordance.note


@pytest.mark.parametrize(
    ("first", "second"), [([2.0] * 4, [1.0, 2.0, 3.0, 4.0]), ([1.0, 2.0, 3.0], [5.0] * 3), ([2.0] * 3, [2.0] * 3)]
)
def test_a_constant_measurement_has_no_interval_and_says_so(first, second):
    found = concordance(first, second, FEW_DRAWS)
    assert found.interval is None
    assert "is the same in all cases" in found.note


def test_no_correlation_has_a_concordance_of_zero_and_volumes_of_different_cases_are_refused():
    found = concordance([1.0, 2.0, 1.0, 2.0], [1.0, 1.0, 2.0, 2.0], FEW_DRAWS)
    assert (found.value, found.interval) == (0.0, None)
    with pytest.raises(SettingsError, match="one number per case"):
        agree([1.0], [1.0, 2.0], FEW_DRAWS)
