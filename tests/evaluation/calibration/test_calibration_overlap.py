"""Uncertain voxels and errors, against every threshold and every pair of voxels."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_cascade.errors import GridMismatchError, InputImageError
from nnunet_cascade.evaluation.calibration.overlap import error_auroc, error_overlap, overlap_at

VOXELS = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.2, 0.3]), st.booleans()), min_size=1, max_size=25)


@given(VOXELS)
@settings(max_examples=150, deadline=None)
def test_the_best_overlap_is_that_of_the_best_threshold(pairs):
    values, errors = (np.array(column) for column in zip(*pairs, strict=True))
    truth, region = np.zeros_like(errors), np.ones_like(errors)
    found = error_overlap(values, truth, errors, region)
    assert found.errors == errors.sum()
    if errors.any():
        marked = values >= np.unique(values)[:, None]
        dices = 2 * (marked & errors).sum(1) / (marked.sum(1) + errors.sum())
        assert found.best == pytest.approx(dices.max())
        assert overlap_at(values, errors, found.best_threshold) == pytest.approx(found.best)
        assert found.best >= found.at_quantile
    else:
        assert math.isnan(found.best)
        assert math.isnan(found.at_quantile)


@given(VOXELS)
@settings(max_examples=100, deadline=None)
def test_auroc_counts_pairs_of_an_error_and_none(pairs):
    values, errors = (np.array(column) for column in zip(*pairs, strict=True))
    bad, good = values[errors][:, None], values[~errors][None]
    found = error_auroc(values, errors)
    if bad.size and good.size:
        assert found == pytest.approx(np.mean((bad > good) + 0.5 * (bad == good)))
    else:
        assert math.isnan(found)


def test_the_quantile_marks_the_most_uncertain(rng):
    values = rng.permutation(1000) / 1000
    errors = values >= 0.9
    found = error_overlap(values, np.zeros(1000, bool), errors, np.ones(1000, bool))
    assert found.quantile_threshold == pytest.approx(np.quantile(values, 0.95))
    assert found.at_quantile == pytest.approx(2 * 50 / 150)
    assert (found.best, found.best_threshold, found.auroc) == (1.0, 0.9, 1.0)


def test_only_the_region_counts():
    values = np.array([0.9, 0.1, math.nan])
    truth, prediction = np.array([True, False, True]), np.array([False, False, False])
    found = error_overlap(values, truth, prediction, np.array([True, True, False]))
    assert (found.voxels, found.errors, found.best, found.auroc) == (2, 1, 1.0, 1.0)
    empty = error_overlap(values, truth, prediction, np.zeros(3, bool))
    assert (empty.voxels, empty.errors) == (0, 0)
    assert math.isnan(empty.best)
    assert math.isnan(empty.quantile_threshold)


def test_what_does_not_fit_is_refused():
    values, mask = np.array([0.1, math.inf]), np.ones(2, bool)
    with pytest.raises(InputImageError, match="not finite"):
        error_overlap(values, mask, mask, mask)
    with pytest.raises(GridMismatchError, match="one grid"):
        error_overlap(values, mask, mask[:1], mask)
