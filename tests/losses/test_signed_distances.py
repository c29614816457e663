"""The signed distance that the boundary loss is given."""

import pickle

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform
from batchgeneratorsv2.transforms.utils.seg_to_regions import ConvertSegmentationToRegionsTransform
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from nnunet_cascade.losses.distances import SignedDistanceTransform, signed_distance
from nnunet_cascade.losses.targets import LabelScheme

MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=6))


def brute_force(mask):
    inside, outside = np.argwhere(mask), np.argwhere(~mask)
    distance = np.zeros(mask.shape)
    if not len(inside) or not len(outside):
        return distance
    for place in np.ndindex(mask.shape):
        others = outside if mask[place] else inside
        nearest = np.sqrt(((others - place) ** 2).sum(1)).min()
        distance[place] = 0.5 - nearest if mask[place] else nearest - 0.5
    return distance


def labels_of(*shape, high, seed=0):
    return torch.randint(0, high, (1, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.int16)


@settings(deadline=None, max_examples=50)
@given(mask=MASKS)
def test_agrees_with_brute_force(mask):
    assert signed_distance(mask) == pytest.approx(brute_force(mask), abs=1e-6)


@settings(deadline=None, max_examples=50)
@given(mask=MASKS)
def test_inside_and_outside_change_places_with_the_sign(mask):
    assert np.array_equal(signed_distance(~mask), -signed_distance(mask))


@settings(deadline=None, max_examples=50)
@given(mask=MASKS, data=st.data())
def test_axes_are_alike(mask, data):
    axes = data.draw(st.permutations(range(mask.ndim)))
    assert np.array_equal(signed_distance(mask.transpose(axes)), signed_distance(mask).transpose(axes))


@pytest.mark.parametrize(
    ("drawing", "distances"),
    [
        ("..####.", [1.5, 0.5, -0.5, -1.5, -1.5, -0.5, 0.5]),
        ("###.", [-2.5, -1.5, -0.5, 0.5]),  # beyond the edge there is no surface
    ],
)
def test_the_surface_runs_between_voxels(drawing, distances):
    assert signed_distance(np.array([[letter == "#" for letter in drawing]])).tolist() == [distances]


def test_distances_are_counted_in_the_shortest_edge():
    mask = np.zeros((5, 5, 7), bool)
    mask[2, 2, 3] = True
    found = signed_distance(mask, spacing=(5.0, 1.0, 2.5))
    assert (found[2, 2, 3], found[2, 3, 3], found[3, 2, 3], found[2, 2, 5]) == (-0.5, 0.5, 4.5, 4.5)
    assert found[3, 3, 4] == pytest.approx((25 + 1 + 6.25) ** 0.5 - 0.5)
    assert np.array_equal(signed_distance(~mask, spacing=(5.0, 1.0, 2.5)), -found)


@pytest.mark.parametrize("value", [True, False])
def test_a_mask_without_surface_is_zero_everywhere(value):
    assert not signed_distance(np.full((3, 4, 5), value)).any()


@pytest.mark.parametrize("high", [3, 2], ids=["both are there", "an absent class is zero and keeps its channel"])
def test_each_class_has_a_channel_behind_the_labels(high):
    labels = labels_of(5, 6, 4, high=high)
    before = labels.clone()
    found = SignedDistanceTransform(LabelScheme(), 2)(segmentation=labels)["segmentation"]
    assert (found.dtype, found.shape) == (torch.float32, (3, 5, 6, 4))
    assert torch.equal(found[:1], labels.float())
    for label in (1, 2):
        assert np.array_equal(found[label], signed_distance(labels[0].numpy() == label))
    assert [bool(channel.any()) for channel in found[1:]] == [True, high == 3]
    assert torch.equal(labels, before)


def test_ignored_voxels_lie_outside():
    labels = labels_of(5, 6, 4, high=3)
    ignoring = SignedDistanceTransform(LabelScheme(ignore_label=2), 1)(segmentation=labels)["segmentation"]
    without = labels.masked_fill(labels == 2, 0)
    plain = SignedDistanceTransform(LabelScheme(), 1)(segmentation=without)["segmentation"]
    assert torch.equal(ignoring[0], labels[0].float())
    assert torch.equal(ignoring[1], plain[1])


@pytest.mark.parametrize("ignore_label", [None, 3])
def test_behind_nnunets_own_transforms_regions_get_distances_at_the_finest_resolution(ignore_label):
    labels = labels_of(8, 8, 8, high=4)
    regions = [(1, 2), 2] if ignore_label is None else [(1, 2), 2, ignore_label]
    own = [
        ConvertSegmentationToRegionsTransform(regions),
        DownsampleSegForDSTransform([[1, 1, 1], [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]]),
    ]
    ours = SignedDistanceTransform(LabelScheme(regions=True, ignore_label=ignore_label), 2)
    plain = ComposeTransforms(own)(segmentation=labels.clone())["segmentation"]
    found = ComposeTransforms([*own, ours])(segmentation=labels.clone())["segmentation"]
    assert torch.equal(found[0][: len(regions)], plain[0].float())
    assert np.array_equal(found[0][-2], signed_distance(np.isin(labels[0], (1, 2))))
    assert np.array_equal(found[0][-1], signed_distance(labels[0].numpy() == 2))
    assert all(map(torch.equal, found[1:], plain[1:]))


def test_workers_can_be_sent_it():
    labels = labels_of(5, 6, 4, high=3)
    transform = SignedDistanceTransform(LabelScheme(), 2)
    sent = pickle.loads(pickle.dumps(transform))  # noqa: S301 - our own bytes
    assert torch.equal(sent(segmentation=labels)["segmentation"], transform(segmentation=labels)["segmentation"])
