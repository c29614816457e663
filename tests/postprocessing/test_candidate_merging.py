from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from nnunet_cascade.errors import GridMismatchError
from nnunet_cascade.geometry import Grid
from nnunet_cascade.morphology import dilate, element_offsets
from nnunet_cascade.postprocessing import merging
from nnunet_cascade.postprocessing.merging import MergeSettings, label_candidates

MASKS = arrays(np.bool_, st.tuples(*[st.integers(1, 7)] * 3), elements=st.booleans(), fill=st.just(value=False))
MERGES = st.builds(
    MergeSettings, radius_mm=st.sampled_from([0.0, 1.0, 1.5, 3.0]), shape=st.sampled_from(["ball", "cube"])
)
SPACINGS = st.sampled_from([(1.0, 1.0, 1.0), (3.0, 1.0, 1.0), (0.7, 2.0, 1.1)])


def row(text: str) -> np.ndarray:
    return np.array([[[letter == "#" for letter in text]]])


def labels_of(mask, radius_mm, shape="ball", spacing_mm=(1.0, 1.0, 1.0)):
    grid = Grid(shape=mask.shape, spacing_mm=spacing_mm)
    return label_candidates(mask, grid, MergeSettings(radius_mm=radius_mm, shape=shape))


@pytest.mark.parametrize(
    ("text", "radius_mm", "count"),
    [
        ("##...##", 0.0, 2),
        ("##...##", 1.0, 2),
        ("##..##", 1.0, 1),
        ("##...##", 1.5, 2),
        ("##...##", 2.0, 1),
        ("#", 3.0, 1),
    ],
)
def test_fragments_merge_where_their_grown_masks_touch(text, radius_mm, count):
    assert labels_of(row(text), radius_mm).max() == count


def test_merging_is_in_millimetres_not_voxels():
    gap = row("##..##")
    assert labels_of(gap, 1.0, spacing_mm=(1.0, 1.0, 1.0)).max() == 1
    assert labels_of(gap, 1.0, spacing_mm=(1.0, 1.0, 2.0)).max() == 2
    assert labels_of(gap.transpose(2, 1, 0), 1.0, spacing_mm=(3.0, 1.0, 1.0)).max() == 2


def test_a_cube_reaches_into_corners_where_a_ball_does_not():
    mask = np.zeros((4, 4, 4), dtype=bool)
    mask[0, 0, 0] = mask[3, 3, 3] = True
    assert labels_of(mask, 1.0, "cube").max() == 1
    assert labels_of(mask, 1.0, "ball").max() == 2
    assert labels_of(mask[::3, ::3, ::3], 0.0).max() == 1  # corners connect


def test_ids_fall_with_volume():
    assert labels_of(row("#...###...##"), 0.0).ravel().tolist() == [3, 0, 0, 0, 1, 1, 1, 0, 0, 0, 2, 2]


def test_ties_are_ordered_in_the_patient_not_in_the_array(layout):
    mask = np.zeros((5, 3, 4), dtype=bool)
    mask[0, 0, 0] = mask[0, 0, 3] = mask[4, 2, 1] = True
    grid = Grid(shape=mask.shape, spacing_mm=(2.0, 1.0, 1.5), origin_mm=(3.0, 4.0, 5.0))
    plain = label_candidates(mask, grid, MergeSettings(radius_mm=0.0))
    assert plain[0, 0, 0] == 1
    assert plain[4, 2, 1] == 3
    laid = label_candidates(layout.array(mask), layout.grid(grid), MergeSettings(radius_mm=0.0))
    np.testing.assert_array_equal(laid, layout.array(plain))


@given(mask=MASKS, merge=MERGES, spacing_mm=SPACINGS, axis=st.integers(0, 2))
def test_merging_commutes_with_flips(mask, merge, spacing_mm, axis):
    grid = Grid(shape=mask.shape, spacing_mm=spacing_mm)
    there = label_candidates(np.flip(mask, axis), grid, merge)
    here = np.flip(label_candidates(mask, grid, merge), axis)
    pairs = set(zip(here.ravel().tolist(), there.ravel().tolist(), strict=True))
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


@given(mask=MASKS, merge=MERGES, spacing_mm=SPACINGS, order=st.permutations(range(3)))
def test_no_voxel_is_added_or_lost_and_neither_the_edge_nor_the_order_in_memory_is_felt(mask, merge, spacing_mm, order):
    grid, padded = Grid(shape=mask.shape, spacing_mm=spacing_mm), np.pad(mask, 5)
    labels = label_candidates(mask, grid, merge)
    np.testing.assert_array_equal(labels > 0, mask)
    assert labels.dtype == np.int32
    outer = label_candidates(padded, replace(grid, shape=padded.shape), merge)
    np.testing.assert_array_equal(outer[5:-5, 5:-5, 5:-5], labels)
    laid = np.ascontiguousarray(mask.transpose(order)).transpose(np.argsort(order))
    np.testing.assert_array_equal(label_candidates(laid, grid, merge), labels)


def partition(labels):
    """The sets of places with the same label, whatever the labels are."""
    return {frozenset(np.flatnonzero(labels == value).tolist()) for value in np.unique(labels[labels > 0])}


@given(
    places=st.lists(st.tuples(*[st.integers(0, 19)] * 3), max_size=30),
    merge=MERGES,
    spacing_mm=SPACINGS,
    block=st.sampled_from([1, 4, 16]),
)
def test_space_between_pieces_changes_no_component(places, merge, spacing_mm, block):
    mask = np.zeros((20, 20, 20), dtype=bool)
    for place in places:
        mask[place] = True
    grown = dilate(mask, element_offsets(merge.radius_mm, merge.shape, spacing_mm))
    components, _ = ndimage.label(grown, np.ones((3, 3, 3)))
    reach = [(a - b) // 2 for a, b in zip(grown.shape, mask.shape, strict=True)]
    inner = components[tuple(slice(n, n + 20) for n in reach)]
    with patch.object(merging, "_SMALLEST_BLOCK", block):
        labels = label_candidates(mask, Grid(shape=mask.shape, spacing_mm=spacing_mm), merge)
    assert partition(labels) == partition(np.where(mask, inner, 0))
    assert (np.diff(np.bincount(labels.ravel())[1:]) <= 0).all()


def test_a_mask_of_another_shape_is_refused():
    grid = Grid(shape=(2, 2, 3), spacing_mm=(1.0, 1.0, 1.0))
    with pytest.raises(GridMismatchError, match=r"\(2, 2, 2\)"):
        label_candidates(np.ones((2, 2, 2), dtype=bool), grid, MergeSettings())
