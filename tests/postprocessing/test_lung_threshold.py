"""Lungs by threshold are found, and stay where they are when a CT is noisy, cropped, shifted, leaking or long."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from nnunet_cascade.errors import LungMaskError
from nnunet_cascade.geometry import Box, Grid
from nnunet_cascade.images import Volume
from nnunet_cascade.postprocessing.lungs.regions import distance_mm, distances_mm
from nnunet_cascade.postprocessing.lungs.result import LEFT, RIGHT
from nnunet_cascade.postprocessing.lungs.threshold import threshold_lungs
from nnunet_cascade.postprocessing.lungs.upright import Upright

RIGHT_EDGE, LEFT_EDGE = 15, 93  # the lungs' outermost columns of the drawn thorax
OPEN = Box((0, 21, RIGHT_EDGE + 4), (70, 64, LEFT_EDGE - 3))


def dice(a, b) -> float:
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


@pytest.fixture
def changed(thorax):
    """The lungs that are found where parts of the thorax have other values."""

    def find(*changes):
        array = thorax.ct.array.copy()
        for place, value in changes:
            array[place] = value
        return threshold_lungs(Volume(array, thorax.ct.grid))

    return find


def cropped(thorax, box):
    return threshold_lungs(Volume(thorax.ct.array[box.slices], thorax.ct.grid.cropped(box)))


def test_both_lungs_are_found_and_told_apart_in_any_layout(thorax, layout):
    ct = Volume(layout.array(thorax.ct.array), layout.grid(thorax.ct.grid))
    before = ct.array.copy()
    found = threshold_lungs(ct)
    assert dice(found.labels == RIGHT, layout.array(thorax.right)) > 0.97
    assert dice(found.labels == LEFT, layout.array(thorax.left)) > 0.97
    assert (found.flags, found.source) == ((), "threshold")
    stray = found.mask & ~layout.array(thorax.right | thorax.left)  # trachea, bowel gas and outside are none
    assert np.count_nonzero(stray & (ct.array < -500)) == 0
    np.testing.assert_array_equal(ct.array, before)


def test_an_oblique_scan_has_the_same_lungs(thorax, thorax_lungs, tilted):
    found = threshold_lungs(Volume(thorax.ct.array, tilted(thorax.ct.grid)))
    np.testing.assert_array_equal(found.labels, thorax_lungs.labels)


def test_a_tumor_within_the_lung_is_lung(changed):
    tumor = (slice(36, 40), slice(40, 44), slice(30, 34))
    assert changed((tumor, 30.0)).mask[tumor].all()


def test_a_walled_cavity_high_in_the_lung_is_lung(thorax, changed):
    z, y, x = np.indices(thorax.left.shape)
    from_centre_mm = np.sqrt(((z - 48) * 4.0) ** 2 + ((y - 42) * 3.5) ** 2 + ((x - 30) * 3.5) ** 2)
    found = changed((from_centre_mm < 20, 30.0), (from_centre_mm < 14, -1000.0))
    assert found.mask[from_centre_mm < 14].all()


def test_foam_outside_the_body_is_not_lung(changed):
    assert not changed(((slice(10, 60), slice(76, 86), slice(20, 90)), -850.0)).mask[:, 77:].any()


def test_touching_lungs_are_parted(thorax, changed):
    found = changed(((slice(35, 40), slice(20, 24), slice(40, 70)), -850.0))
    assert dice(found.labels == RIGHT, thorax.right) > 0.95
    assert dice(found.labels == LEFT, thorax.left) > 0.95


def test_a_single_lung_takes_its_side_and_is_flagged(thorax, changed):
    found = changed((thorax.left, 30.0))
    assert np.unique(found.labels).tolist() == [0, RIGHT]
    assert found.flags == ("one_lung_small",)


@pytest.mark.parametrize("value", [-1000.0, 30.0])
def test_a_ct_without_lungs_is_refused_politely(value):
    grid = Grid(shape=(12, 20, 20), spacing_mm=(5.0, 5.0, 5.0))
    with pytest.raises(LungMaskError, match="looks like lung"):
        threshold_lungs(Volume(np.full(grid.shape, value, dtype=np.float32), grid))


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


def noise(array):
    return array + np.random.default_rng(1).normal(0, 60, array.shape).astype(np.float32)


@pytest.mark.parametrize(
    "disturb", [noise, lambda hu: hu - 50, lambda hu: hu + 100], ids=["noise of 60 HU", "-50 HU", "+100 HU"]
)
def test_noise_and_a_shifted_scale_change_little(thorax, thorax_lungs, disturb):
    found = threshold_lungs(Volume(disturb(thorax.ct.array), thorax.ct.grid))
    assert dice(found.mask, thorax_lungs.mask) > 0.98
    assert found.flags == ()


@pytest.mark.parametrize(
    "box",
    [
        Box((0, 12, RIGHT_EDGE - 3), (70, 72, LEFT_EDGE + 3)),
        Box((0, 17, RIGHT_EDGE), (70, 68, LEFT_EDGE + 1)),
        OPEN,
        Box((0, 0, 0), (36, 90, 110)),
        Box((36, 0, 0), (70, 90, 110)),
        Box((22, 0, 0), (52, 90, 110)),
    ],
    ids=["10 mm around", "at the lungs", "15 mm into them", "lower half", "upper half", "middle"],
)
def test_a_crop_has_the_lungs_of_the_whole(thorax, thorax_lungs, box):
    assert dice(cropped(thorax, box).mask, thorax_lungs.mask[box.slices]) > 0.98


@pytest.mark.parametrize("start", [48, 54, 58])
def test_half_a_chest_has_one_lung_on_its_own_side(thorax, start):
    for box, side in ((Box((0, 0, start), (70, 90, 110)), LEFT), (Box((0, 0, 0), (70, 90, 108 - start)), RIGHT)):
        found = cropped(thorax, box)
        assert np.unique(found.labels).tolist() == [0, side]
        assert found.flags == ("one_lung_small",)


def test_the_lobes_of_a_single_lung_are_not_taken_for_two_lungs(thorax, changed):
    """The lung that is left crosses the midline, and a fissure parts an upper from a lower part."""
    z, y, x = np.indices(thorax.left.shape)
    lung = (np.abs(x - 54) < 26) & (np.abs(y - 44) < 20) & (np.abs(z - 36) < 28)
    fissure = np.abs((z - 36) - 0.8 * (x - 54)) < 2
    found = changed((thorax.right | thorax.left, 30.0), (lung & ~fissure, -850.0))
    assert found.flags == ("one_lung_small",)


def test_vessels_and_airway_of_a_lung_that_a_crop_leaves_open_are_what_they_are(thorax):
    array, found = thorax.ct.array[OPEN.slices], cropped(thorax, OPEN).mask
    drawn = (thorax.right | thorax.left)[OPEN.slices]
    inner = drawn & np.roll(drawn, 4, 0) & np.roll(drawn, -4, 0) & np.roll(drawn, 4, 2) & np.roll(drawn, -4, 2)
    assert found[inner & (array > 0)].mean() > 0.98
    trachea = ~drawn & (array < -900)
    assert np.count_nonzero(trachea) > 300
    assert not found[trachea].any()


@pytest.mark.parametrize("width", [1, 3])
def test_air_from_the_trachea_to_the_room_is_no_way_out(changed, thorax_lungs, width):
    found = changed(((slice(60, 60 + width), slice(41), slice(54, 54 + width)), -1000.0))
    assert dice(found.mask, thorax_lungs.mask) > 0.98


def test_a_scan_from_head_to_pelvis_has_the_lungs_of_its_chest(thorax, thorax_lungs):
    """Below: a belly with gas in the bowel. Above: a neck with the airway, open to the room at the nose."""
    depth, height, width = thorax.ct.grid.shape
    belly = np.where(thorax.ct.array[:1] < -500, thorax.ct.array[:1], 30.0).repeat(60, axis=0)
    belly[:, 30:54, 25:85] = 30.0
    belly[10:30, 34:44, 40:70] = -1000.0
    neck = np.full((60, height, width), -1000.0, dtype=np.float32)
    neck[:, 22:62, 34:76] = 30.0
    neck[:50, 38:43, 52:57] = -1000.0
    neck[45:50, :40, 52:57] = -1000.0
    array = np.concatenate([belly, thorax.ct.array, neck]).astype(np.float32)
    array += np.random.default_rng(2).normal(0, 10, array.shape).astype(np.float32)
    found = threshold_lungs(Volume(array, Grid(shape=array.shape, spacing_mm=thorax.ct.grid.spacing_mm)))
    assert dice(found.mask[60 : 60 + depth], thorax_lungs.mask) > 0.98
    assert not found.mask[:60].any()
    assert not found.mask[60 + depth :].any()


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (3.0, 0.7, 0.9)])
@given(mask=arrays(np.bool_, st.tuples(*[st.integers(2, 6)] * 3)))
def test_distances_in_masks_are_scipys_to_the_last_bit(mask, spacing_mm):
    mask[0, 0, 0] = False  # else there is nothing to be distant from
    expected = ndimage.distance_transform_edt(mask, sampling=spacing_mm)
    np.testing.assert_array_equal(np.stack(list(distances_mm(mask, spacing_mm))), expected)
    np.testing.assert_array_equal(distance_mm(mask, spacing_mm), expected.astype(np.float32))
