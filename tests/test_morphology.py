import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from nnunet_cascade.geometry import Box
from nnunet_cascade.morphology import (
    component_boxes,
    component_sizes,
    dilate,
    element_offsets,
    label_components,
    surface,
    with_neighbors,
)

MASKS = arrays(np.bool_, st.tuples(*[st.integers(1, 7)] * 3), elements=st.booleans(), fill=st.just(value=False))
SPACINGS = st.sampled_from([(1.0, 1.0, 1.0), (3.0, 1.0, 1.0), (0.7, 2.0, 1.1)])
TYPES = [np.bool_, np.uint8, np.int16, np.uint32, np.int64, np.float32]
THIN = st.sampled_from([(1, 1, 9), (1, 9, 1), (9, 1, 1), (1, 1, 1), (1, 2, 9), (2, 1, 33), (5, 4, 6)])
ALL_NEIGHBORS = np.ones((3, 3, 3))


@given(shape=THIN, dtype=st.sampled_from(TYPES), connectivity=st.sampled_from([6, 26]), data=st.data())
def test_components_are_those_of_scipy_for_any_shape_and_type(shape, dtype, connectivity, data):
    mask = data.draw(arrays(np.bool_, shape))
    found = label_components(mask.astype(dtype), connectivity=connectivity)
    expected, count = ndimage.label(mask, ALL_NEIGHBORS if connectivity == 26 else None)
    assert found.dtype == np.uint32
    assert found.max() == count
    assert len(set(zip(found.ravel().tolist(), expected.ravel().tolist(), strict=True))) == len(np.unique(found))


@pytest.mark.parametrize("dtype", TYPES)
def test_a_row_that_cc3d_refuses_as_booleans_is_labeled(dtype):
    row = np.array([[[1, 0, 0, 1, 0, 1, 0, 1, 1]]], dtype=dtype)
    row.setflags(write=False)  # which it refuses, too
    assert label_components(row).tolist() == [[[1, 0, 0, 2, 0, 3, 0, 4, 4]]]
    assert label_components(np.array([[[0.2, 5, 0, -1]]])).tolist() == [[[1, 1, 0, 2]]]  # all but 0 is inside


@given(mask=MASKS, order=st.permutations(range(3)))
def test_components_are_numbered_alike_for_any_order_in_memory(mask, order):
    laid = np.ascontiguousarray(mask.transpose(order)).transpose(np.argsort(order))
    np.testing.assert_array_equal(label_components(laid), label_components(mask))


@given(mask=MASKS)
def test_each_component_is_measured_by_itself(mask):
    labels = label_components(mask)
    voxels, centroids = component_sizes(labels)
    assert len(voxels) == len(centroids) == len(component_boxes(labels)) == labels.max()
    for number, box in enumerate(component_boxes(labels), start=1):
        assert voxels[number - 1] == np.count_nonzero(labels == number)
        np.testing.assert_allclose(centroids[number - 1], np.argwhere(labels == number).mean(axis=0))
        assert box == Box.around(labels == number)


@given(
    mask=MASKS,
    radius_mm=st.sampled_from([0.0, 1.0, 1.5, 3.0]),
    shape=st.sampled_from(["ball", "cube"]),
    spacing_mm=SPACINGS,
)
def test_a_grown_mask_holds_what_lies_within_reach_of_it(mask, radius_mm, shape, spacing_mm):
    offsets = element_offsets(radius_mm, shape, spacing_mm)
    grown = dilate(mask, offsets)
    reach = offsets.max(axis=0)
    expected = np.zeros_like(grown)
    for voxel in np.argwhere(mask):
        expected[tuple((voxel + reach + offsets).T)] = True
    np.testing.assert_array_equal(grown, expected)
    np.testing.assert_array_equal(dilate(np.asfortranarray(mask), offsets), expected)


@given(mask=MASKS)
def test_neighbors_are_all_26_and_the_surface_is_what_an_erosion_takes(mask):
    np.testing.assert_array_equal(with_neighbors(mask), ndimage.binary_dilation(mask, np.ones((3, 3, 3))))
    np.testing.assert_array_equal(surface(mask), mask & ~ndimage.binary_erosion(mask))


def test_elements_are_symmetric_and_measured_in_millimetres():
    offsets = element_offsets(3.0, "ball", (3.0, 1.0, 2.0))
    assert {tuple(o) for o in offsets.tolist()} == {tuple(o) for o in (-offsets).tolist()}
    assert offsets.max(axis=0).tolist() == [1, 3, 1]
    assert len(element_offsets(1.0, "cube", (1.0, 1.0, 1.0))) == 27
    assert len(element_offsets(1.0, "ball", (1.0, 1.0, 1.0))) == 7
