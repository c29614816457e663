import numpy as np
import pytest
from scipy import ndimage

from nnunet_cascade.geometry import Grid
from nnunet_cascade.images import require_ct
from nnunet_cascade.phantom.chest import body
from nnunet_cascade.phantom.patient import draw_patient
from nnunet_cascade.phantom.points import points_of
from nnunet_cascade.phantom.settings import PhantomSettings
from nnunet_cascade.phantom.thorax import make_phantom


@pytest.fixture(params=(500, 501, 502))
def phantom(request, phantom_of):
    return phantom_of(request.param, spacing_mm=(4.0, 4.0, 4.0), tumors=(1, 2))


@pytest.fixture
def core_values():
    """Give the values of a mask's voxels that have no neighbour outside: `core_values(ct, mask)`."""
    return lambda ct, mask: ct[ndimage.binary_erosion(mask, np.ones((3, 3, 3)))]


def test_values_are_whole_hounsfield_units_of_a_ct(phantom):
    assert phantom.ct.dtype == np.float32
    np.testing.assert_array_equal(phantom.ct, np.rint(phantom.ct))
    assert phantom.ct.min() >= -1024
    require_ct(phantom.ct, name="phantom")


def test_each_tissue_has_its_hounsfield_units(phantom, core_values):
    lesions = (phantom.tumors > 0) | (phantom.distractors > 0)
    assert -870 < np.median(phantom.ct[(phantom.lungs > 0) & ~lesions]) < -750
    assert np.median(core_values(phantom.ct, phantom.heart & ~lesions)) == pytest.approx(45, abs=5)
    inside = phantom.ct[(phantom.ct > -130) & (phantom.ct < 120)]
    fat, soft = np.count_nonzero(np.abs(inside + 100) < 15), np.count_nonzero(np.abs(inside - 50) < 25)
    assert fat > 0.1 * inside.size
    assert soft > 0.2 * inside.size


def test_bone_has_a_hard_shell_and_marrow():
    slab = Grid(shape=(16, 180, 248), spacing_mm=(1.5, 1.5, 1.5), origin_mm=(-185.25, -134.25, 0.0))
    ct = make_phantom(500, PhantomSettings(noise_hu=0.0, distractors=(0, 0)), grid=slab).ct
    assert 400 < np.percentile(ct[ct > 150], 97) < 700
    assert np.count_nonzero(np.abs(ct - 200) < 10) > 0.15 * np.count_nonzero(ct > 150)


def test_tumours_and_solid_distractors_share_one_range(phantom, core_values):
    solid = [(phantom.tumors, fact) for fact in phantom.tumor_facts]
    solid += [(phantom.distractors, fact) for fact in phantom.distractor_facts if fact.kind != "bowel"]
    for labels, fact in solid:
        values = core_values(phantom.ct, labels == fact.label)
        if values.size:
            assert 0 < np.median(values) < 80


def test_bowel_holds_gas(phantom_of):
    for seed in range(500, 510):
        phantom = phantom_of(seed, spacing_mm=(4.0, 4.0, 4.0))
        for fact in phantom.distractor_facts:
            if fact.kind == "bowel" and fact.volume_mm3 > 8000:
                assert phantom.ct[phantom.distractors == fact.label].min() < -700
                return
    pytest.fail("no bowel in ten phantoms")


def test_the_trachea_reaches_the_top_of_the_volume(phantom):
    gas, _ = ndimage.label(phantom.ct[-1] < -700)
    inside = set(np.unique(gas[:, phantom.ct.shape[2] // 2])) - {0, gas[0, 0], gas[-1, 0]}
    assert any(80 < np.count_nonzero(gas == label) * 16 < 500 for label in inside)


def test_the_table_is_apart_from_the_body(phantom):
    solid, count = ndimage.label(phantom.ct > -500)
    sizes = sorted((np.count_nonzero(solid == label), label) for label in range(1, count + 1))
    trunk = sizes[-1][1]
    back = np.argwhere(solid == trunk)[:, 1].max()
    table = np.argwhere((phantom.ct > -800) & (solid != trunk))
    assert (table[:, 1] > back).any()
    gap = phantom.ct[:, back + 1 : back + 3].min(axis=1)
    assert (gap < -800).all()


def test_a_threshold_for_air_inside_the_body_finds_the_lungs(phantom):
    patient = draw_patient(phantom.seed)
    index = np.indices(phantom.ct.shape).reshape(3, -1).T * np.array(phantom.grid.spacing_mm)
    positions = index @ np.array(phantom.grid.axes) + np.array(phantom.grid.origin_mm)
    inside = body(patient).distance_mm(points_of(positions)).reshape(phantom.ct.shape) < -5
    air, _ = ndimage.label((phantom.ct < -400) & inside)
    sizes = np.bincount(air.ravel())[1:]
    found = np.isin(air, np.flatnonzero(sizes > 0.2 * sizes.max()) + 1)
    lungs = phantom.lungs > 0
    dice = 2 * np.count_nonzero(found & lungs) / (np.count_nonzero(found) + np.count_nonzero(lungs))
    assert dice > 0.88
