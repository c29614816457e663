import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nnunet_cascade.errors import EmptyLungsError, InputImageError, SettingsError
from nnunet_cascade.geometry import Grid
from nnunet_cascade.morphology import surface
from nnunet_cascade.postprocessing.measures import LungReference, measure_candidates
from nnunet_cascade.postprocessing.merging import MergeSettings, label_candidates

MASKS = arrays(np.bool_, (4, 5, 6), elements=st.booleans(), fill=st.just(value=False))
SPACINGS = st.sampled_from([(1.0, 1.0, 1.0), (8.0, 1.0, 0.7)])


def measure(labels, grid, lungs=None, *, near_mm=5.0, probability=None):
    reference = None if lungs is None else LungReference.of(lungs, grid, near_mm=near_mm, central_share=0.5)
    return measure_candidates(labels, grid, reference, probability=probability)


def brute_force_distances_mm(points, lungs, spacing_mm):
    gaps = points[:, None] - np.argwhere(lungs)[None]
    distances = np.linalg.norm(gaps * np.array(spacing_mm), axis=2)
    return np.where(np.abs(gaps).max(axis=2) <= 1, 0.0, distances).min(axis=1)


@given(tumor=MASKS, lungs=MASKS, spacing_mm=SPACINGS)
def test_distances_agree_with_brute_force(tumor, lungs, spacing_mm):
    tumor[0, 0, 0] = lungs[-1, -1, -1] = True
    grid = Grid(shape=tumor.shape, spacing_mm=spacing_mm)
    labels = label_candidates(tumor, grid, MergeSettings(radius_mm=0.0))
    for candidate in measure(labels, grid, lungs, near_mm=2.0):
        mask = labels == candidate.id
        expected = brute_force_distances_mm(np.argwhere(mask), lungs, spacing_mm)
        assert candidate.lung_distance_mm == pytest.approx(expected.min())
        rim = brute_force_distances_mm(np.argwhere(surface(mask)), lungs, spacing_mm)
        assert candidate.near_surface_share == pytest.approx(np.mean(rim <= 2.0))


@given(tumor=MASKS, lungs=MASKS)
def test_shares_and_sizes_agree_with_counting(tumor, lungs):
    tumor[0, 0, 0] = lungs[0, 0, 1] = True
    grid = Grid(shape=tumor.shape, spacing_mm=(3.0, 1.0, 0.5), origin_mm=(7.0, -3.0, 2.0))
    labels = label_candidates(tumor, grid, MergeSettings(radius_mm=1.0))
    candidates = measure(labels, grid, lungs)
    assert sum(candidate.voxels for candidate in candidates) == np.count_nonzero(tumor)
    for candidate in candidates:
        voxels = np.argwhere(labels == candidate.id)
        assert candidate.volume_mm3 == pytest.approx(1.5 * len(voxels))
        assert candidate.lung_overlap == pytest.approx(lungs[tuple(voxels.T)].mean())
        assert candidate.box.start == tuple(voxels.min(axis=0))
        assert candidate.box.stop == tuple(voxels.max(axis=0) + 1)
        assert candidate.centroid_voxels == pytest.approx(tuple(voxels.mean(axis=0)))
        assert candidate.centroid_mm == pytest.approx(grid.world_mm(tuple(voxels.mean(axis=0))))


@given(way=st.tuples(*[st.integers(-12, 12)] * 3), size=st.integers(1, 4))
def test_distances_of_large_candidates_far_off_are_exact(way, size):
    grid = Grid(shape=(40, 40, 40), spacing_mm=(2.0, 1.0, 0.7))
    tumor, lungs = np.zeros(grid.shape, dtype=bool), np.zeros(grid.shape, dtype=bool)
    lungs[18:22, 19:21, 18:23] = True
    start = [20 + step - size for step in way]
    tumor[tuple(slice(a, a + 2 * size) for a in start)] = True
    found = measure(tumor.astype(np.int32), grid, lungs, near_mm=3.0)[0]
    rim = brute_force_distances_mm(np.argwhere(surface(tumor)), lungs, grid.spacing_mm)
    everywhere = brute_force_distances_mm(np.argwhere(tumor), lungs, grid.spacing_mm)
    assert found.lung_distance_mm == pytest.approx(everywhere.min())
    assert found.near_surface_share == np.mean(rim <= 3.0 + 1e-6)


def test_sides_are_the_patients_not_the_arrays(chest, layout, tilted):
    in_right, between = (slice(8, 10), slice(8, 10), slice(6, 8)), (slice(8, 11), slice(8, 11), slice(20, 23))
    grid, lungs, tumor = chest(in_right, between, (slice(8, 12), slice(8, 12), slice(34, 38)))
    for given_grid in (grid, tilted(grid)):
        labels = label_candidates(layout.array(tumor), layout.grid(given_grid), MergeSettings(radius_mm=0.0))
        found = measure(labels, layout.grid(given_grid), layout.array(lungs))
        assert [candidate.side for candidate in found] == ["left", "central", "right"]
        assert [candidate.central for candidate in found] == [False, True, False]


def test_the_central_zone_runs_left_to_right_not_foot_to_head(chest):
    at_the_side, at_the_top = (slice(11, 13), slice(8, 10), slice(6, 8)), (slice(22, 24), slice(8, 10), slice(20, 24))
    grid, lungs, tumor = chest(at_the_side, at_the_top)
    found = measure(label_candidates(tumor, grid, MergeSettings(radius_mm=0.0)), grid, lungs)
    assert [(candidate.central, candidate.touches_border) for candidate in found] == [(True, True), (False, False)]


def test_maps_are_summed_up_per_candidate():
    labels = np.array([[[1, 1, 0, 2]]], dtype=np.int32)
    grid = Grid(shape=labels.shape, spacing_mm=(1.0, 1.0, 1.0))
    first, second = measure(labels, grid, probability=np.array([[[0.5, 1.0, 0.9, 0.25]]], dtype=np.float32))
    assert (first.mean_probability, first.max_probability) == (0.75, 1.0)
    assert (second.mean_probability, second.max_probability) == (0.25, 0.25)
    uncertainty = np.array([[[0.125, 0.25, np.nan, 0.5]]], dtype=np.float32)
    found = measure_candidates(labels, grid, None, uncertainty=uncertainty)
    assert [candidate.mean_uncertainty for candidate in found] == [0.1875, 0.5]
    assert found[0].mean_probability is None


@pytest.mark.parametrize("name", ["probability", "uncertainty"])
def test_a_map_without_a_number_inside_a_candidate_is_refused(name):
    labels = np.array([[[1, 2]]], dtype=np.int32)
    grid = Grid(shape=labels.shape, spacing_mm=(1.0, 1.0, 1.0))
    with pytest.raises(InputImageError, match=f"{name} map, candidate 2"):
        measure_candidates(labels, grid, None, **{name: np.array([[[0.5, np.nan]]], dtype=np.float32)})


def test_what_needs_lungs_is_none_without_them():
    only = measure(np.ones((1, 1, 1), dtype=np.int32), Grid(shape=(1, 1, 1), spacing_mm=(1.0, 1.0, 1.0)))[0]
    assert (only.lung_overlap, only.lung_distance_mm, only.near_surface_share, only.side) == (None,) * 4
    assert (only.central, only.mean_probability) == (False, None)


def test_empty_lungs_are_no_reference():
    grid = Grid(shape=(2, 2, 2), spacing_mm=(1.0, 1.0, 1.0))
    with pytest.raises(EmptyLungsError, match="empty"):
        LungReference.of(np.zeros(grid.shape, dtype=bool), grid, near_mm=5.0, central_share=0.5)


def test_a_candidate_is_plain_json(chest):
    grid, lungs, tumor = chest((slice(8, 10), slice(8, 10), slice(6, 8)))
    candidate = measure(label_candidates(tumor, grid, MergeSettings()), grid, lungs)[0]
    plain = json.loads(json.dumps(candidate.to_record().to_json()))
    assert plain["box"] == {"start": [8, 8, 6], "stop": [10, 10, 8]}
    assert plain["verdict"] == {"kept": False, "rule": "unjudged", "reason": "no rule has judged it yet"}
    assert plain["centroid_mm"] == [6.5, 8.5, 8.5]
    assert plain["centroid_voxels"] == [8.5, 8.5, 6.5]
    assert (plain["volume_mm3"], plain["volume_ml"]) == (8.0, 0.008)
    assert set(plain) == {*type(candidate).__slots__, "volume_ml"}
    with pytest.raises(SettingsError, match="0 voxels"):
        replace(candidate, voxels=0)
