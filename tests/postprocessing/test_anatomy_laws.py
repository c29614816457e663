"""What holds of the anatomy filter whatever the masks are."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from nnunet_cascade.dicom_export.series_geometry import turned_grid
from nnunet_cascade.geometry import AxisTurn, Grid
from nnunet_cascade.postprocessing.anatomy import AnatomySettings, filter_candidates
from nnunet_cascade.postprocessing.measures import LungReference, measure_candidates

FEW = hypothesis_settings(max_examples=50)
SHAPE = (8, 9, 14)
SPACINGS = st.sampled_from([(1.0, 1.0, 1.0), (3.0, 0.7, 0.9), (0.8, 2.0, 1.1)])
BLOCKS = st.lists(
    st.tuples(*(st.tuples(st.integers(0, size - 1), st.integers(1, 5)) for size in SHAPE)), min_size=1, max_size=6
)
SETTINGS = st.builds(
    AnatomySettings,
    merge_radius_mm=st.sampled_from([0.0, 1.0, 2.0]),
    merge_shape=st.sampled_from(["ball", "cube"]),
    min_volume_mm3=st.sampled_from([0.0, 4.0]),
    min_lung_overlap=st.sampled_from([0.2, 0.8]),
    min_lung_overlap_central=st.sampled_from([0.5, 0.9]),
    rescue_distance_mm=st.sampled_from([0.0, 1.5, 4.0]),
    rescue_min_volume_mm3=st.sampled_from([0.0, 15.0]),
    rescue_near_surface_share_central=st.sampled_from([0.0, 0.4]),
    top_k=st.sampled_from([1, 2, "all"]),
    rank_by=st.sampled_from(["volume", "mean_probability", "mean_uncertainty"]),
    keep_best_if_none=st.booleans(),
    min_lungs_ml=st.just(0.0),
)


def drawn(blocks):
    mask = np.zeros(SHAPE, dtype=bool)
    for block in blocks:
        mask[tuple(slice(start, start + size) for start, size in block)] = True
    return mask


def maps(shape):
    """Maps whose means tell all candidates apart, whatever their order in the array."""
    values = np.random.default_rng(1).uniform(0.1, 0.9, (2, *shape)).astype(np.float32)
    return {"probability": values[0], "uncertainty": values[1]}


def judged(candidate):
    return candidate.verdict.rule, candidate.kept


@FEW
@given(tumor=BLOCKS, lungs=BLOCKS, spacing_mm=SPACINGS, settings=SETTINGS)
def test_what_is_kept_is_whole_candidates_of_the_mask(tumor, lungs, spacing_mm, settings):
    tumor, lungs = drawn(tumor), drawn(lungs)
    grid, before = Grid(shape=SHAPE, spacing_mm=spacing_mm), (tumor.copy(), lungs.copy())
    found = filter_candidates(tumor, grid, lungs, settings, **maps(SHAPE))
    kept = found.kept_mask()
    assert not (kept & ~tumor).any()
    assert set(np.unique(found.labels[kept]).tolist()) == {candidate.id for candidate in found.kept}
    assert settings.top_k == "all" or len(found.kept) <= settings.top_k
    assert found.kept or not settings.keep_best_if_none
    assert all(any(letter.isdigit() for letter in candidate.verdict.reason) for candidate in found.candidates)
    np.testing.assert_array_equal(tumor, before[0])
    np.testing.assert_array_equal(lungs, before[1])


@FEW
@given(tumor=BLOCKS, lungs=BLOCKS, spacing_mm=SPACINGS, settings=SETTINGS)
def test_filtering_what_was_kept_keeps_all_of_it(tumor, lungs, spacing_mm, settings):
    grid, lungs = Grid(shape=SHAPE, spacing_mm=spacing_mm), drawn(lungs)
    first = filter_candidates(drawn(tumor), grid, lungs, settings, **maps(SHAPE))
    second = filter_candidates(first.kept_mask(), grid, lungs, settings, **maps(SHAPE))
    np.testing.assert_array_equal(second.kept_mask(), first.kept_mask())
    # A candidate is all that merges: without the others it is measured and judged as with them.
    assert len(second.candidates) == len(first.kept)
    for once, twice in zip(first.kept, second.candidates, strict=True):
        assert replace(twice, id=once.id, verdict=once.verdict) == once
        assert judged(twice) == judged(once)


@FEW
@given(
    tumor=BLOCKS,
    lungs=BLOCKS,
    spacing_mm=SPACINGS,
    settings=SETTINGS,
    order=st.permutations(range(3)),
    flips=st.tuples(*[st.booleans()] * 3),
)
def test_no_layout_of_the_array_changes_a_verdict_or_a_number(tumor, lungs, spacing_mm, settings, order, flips):
    turn = AxisTurn(tuple(order), flips)
    grid = Grid(shape=SHAPE, spacing_mm=spacing_mm, origin_mm=(7.0, -3.0, 2.0))
    tumor, lungs, beside = drawn(tumor), drawn(lungs), maps(SHAPE)
    here = filter_candidates(tumor, grid, lungs, settings, **beside)
    turned = {name: turn.apply(values) for name, values in beside.items()}
    there = filter_candidates(turn.apply(tumor), turned_grid(grid, turn), turn.apply(lungs), settings, **turned)
    np.testing.assert_array_equal(there.labels, turn.apply(here.labels))
    assert there.flags == here.flags
    for one, other in zip(here.candidates, there.candidates, strict=True):
        assert judged(other) == judged(one)
        same = replace(other, box=one.box, centroid_voxels=one.centroid_voxels, verdict=one.verdict)
        for name in type(one).__slots__:
            expected = getattr(one, name)
            exact = name in ("box", "verdict", "side", "stage2", "score", "score_fit")
            assert getattr(same, name) == (expected if exact else pytest.approx(expected, rel=1e-9, abs=1e-9)), name


def share_bounds(labels, grid, lungs, near_mm):
    """Between which shares a candidate's surface lies near a lung, on a grid twice as fine.

    No distance changes by more than a voxel; and of the eight parts of a surface voxel four to eight are surface.
    """
    voxel_mm = float(np.linalg.norm(grid.spacing_mm))
    found = []
    for bound_mm in (near_mm - voxel_mm, near_mm + voxel_mm):
        reference = LungReference.of(lungs, grid, near_mm=bound_mm, central_share=0.5)
        found.append([candidate.near_surface_share for candidate in measure_candidates(labels, grid, reference)])
    return [(low / (2 - low), 2 * high / (1 + high)) for low, high in zip(*found, strict=True)]


@FEW
@given(tumor=BLOCKS, lungs=BLOCKS, spacing_mm=SPACINGS, settings=SETTINGS, near_mm=st.sampled_from([4.0, 6.0]))
def test_twice_as_fine_a_grid_changes_no_verdict_but_within_a_voxel_of_a_threshold(
    tumor, lungs, spacing_mm, settings, near_mm
):
    settings = replace(
        settings, merge_radius_mm=0.0, top_k="all", keep_best_if_none=False, rescue_distance_mm=near_mm + 3.0
    )
    tumor, lungs = drawn(tumor), drawn(lungs)
    coarse = Grid(shape=SHAPE, spacing_mm=spacing_mm)
    fine = Grid(
        shape=tuple(2 * size for size in SHAPE),
        spacing_mm=tuple(size / 2 for size in spacing_mm),
        origin_mm=coarse.world_mm((-0.25, -0.25, -0.25)),
    )
    here = filter_candidates(tumor, coarse, lungs, settings)
    there = filter_candidates(refined(tumor), fine, refined(lungs), settings)
    np.testing.assert_array_equal(there.labels, refined(here.labels))
    voxel_mm = np.linalg.norm(spacing_mm)
    bounds = share_bounds(here.labels, coarse, lungs, settings.rescue_distance_mm)
    for one, other, (low, high) in zip(here.candidates, there.candidates, bounds, strict=True):
        assert other.volume_mm3 == pytest.approx(one.volume_mm3)
        assert (other.lung_overlap, other.side) == (one.lung_overlap, one.side)
        assert other.centroid_mm == pytest.approx(one.centroid_mm)
        assert abs(other.lung_distance_mm - one.lung_distance_mm) <= voxel_mm
        assert low - 1e-9 <= other.near_surface_share <= high + 1e-9
        unsettled = low <= settings.rescue_near_surface_share_central <= high and one.central
        if abs(one.lung_distance_mm - settings.rescue_distance_mm) > voxel_mm and not unsettled:
            assert judged(other) == judged(one)


def refined(array):
    for axis in range(3):
        array = array.repeat(2, axis=axis)
    return array


@FEW
@given(
    tumor=BLOCKS, lungs=BLOCKS, spacing_mm=SPACINGS, settings=SETTINGS, axis=st.integers(0, 2), size=st.integers(1, 5)
)
def test_a_far_component_changes_no_other_verdict(tumor, lungs, spacing_mm, settings, axis, size):
    settings = replace(settings, top_k="all", keep_best_if_none=False)
    gap = int(np.ceil(2 * settings.merge_radius_mm / spacing_mm[axis])) + 2
    wider = [(0, gap + size if n == axis else 0) for n in range(3)]
    tumor, lungs = drawn(tumor), drawn(lungs)
    alone = filter_candidates(tumor, Grid(shape=SHAPE, spacing_mm=spacing_mm), lungs, settings)
    more = np.pad(tumor, wider)
    more.swapaxes(0, axis)[-size:] = True
    found = filter_candidates(more, Grid(shape=more.shape, spacing_mm=spacing_mm), np.pad(lungs, wider), settings)
    assert len(found.candidates) == len(alone.candidates) + 1
    for candidate in alone.candidates:
        z, y, x = np.argwhere(alone.labels == candidate.id)[0]
        other = found.candidates[found.labels[z, y, x] - 1]
        assert other.verdict == candidate.verdict
        assert other.voxels == candidate.voxels
