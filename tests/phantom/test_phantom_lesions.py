import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from nnunet_cascade.geometry import Grid
from nnunet_cascade.phantom.canvas import Canvas, label_regions
from nnunet_cascade.phantom.lesions import draw_lesion
from nnunet_cascade.phantom.patient import draw_patient
from nnunet_cascade.phantom.placement import draw_distractors, draw_tumors
from nnunet_cascade.phantom.settings import PhantomSettings

VOXELS = ((2.0, 2.0, 2.0), (3.0, 3.0, 3.0), (4.0, 1.5, 1.5))


def grid_about_origin(spacing_mm, half_mm=60.0):
    shape = tuple(int(2 * half_mm / size) for size in spacing_mm)
    z, y, x = (-(n - 1) / 2 * size + 0.3 for n, size in zip(shape, spacing_mm, strict=True))
    return Grid(shape=shape, spacing_mm=spacing_mm, origin_mm=(x, y, z))


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), radius=st.floats(8, 20), flat=st.booleans(), voxels=st.sampled_from(VOXELS))
def test_the_label_has_the_volume_of_the_continuous_shape(seed, radius, flat, voxels):
    lesion = draw_lesion(np.random.default_rng(seed), (0.0, 0.0, 0.0), radius, flat=flat)
    grid = grid_about_origin(voxels)
    volume = label_regions(grid, [lesion.region()]).sum() * grid.voxel_volume_mm3
    assert volume == pytest.approx(lesion.volume_mm3, rel=0.1)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**31), radius=st.floats(8, 20))
def test_the_surface_points_lie_on_the_surface(seed, radius):
    lesion = draw_lesion(np.random.default_rng(seed), (10.0, -20.0, 30.0), radius)
    surface = lesion.surface_mm()
    assert np.linalg.norm(surface - lesion.center_mm, axis=1).max() <= lesion.reach_mm
    fine = Grid(shape=(1, 1, 1), spacing_mm=(1.0, 1.0, 1.0))
    for point in surface[::40]:
        for share, inside in ((0.98, 1), (1.02, 0)):
            x, y, z = lesion.center_mm + share * (point - lesion.center_mm)
            there = Grid(shape=fine.shape, spacing_mm=fine.spacing_mm, origin_mm=(x, y, z))
            assert label_regions(there, [lesion.region()])[0, 0, 0] == inside


@pytest.mark.parametrize("voxels", VOXELS)
def test_partial_volumes_add_up_to_the_volume(voxels):
    lesion = draw_lesion(np.random.default_rng(3), (0.0, 0.0, 0.0), 15.0)
    grid = grid_about_origin(voxels)
    canvas = Canvas(np.zeros(grid.shape, dtype=np.float32), grid)
    canvas.paint(lesion.region(), 1.0)
    assert ((canvas.ct > 0.01) & (canvas.ct < 0.99)).any()
    assert canvas.ct.sum() * grid.voxel_volume_mm3 == pytest.approx(lesion.volume_mm3, rel=0.08)


def test_every_kind_occurs_and_counts_fill_their_ranges():
    kinds, counts, distractors = Counter(), Counter(), Counter()
    wanted = PhantomSettings(tumors=(0, 2), distractors=(2, 6))
    for seed in range(600, 620):
        patient = draw_patient(seed)
        tumors = draw_tumors(seed, patient, wanted)
        kinds.update(placed.kind for placed in tumors)
        counts[len(tumors)] += 1
        distractors.update(placed.kind for placed in draw_distractors(seed, patient, wanted, tumors))
    assert set(kinds) == {"lung", "pleura", "hilum"}
    assert set(counts) == {0, 1, 2}
    assert set(distractors) == {"node", "soft", "bowel", "atelectasis"}


@pytest.fixture
def crowded(phantom_of):
    return lambda seed: phantom_of(seed, spacing_mm=(4.0, 4.0, 4.0), tumors=(1, 3), distractors=(5, 8))


@pytest.mark.parametrize("seed", range(640, 643))
def test_half_of_the_distractors_reach_a_lung_and_the_others_are_far(crowded, seed):
    phantom = crowded(seed)
    to_lung = ndimage.distance_transform_edt(phantom.lungs == 0, phantom.grid.spacing_mm)
    facts = phantom.distractor_facts
    assert sum(fact.touching for fact in facts) == len(facts) // 2
    for fact in facts:
        nearest = to_lung[phantom.distractors == fact.label].min()
        assert nearest <= 4 if fact.touching else nearest > 9


@pytest.mark.parametrize("seed", range(640, 643))
def test_each_tumour_lies_where_its_kind_says(crowded, seed):
    phantom = crowded(seed)
    assert all(fact.touching for fact in phantom.tumor_facts)
    for fact in phantom.tumor_facts:
        tumor = phantom.tumors == fact.label
        share = np.count_nonzero(phantom.lungs[tumor]) / np.count_nonzero(tumor)
        assert share == 1 if fact.kind == "lung" else 0 < share < 1
        assert np.count_nonzero(tumor) * phantom.grid.voxel_volume_mm3 == pytest.approx(fact.volume_mm3, rel=0.15)


def test_no_two_lesions_touch(phantom_of):
    phantom = phantom_of(650, spacing_mm=(4.0, 4.0, 4.0), tumors=(3, 3), distractors=(8, 8))
    labels = np.where(phantom.tumors > 0, phantom.tumors, np.where(phantom.distractors > 0, phantom.distractors + 3, 0))
    grown = [ndimage.binary_dilation(labels == label, np.ones((3, 3, 3))) for label in range(1, 12)]
    for (one, area), (other, _) in itertools.permutations(enumerate(grown, start=1), 2):
        assert other not in labels[area], (one, other)


def test_a_phantom_may_have_no_tumour_and_no_distractor(phantom_of):
    phantom = phantom_of(651, tumors=(0, 0), distractors=(0, 0))
    assert not phantom.tumors.any()
    assert not phantom.distractors.any()
    assert phantom.tumor_facts == phantom.distractor_facts == ()
    assert phantom.lungs.any()
