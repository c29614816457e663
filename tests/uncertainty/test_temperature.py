"""Temperature scaling moves probabilities, never a mask at one half."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nnunet_cascade.uncertainty.temperature import unscaled, with_temperature

probabilities = arrays(np.float32, st.integers(1, 30), elements=st.floats(0, 1, width=32))
temperatures = st.floats(0.02, 50)


@settings(deadline=None, max_examples=50)
@given(p=probabilities, temperature=temperatures)
def test_a_mask_at_one_half_stays(p, temperature):
    np.testing.assert_array_equal(with_temperature(p, temperature) >= 0.5, p >= 0.5)


@settings(deadline=None, max_examples=50)
@given(p=probabilities, temperature=temperatures)
def test_the_order_of_voxels_stays(p, temperature):
    assert (np.diff(with_temperature(np.sort(p), temperature)) >= 0).all()


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_it_divides_the_logit(temperature):
    p = np.linspace(0.01, 0.99, 23, dtype=np.float32)
    logits = [math.log(x / (1 - x)) / temperature for x in p.tolist()]
    np.testing.assert_allclose(with_temperature(p, temperature), [1 / (1 + math.exp(-x)) for x in logits], rtol=1e-6)


def test_zero_one_half_and_one_stay_what_lies_just_below_one_half_stays_below_and_one_gives_the_same_bits():
    p = np.array([0, 0.5, 1], dtype=np.float32)
    np.testing.assert_array_equal(with_temperature(p, 7.0), p)
    assert with_temperature(np.nextafter(np.float32(0.5), np.float32(0))[None], 20.0)[0] < 0.5
    p = np.random.default_rng(0).random(100, dtype=np.float32)
    np.testing.assert_array_equal(with_temperature(p, 1.0), p)


@settings(deadline=None, max_examples=50)
@given(p=st.floats(0.01, 0.99), temperature=st.floats(0.5, 3))
def test_unscaled_is_the_way_back(p, temperature):
    there = with_temperature(np.array([unscaled(p, temperature)]), temperature)
    assert there[0] == pytest.approx(p, abs=1e-5)
