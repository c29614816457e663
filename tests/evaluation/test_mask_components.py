import math

import numpy as np
import pytest
from builders.evaluation_strategies import SPACINGS_MM, mask_pairs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from scipy.spatial.distance import pdist

from nnunet_cascade.evaluation.components import Components, find_components
from nnunet_cascade.evaluation.disjoint_boxes import separate_parts


def placed(*centroids):
    count = len(centroids)
    middles = np.array(centroids, dtype=float).reshape(-1, 3)
    return Components(voxels=np.ones(count, int), shared_voxels=np.zeros(count, int), centroids=middles)


def test_the_spread_need_not_begin_at_the_outermost_middle():
    # (3, 0, 0) lies farthest from the mean, √30 from its farthest; (5, 5, 1) and (4, 0, 4) are √35 apart
    found = placed((5, 4, 3), (5, 5, 1), (3, 0, 0), (4, 0, 4))
    assert found.spread_mm((1.0, 1.0, 1.0)) == pytest.approx(math.sqrt(35))


def test_one_component_has_no_spread_and_none_an_undefined_one():
    assert placed((1, 2, 3)).spread_mm((1.0, 1.0, 1.0)) == 0.0
    assert math.isnan(placed().spread_mm((1.0, 1.0, 1.0)))


@given(hnp.arrays(np.int64, st.tuples(st.integers(1, 30), st.just(3)), elements=st.integers(0, 9)), SPACINGS_MM)
def test_the_spread_is_that_of_all_pairs(places, spacing_mm):
    expected = pdist(places * np.array(spacing_mm)).max(initial=0)
    assert placed(*places).spread_mm(spacing_mm) == pytest.approx(expected)


@settings(deadline=None, max_examples=50)
@given(mask_pairs(max_side=8))
def test_sizes_overlaps_and_middles_are_those_that_scipy_measures(pair):
    for found, mask, other in zip(find_components(separate_parts(*pair)), pair, pair[::-1], strict=True):
        labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
        numbers = range(1, count + 1)
        middles = ndimage.center_of_mass(mask, labels, numbers)
        expected = [
            (int((labels == number).sum()), int((other & (labels == number)).sum()), *np.round(middle, 9))
            for number, middle in zip(numbers, middles, strict=True)
        ]
        rows = zip(found.voxels, found.shared_voxels, *np.round(found.centroids, 9).T, strict=True)
        assert sorted(rows) == sorted(expected)
