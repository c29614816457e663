"""Lesions of a final mask, one by one."""

import json

import cc3d
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_cascade.uncertainty.lesions import describe_lesions, label_lesions
from nnunet_cascade.uncertainty.volumes import Sampled

SPACING = (3.0, 1.0, 0.5)


def case(uncertainty, regions=None):
    regions = np.ones(uncertainty.shape, dtype=np.uint16) if regions is None else regions
    return Sampled(uncertainty=uncertainty.astype(np.float32), regions=regions, sample_masks={})


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_labels_are_the_components_with_26_neighbours_by_falling_size(seed):
    mask = np.random.default_rng(seed).random((4, 5, 6)) < 0.25
    labels = label_lesions(mask)
    np.testing.assert_array_equal(labels > 0, mask)
    sizes = np.bincount(labels.ravel())[1:]
    assert (np.diff(sizes) <= 0).all()
    assert len(sizes) == cc3d.connected_components(mask.astype(np.uint8), connectivity=26).max()


def test_a_lesion_has_size_place_and_figures():
    mask = np.zeros((4, 9, 9), dtype=bool)
    mask[1:3, 3:6, 3:6] = True
    mask[0, 0, 0] = True
    uncertainty = np.random.default_rng(0).random(mask.shape).astype(np.float32) / 4
    large, small = describe_lesions(label_lesions(mask), SPACING, case(uncertainty))
    assert (large.id, large.voxels, large.volume_ml) == (1, 18, pytest.approx(0.027))
    assert (large.box.start, large.box.stop) == ((1, 3, 3), (3, 6, 6))
    inside = uncertainty[1:3, 3:6, 3:6]
    assert large.mean_uncertainty == pytest.approx(inside.mean(), rel=1e-6)
    assert large.max_uncertainty == pytest.approx(inside.max())
    assert (small.id, small.voxels) == (2, 1)
    assert small.mean_uncertainty == small.max_uncertainty == pytest.approx(uncertainty[0, 0, 0])
    assert large.volume is None
    assert describe_lesions(label_lesions(mask & False), SPACING, case(uncertainty)) == ()


def boundary_by_hand(mask, regions, spacing_mm):
    """Every voxel within 3 mm of a voxel of the mask with a face outside of it."""
    padded = np.pad(mask, 1)
    inner = np.ones_like(mask)
    for axis in range(3):
        for step in (-1, 1):
            inner &= np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1]
    surface = np.argwhere(mask & ~inner) * np.array(spacing_mm)
    points = np.argwhere(np.ones_like(mask)) * np.array(spacing_mm)
    distances = np.linalg.norm(points[:, None] - surface[None], axis=2).min(1).reshape(mask.shape)
    return (distances <= 3.0 + 1e-6) & (regions > 0)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_the_boundary_reaches_3_mm_in_and_out_inside_the_regions(seed):
    draw = np.random.default_rng(seed)
    mask = np.zeros((6, 10, 14), dtype=bool)
    z, y, x = draw.integers(0, 3), draw.integers(0, 4), draw.integers(0, 5)
    mask[z : z + 3, y : y + 5, x : x + 8] = True
    regions = np.zeros(mask.shape, dtype=np.uint16)
    regions[:, 1:, :12] = 1
    mask &= regions > 0
    uncertainty = draw.random(mask.shape)
    (lesion,) = describe_lesions(label_lesions(mask), SPACING, case(uncertainty, regions))
    expected = uncertainty[boundary_by_hand(mask, regions, SPACING)].mean()
    assert lesion.boundary_uncertainty == pytest.approx(expected, rel=1e-5)


def test_without_samples_a_lesion_has_its_size_alone_and_goes_into_json():
    (lesion,) = describe_lesions(label_lesions(np.ones((1, 2, 2), dtype=bool)), SPACING)
    assert lesion.voxels == 4
    assert lesion.mean_uncertainty is lesion.boundary_uncertainty is lesion.max_uncertainty is lesion.volume is None
    assert json.loads(json.dumps(lesion.to_record().to_json()))["box"] == {"start": [0, 0, 0], "stop": [1, 2, 2]}
