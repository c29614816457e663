"""Sums per bin and the figures made of them, against whole arrays in plain NumPy and scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_cascade.errors import GridMismatchError, InputImageError, SettingsError
from nnunet_cascade.evaluation.calibration.counts import added, count_voxels
from nnunet_cascade.evaluation.calibration.figures import MEASURES, figures_of


def ece_of(p, y, bins=15):
    place = np.minimum(np.floor(p * bins), bins - 1)
    parts = [(p[place == k], y[place == k]) for k in range(bins)]
    return sum(len(a) * abs(a.mean() - b.mean()) for a, b in parts if len(a)) / len(p)


def ace_of(p, y, bins=15):
    order = np.argsort(p, kind="stable")
    return np.mean([abs(p[part].mean() - y[part].mean()) for part in np.array_split(order, bins)])


def nll_of(p, y):
    return -np.log(np.where(y, p, 1 - p).clip(1e-7)).mean()


PROBABILITIES = st.lists(
    st.tuples(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.2, 0.5, 1 / 15, 1.0])), st.booleans()),
    min_size=1,
    max_size=60,
)


@given(PROBABILITIES)
@settings(max_examples=150, deadline=None)
def test_ece_brier_and_nll_equal_those_of_whole_arrays(pairs):
    p, y = (np.array(column) for column in zip(*pairs, strict=True))
    found = figures_of(count_voxels(p, y.astype(bool)))
    assert (found.voxels, found.tumor_voxels) == (len(p), y.sum())
    assert found.ece == pytest.approx(ece_of(p, y), abs=1e-12)
    assert found.brier == pytest.approx(((p - y) ** 2).mean(), abs=1e-12)
    assert found.nll == pytest.approx(nll_of(p, y), rel=1e-9, abs=1e-11)
    assert found.mean_probability == pytest.approx(p.mean(), abs=1e-12)


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_ace_equals_sorted_voxels_up_to_a_bin_of_the_logit(calibrated, sharpness):
    p, y = calibrated(60_000, sharpness=sharpness)
    # at most 14 ends of bins, each within one of 4,000 bins of about 0.1 % of the voxels
    assert figures_of(count_voxels(p, y)).ace == pytest.approx(ace_of(p, y), abs=2e-3)


def test_ace_is_exact_where_no_bin_lies_across_an_end():
    levels = np.linspace(0.02, 0.98, 15)
    p = np.repeat(levels, 100)
    y = np.tile(np.arange(100) < 30, 15)
    assert figures_of(count_voxels(p, y)).ace == pytest.approx(np.abs(levels - 0.3).mean(), abs=1e-12)


def test_a_sure_and_wrong_voxel_costs_16_nats():
    found = figures_of(count_voxels(np.array([0.0]), np.array([True])))
    assert (found.ece, found.ace, found.brier) == (1.0, 1.0, 1.0)
    assert found.nll == pytest.approx(-math.log(1e-7))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_sums_do_not_depend_on_layout_and_slices(rng, dtype, monkeypatch):
    monkeypatch.setattr("nnunet_cascade.evaluation.calibration.counts._CHUNK_VOXELS", 6000)
    p = rng.random((7, 40, 50)).astype(dtype)
    y, region = rng.random(p.shape) < p, rng.random(p.shape) < 0.3
    straight = count_voxels(p, y, region)
    turned = [np.asfortranarray(array.transpose(2, 1, 0)) for array in (p, y, region)]
    flat = count_voxels(p[region].astype(np.float64), y[region])
    for other in (count_voxels(*turned), flat):
        np.testing.assert_allclose(other.flat(), straight.flat(), rtol=1e-12)


def test_counts_of_parts_add_up_to_those_of_the_whole(calibrated):
    p, y = calibrated(9000)
    parts = [count_voxels(p[part], y[part]) for part in np.array_split(np.arange(9000), 7)]
    np.testing.assert_allclose(added(parts).flat(), count_voxels(p, y).flat(), rtol=1e-12)


def test_no_voxel_gives_no_figure():
    p, y = np.full((2, 3), 0.5), np.ones((2, 3), dtype=bool)
    for counts in (added([]), count_voxels(p, y, ~y), count_voxels(p[:0], y[:0])):
        found = figures_of(counts)
        assert (found.voxels, found.tumor_voxels) == (0, 0)
        assert all(math.isnan(getattr(found, name)) for name in MEASURES)


@pytest.mark.parametrize("bad", [-0.01, 1.01, math.nan, math.inf])
def test_what_is_no_probability_is_refused_inside_the_region_alone(bad):
    p, y = np.array([0.5, bad]), np.array([True, False])
    with pytest.raises(InputImageError, match="expected probabilities"):
        count_voxels(p, y)
    assert count_voxels(p, y, np.array([True, False])).voxels == 1


def test_what_does_not_fit_is_refused():
    p, y = np.zeros((2, 3)), np.zeros((2, 3), dtype=bool)
    with pytest.raises(GridMismatchError, match="expected one grid"):
        count_voxels(p, y[:1])
    with pytest.raises(GridMismatchError, match="expected one grid"):
        count_voxels(p, y, y[:, :1])
    with pytest.raises(SettingsError, match="the truth is uint8"):
        count_voxels(p, y.astype(np.uint8))
