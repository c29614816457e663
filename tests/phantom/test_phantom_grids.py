import math

import numpy as np
import pytest

from nnunet_cascade.geometry import Grid
from nnunet_cascade.phantom.settings import PhantomSettings
from nnunet_cascade.phantom.thorax import make_phantom

MASKS = ("tumors", "lungs", "heart", "distractors")
SEED = 21
ROUNDING_VOXELS = 2  # float32 sums may round otherwise along another axis, where a centre lies on a surface


@pytest.mark.parametrize("orientation", ["RAS", "LPI", "SAR", "PSL"])
def test_a_flipped_or_permuted_grid_holds_the_same_patient(phantom_of, as_lps, orientation):
    straight, turned = phantom_of(SEED, tumors=(2, 2)), phantom_of(SEED, tumors=(2, 2), orientation=orientation)
    for name in MASKS:
        differing = as_lps(getattr(turned, name), turned.grid) != getattr(straight, name)
        assert np.count_nonzero(differing) <= ROUNDING_VOXELS
    np.testing.assert_allclose(as_lps(turned.ct, turned.grid), straight.ct, atol=1)
    assert turned.tumor_facts == straight.tumor_facts


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "IPL", "PLI"])
def test_the_left_lung_lies_at_the_patient_s_left(phantom_of, as_lps, orientation):
    phantom = phantom_of(SEED, orientation=orientation)
    lungs, heart = as_lps(phantom.lungs, phantom.grid), as_lps(phantom.heart, phantom.grid)
    left, right = (np.argwhere(lungs == label)[:, 2].mean() for label in (2, 1))
    assert left > np.argwhere(heart)[:, 2].mean() > (lungs.shape[2] - 1) / 2 > right


@pytest.mark.parametrize("spacing_mm", [(3.0, 3.0, 3.0), (8.0, 4.0, 4.0), (4.0, 4.0, 7.0)])
def test_volumes_do_not_depend_on_the_voxels(phantom_of, litres_of, spacing_mm):
    coarse, other = phantom_of(SEED, tumors=(2, 2)), phantom_of(SEED, tumors=(2, 2), spacing_mm=spacing_mm)
    for name, tolerance in (("lungs", 0.02), ("heart", 0.02), ("tumors", 0.15), ("distractors", 0.1)):
        expected = litres_of(getattr(coarse, name), coarse.grid)
        assert litres_of(getattr(other, name), other.grid) == pytest.approx(expected, rel=tolerance)


def test_an_oblique_grid_holds_the_same_patient(phantom_of, litres_of):
    straight = phantom_of(SEED)
    c, s = math.cos(math.radians(12)), math.sin(math.radians(12))
    axes = ((0.0, -s, c), (0.0, c, s), (1.0, 0.0, 0.0))
    half = np.array([29.5, 29.5, 30.5]) * 6
    x, y, z = -(half @ np.array(axes))
    grid = Grid(shape=(60, 60, 62), spacing_mm=(6.0, 6.0, 6.0), origin_mm=(x, y, z), axes=axes)
    oblique = make_phantom(SEED, PhantomSettings(noise_hu=0.0), grid=grid)
    assert oblique.grid is grid
    for name in ("lungs", "heart"):
        expected = litres_of(getattr(straight, name), straight.grid)
        assert litres_of(getattr(oblique, name), grid) == pytest.approx(expected, rel=0.02)


def test_a_grid_beside_the_patient_holds_air(phantom_of):
    far = Grid(shape=(4, 4, 4), spacing_mm=(5.0, 5.0, 5.0), origin_mm=(900.0, 900.0, 0.0))
    phantom = make_phantom(SEED, PhantomSettings(noise_hu=0.0), grid=far)
    assert (phantom.ct == -1000).all()
    assert not phantom.lungs.any()
    assert phantom.distractor_facts == phantom_of(SEED).distractor_facts


def test_a_shorter_scan_is_a_part_of_the_longer_one(phantom_of):
    whole = phantom_of(SEED)
    grid = Grid(
        shape=(10, *whole.grid.shape[1:]), spacing_mm=whole.grid.spacing_mm, origin_mm=whole.grid.world_mm((20, 0, 0))
    )
    part = make_phantom(SEED, PhantomSettings(noise_hu=0.0), grid=grid)
    np.testing.assert_array_equal(part.lungs, whole.lungs[20:30])
    np.testing.assert_allclose(part.ct, whole.ct[20:30], atol=1)
