"""Temperature scaling, against brute force over whole arrays."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation.calibration.counts import added, count_voxels
from nnunet_cascade.evaluation.calibration.figures import figures_of
from nnunet_cascade.evaluation.calibration.temperature import (
    TemperatureError,
    fit_temperature,
    leave_one_out,
    nll_at,
    scaled_counts,
    temperature_interval,
)
from nnunet_cascade.evaluation.statistics.bootstrap import Resampling
from nnunet_cascade.uncertainty.temperature import with_temperature

FEW_DRAWS = Resampling(resamples=100)


def brute_nll(p, y, temperature, *, least=0.0):
    scaled = logit(p) / temperature
    largest = -math.log(least) if least else math.inf
    return np.where(y, np.logaddexp(0, -scaled), np.logaddexp(0, scaled)).clip(max=largest).mean()


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 2.5])
def test_fit_and_nll_equal_brute_force(calibrated, sharpness):
    p, y = calibrated(20_000, sharpness=sharpness)
    counts = count_voxels(p, y)
    best = minimize_scalar(
        lambda t: brute_nll(p, y, math.exp(t)), bounds=(-3, 3), method="bounded", options={"xatol": 1e-9}
    )
    fit = fit_temperature(counts)
    assert fit.temperature == pytest.approx(math.exp(best.x), rel=1e-4)
    told = (fit.nll_before, fit.nll_after, fit.at_bound)
    assert told == (nll_at(counts, 1.0), nll_at(counts, fit.temperature), False)
    for temperature in (0.3, 1.0, 3.0):
        error = 1e-5 / min(1.0, temperature) ** 2
        assert nll_at(counts, temperature) == pytest.approx(brute_nll(p, y, temperature, least=1e-7), abs=error)


def test_scaled_counts_are_those_of_scaled_probabilities(calibrated):
    p, y = calibrated(50_000, sharpness=2.0)
    p = p.astype(np.float32)
    told = figures_of(scaled_counts(count_voxels(p, y), 2.0))
    measured = figures_of(count_voxels(with_temperature(p, 2.0), y))
    for name, error in {"nll": 1e-5, "brier": 1e-5, "ece": 3e-3, "ace": 3e-3}.items():
        assert getattr(told, name) == pytest.approx(getattr(measured, name), abs=error)


def test_what_is_certain_stays_and_has_no_say():
    p, y = np.array([0.2, 0.7, 0.6, 0.4]), np.array([True, False, True, False])
    certain = count_voxels(np.array([0.0, 1.0, 1.0]), np.array([True, False, True]))
    alone = count_voxels(p, y)
    both = added([alone, certain])
    assert fit_temperature(both).temperature == fit_temperature(alone).temperature
    assert nll_at(both, 3.0) == pytest.approx((4 * nll_at(alone, 3.0) - 2 * math.log(1e-7)) / 7, rel=1e-6)


@given(st.lists(st.floats(1e-6, 1 - 1e-6), min_size=1, max_size=40), st.floats(0.05, 20.0))
@settings(max_examples=100, deadline=None)
def test_scaling_changes_no_mask(values, temperature):
    p = np.array(values, dtype=np.float32)
    y = p >= 0.5
    scaled = scaled_counts(count_voxels(p, y), temperature)
    middle = scaled.logit.shape[1] // 2
    # truth is the mask: on either side of one half there is nothing of the other
    assert scaled.logit[2, :middle].sum() == 0
    assert scaled.logit[2, middle:].sum() == y.sum()


@pytest.mark.parametrize(
    ("p", "y", "words"),
    [
        ([0.2, 0.6], [False, False], "without a tumor voxel"),
        ([0.2, 0.6], [True, True], "without a voxel that is none"),
        ([0.2, 0.6, 0.9], [False, True, True], "on their side of 0.5"),
        ([0.0, 1.0], [True, False], "without a tumor voxel"),
        ([], [], "without a tumor voxel"),
    ],
)
def test_voxels_that_no_temperature_fits_are_refused(p, y, words):
    with pytest.raises(TemperatureError, match=words):
        fit_temperature(count_voxels(np.array(p), np.array(y, dtype=bool)))


def test_the_temperature_is_bounded_and_says_so(rng):
    logits = rng.normal(0, 2, 5000)
    fit = fit_temperature(count_voxels(expit(logits), rng.random(5000) < expit(-logits)))
    assert (fit.temperature, fit.at_bound) == (20.0, True)
    shy = count_voxels(expit(np.repeat([0.001, -0.001], 1000)), np.repeat([True, False], 1000) ^ (np.arange(2000) == 7))
    fit = fit_temperature(shy)
    assert (fit.temperature, fit.at_bound) == (pytest.approx(0.05), True)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_a_temperature_is_positive(counted, temperature):
    with pytest.raises(SettingsError, match="positive"):
        scaled_counts(counted(10), temperature)


def test_each_case_is_scaled_without_itself(counted):
    cases = {name: counted(20_000, sharpness=s) for name, s in zip("abc", (1.0, 2.0, 4.0), strict=True)}
    found = leave_one_out(cases)
    for case, own in cases.items():
        others = added(counts for name, counts in cases.items() if name != case)
        temperature = fit_temperature(others).temperature
        assert found.temperatures[case] == temperature
        np.testing.assert_allclose(found.after[case].flat(), scaled_counts(own, temperature).flat(), rtol=1e-12)
    assert not found.without


def test_a_case_whose_others_cannot_be_fitted_is_told(counted):
    empty = count_voxels(np.full(50, 0.2), np.zeros(50, dtype=bool))
    found = leave_one_out({"only": counted(1000, sharpness=2.0), "empty": empty})
    assert list(found.temperatures) == ["empty"]
    assert "without a tumor voxel" in found.without["only"]
    assert leave_one_out({"one": counted(100)}).without.keys() == {"one"}
    assert temperature_interval({"only": counted(1000), "empty": empty, "other": empty}, FEW_DRAWS) is not None


def test_the_interval_holds_the_temperature_and_has_a_seed(counted):
    cases = {str(k): counted(3000, sharpness=2.0) for k in range(8)}
    interval = temperature_interval(cases, FEW_DRAWS)
    assert interval.low < fit_temperature(added(cases.values())).temperature < interval.high
    assert interval == temperature_interval(cases, FEW_DRAWS)
    assert interval != temperature_interval(cases, Resampling(resamples=100, seed=1))
    assert temperature_interval({name: cases[name] for name in "01"}, FEW_DRAWS) is None
