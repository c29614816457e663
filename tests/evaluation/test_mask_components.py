import math

import numpy as np
import pytest
from builders.evaluation_strategies import SPACINGS_MM, mask_pairs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from scipy.spatial.distance import pdist

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation.components import Components, find_components
from nnunet_cascade.evaluation.disjoint_boxes import separate_parts


def components(sizes, shared, centroids):
    return Components(
        voxels=np.array(sizes),
        shared_voxels=np.array(shared),
        centroids=np.array(centroids, dtype=float).reshape(-1, 3),
    )


def test_each_component_has_its_size_its_overlap_and_its_middle(box_mask):
    shape = (4, 10, 20)
    truth = box_mask(shape, (1, 2, 2), (3, 6, 6))
    prediction = box_mask(shape, (1, 2, 4), (3, 6, 8)) | box_mask(shape, (3, 9, 19), (4, 10, 20))
    of_truth, of_prediction = find_components(separate_parts(truth, prediction))
    assert (of_truth.voxels.tolist(), of_truth.shared_voxels.tolist()) == ([32], [16])
    assert (of_prediction.voxels.tolist(), of_prediction.shared_voxels.tolist()) == ([32, 1], [16, 0])
    assert of_prediction.centroids.tolist() == [[1.5, 3.5, 5.5], [3, 9, 19]]


def test_the_spread_is_the_largest_distance_between_middles_in_mm():
    three = components([1, 1, 1], [0, 0, 0], [(0, 0, 0), (2, 0, 0), (0, 3, 4)])
    assert three.spread_mm((3.0, 1.0, 1.0)) == pytest.approx(math.hypot(6, 3, 4))


def test_the_spread_need_not_begin_at_the_outermost_middle():
    # (3, 0, 0) lies farthest from the mean, √30 from its farthest; (5, 5, 1) and (4, 0, 4) are √35 apart
    places = [(5, 4, 3), (5, 5, 1), (3, 0, 0), (4, 0, 4)]
    found = components([1] * 4, [0] * 4, places)
    assert found.spread_mm((1.0, 1.0, 1.0)) == pytest.approx(math.sqrt(35))


def test_one_component_has_no_spread_and_none_an_undefined_one():
    assert components([5], [0], [(1, 2, 3)]).spread_mm((1.0, 1.0, 1.0)) == 0.0
    assert math.isnan(components([], [], []).spread_mm((1.0, 1.0, 1.0)))


@given(hnp.arrays(np.int64, st.tuples(st.integers(1, 30), st.just(3)), elements=st.integers(0, 9)), SPACINGS_MM)
def test_the_spread_is_that_of_all_pairs(places, spacing_mm):
    found = components(np.ones(len(places), dtype=int), np.zeros(len(places), dtype=int), places)
    expected = pdist(places * np.array(spacing_mm)).max(initial=0)
    assert found.spread_mm(spacing_mm) == pytest.approx(expected)


@settings(deadline=None)
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


@pytest.mark.parametrize(
    ("sizes", "shared", "centroids"),
    [
        ([0], [0], [(0, 0, 0)]),
        ([1], [2], [(0, 0, 0)]),
        ([1], [-1], [(0, 0, 0)]),
        ([1], [], [(0, 0, 0)]),
        ([1], [0], []),
    ],
)
def test_impossible_components_are_refused(sizes, shared, centroids):
    with pytest.raises(SettingsError):
        components(sizes, shared, centroids)
