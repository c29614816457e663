import numpy as np
import pytest

from nnunet_cascade.errors import LungMaskError
from nnunet_cascade.geometry import Box, Grid
from nnunet_cascade.images import Volume
from nnunet_cascade.postprocessing.lungs.result import LEFT, RIGHT
from nnunet_cascade.postprocessing.lungs.source import LungSource, find_lungs
from nnunet_cascade.postprocessing.lungs.upright import Upright


def dice(a, b) -> float:
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def lungs_of(ct):
    return find_lungs(ct, LungSource(), case="drawn")


def test_both_lungs_are_found_and_told_apart_in_any_layout(thorax, layout):
    ct = Volume(layout.array(thorax.ct.array), layout.grid(thorax.ct.grid))
    found = lungs_of(ct)
    assert dice(found.labels == RIGHT, layout.array(thorax.right)) > 0.97
    assert dice(found.labels == LEFT, layout.array(thorax.left)) > 0.97
    assert found.flags == ()
    assert found.source == "threshold"


def test_an_oblique_scan_has_the_same_lungs(thorax, tilted):
    found = lungs_of(Volume(thorax.ct.array, tilted(thorax.ct.grid)))
    np.testing.assert_array_equal(found.labels, lungs_of(thorax.ct).labels)


def test_trachea_bowel_gas_and_outside_are_not_lung(thorax):
    found = lungs_of(thorax.ct)
    stray = found.mask & ~(thorax.right | thorax.left)
    assert np.count_nonzero(stray & (thorax.ct.array < -500)) == 0


def test_volume_is_in_millilitres(thorax):
    found = lungs_of(thorax.ct)
    assert found.volume_ml == pytest.approx(np.count_nonzero(found.mask) * 4.0 * 3.5 * 3.5 / 1000)


def test_vessels_and_a_tumor_within_the_lung_are_lung(thorax):
    array = thorax.ct.array.copy()
    tumor = np.zeros(array.shape, dtype=bool)
    tumor[36:40, 40:44, 30:34] = True
    array[tumor] = 30.0
    assert lungs_of(Volume(array, thorax.ct.grid)).mask[tumor].all()


def test_a_walled_cavity_high_in_the_lung_is_lung(thorax):
    array = thorax.ct.array.copy()
    z, y, x = np.meshgrid(*(np.arange(size) for size in array.shape), indexing="ij")
    from_centre_mm = np.sqrt(((z - 48) * 4.0) ** 2 + ((y - 42) * 3.5) ** 2 + ((x - 30) * 3.5) ** 2)
    array[from_centre_mm < 20] = 30.0
    array[from_centre_mm < 14] = -1000.0
    assert lungs_of(Volume(array, thorax.ct.grid)).mask[from_centre_mm < 14].all()


def test_lung_that_a_crop_leaves_open_is_found(thorax):
    block = Box((5, 24, 20), (65, 72, 90))
    ct = Volume(thorax.ct.array[block.slices], thorax.ct.grid.cropped(block))
    found = lungs_of(ct)
    assert dice(found.mask, (thorax.right | thorax.left)[block.slices]) > 0.95


def test_foam_outside_the_body_is_not_lung(thorax):
    array = thorax.ct.array.copy()
    array[10:60, 76:86, 20:90] = -850.0
    found = lungs_of(Volume(array, thorax.ct.grid))
    assert not found.mask[:, 77:].any()


def test_touching_lungs_are_parted(thorax):
    array = thorax.ct.array.copy()
    array[35:40, 20:24, 40:70] = -850.0
    found = lungs_of(Volume(array, thorax.ct.grid))
    assert dice(found.labels == RIGHT, thorax.right) > 0.95
    assert dice(found.labels == LEFT, thorax.left) > 0.95


def test_a_single_lung_takes_its_side_and_is_flagged(thorax):
    array = thorax.ct.array.copy()
    array[thorax.left] = 30.0
    found = lungs_of(Volume(array, thorax.ct.grid))
    assert np.unique(found.labels).tolist() == [0, RIGHT]
    assert found.flags == ("one_lung_small",)


@pytest.mark.parametrize("value", [-1000.0, 30.0])
def test_a_ct_without_lungs_is_refused_politely(value):
    grid = Grid(shape=(12, 20, 20), spacing_mm=(5.0, 5.0, 5.0))
    with pytest.raises(LungMaskError, match="looks like lung"):
        lungs_of(Volume(np.full(grid.shape, value, dtype=np.float32), grid))


def test_the_ct_is_left_unchanged(thorax):
    before = thorax.ct.array.copy()
    lungs_of(thorax.ct)
    np.testing.assert_array_equal(thorax.ct.array, before)


def test_the_working_grid_averages_blocks_and_keeps_thick_slices():
    grid = Grid(shape=(3, 5, 4), spacing_mm=(3.0, 1.0, 1.0))
    array = np.arange(60, dtype=np.float32).reshape(grid.shape)
    upright = Upright.of(grid, about_mm=2.0)
    coarse = upright.coarse(Volume(array, grid))
    assert upright.spacing_mm == (3.0, 2.0, 2.0)
    assert coarse.shape == (3, 3, 2)
    assert coarse[0, 0, 0] == array[0, :2, :2].mean()
    assert coarse[0, 2, 1] == array[0, 4, 2:].mean()


def test_going_to_the_working_grid_and_back_returns_to_the_same_voxels(layout):
    grid = Grid(shape=(2, 6, 4), spacing_mm=(3.0, 1.0, 1.0))
    labels = np.kron(np.arange(12).reshape(2, 3, 2), np.ones((1, 2, 2))).astype(np.uint8)
    laid, laid_grid = layout.array(labels), layout.grid(grid)
    upright = Upright.of(laid_grid, about_mm=2.0)
    coarse = upright.coarse(Volume(laid.astype(np.float32), laid_grid))
    np.testing.assert_array_equal(upright.fine(coarse.astype(np.uint8)), laid)
