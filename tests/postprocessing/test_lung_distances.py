"""Distances inside masks, slice by slice."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from nnunet_cascade.postprocessing.lungs.regions import distance_mm, distances_mm

MASKS = arrays(np.bool_, st.tuples(*[st.integers(2, 6)] * 3))


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (3.0, 0.7, 0.9)])
@given(mask=MASKS)
def test_they_are_scipys_to_the_last_bit(mask, spacing_mm):
    mask[0, 0, 0] = False  # else there is nothing to be distant from
    expected = ndimage.distance_transform_edt(mask, sampling=spacing_mm)
    np.testing.assert_array_equal(np.stack(list(distances_mm(mask, spacing_mm))), expected)
    np.testing.assert_array_equal(distance_mm(mask, spacing_mm), expected.astype(np.float32))
