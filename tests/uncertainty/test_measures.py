"""Measures made of streamed moments are those of all samples kept."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import rel_entr, softmax

from nnunet_cascade.uncertainty.measures import binary_entropy, uncertainty
from nnunet_cascade.uncertainty.sampling import Moments

MEASURES = ("variance", "predictive_entropy", "mutual_information")
LN2 = math.log(2)


def entropy_of(p):
    return -(rel_entr(p, 1) + rel_entr(1 - p, 1))


def of_kept_samples(measure, samples):
    """In float64, from all samples."""
    mean = samples.mean(0)
    return {
        "variance": ((samples - mean) ** 2).mean(0),
        "predictive_entropy": entropy_of(mean),
        "mutual_information": entropy_of(mean) - entropy_of(samples).mean(0),
    }[measure]


def streamed(measure, samples):
    moments = Moments(with_entropy=True)
    for sample in samples:
        moments.add(torch.from_numpy(sample))
    mean, mean_square, mean_entropy = moments.means()
    return uncertainty(measure, mean, mean_square=mean_square, mean_entropy=mean_entropy).numpy()


samples_of_voxels = arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(1, 9)), elements=st.floats(0, 1))


@pytest.mark.parametrize("measure", MEASURES)
@settings(deadline=None, max_examples=50)
@given(samples=samples_of_voxels)
def test_streamed_measures_equal_those_of_all_samples(measure, samples):
    np.testing.assert_allclose(streamed(measure, samples), of_kept_samples(measure, samples), atol=2e-6)


@settings(deadline=None, max_examples=50)
@given(samples=samples_of_voxels)
def test_every_measure_stays_in_its_range(samples):
    variance, entropy, information = (streamed(measure, samples) for measure in MEASURES)
    assert variance.min() >= 0
    assert variance.max() <= 0.25 + 1e-6
    assert entropy.min() >= 0
    assert entropy.max() <= LN2 + 1e-6
    assert information.min() >= 0
    assert (information <= entropy).all()


@pytest.mark.parametrize(
    ("samples", "expected"),
    [([[0.0], [1.0]], (0.25, LN2, LN2)), ([[0.5]] * 5, (0, LN2, 0))],
    ids=["samples that contradict each other reach the maximum", "all hesitate: entropy but no information"],
)
def test_extreme_samples(samples, expected):
    assert [streamed(measure, np.array(samples)).item() for measure in MEASURES] == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("p", [0.0, 1.0, -1e-7, 1 + 1e-6])
def test_certainty_has_no_entropy_also_where_rounding_overshoots(p):
    assert binary_entropy(torch.tensor([p])).item() == 0


def test_of_two_classes_it_is_the_entropy_of_the_softmax():
    p = softmax(np.random.default_rng(0).normal(size=(2, 50)), axis=0)
    expected = -(p * np.log(p)).sum(0)
    np.testing.assert_allclose(binary_entropy(torch.from_numpy(p))[1], expected, rtol=1e-9)


def test_without_asking_no_entropy_is_summed_and_mutual_information_needs_it():
    moments = Moments()
    moments.add(torch.rand(3))
    assert len(moments.means()) == 2
    with pytest.raises(ValueError, match="needs the mean of the samples' entropies"):
        uncertainty("mutual_information", torch.zeros(1), mean_square=torch.zeros(1))
