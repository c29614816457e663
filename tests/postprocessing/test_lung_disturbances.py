"""Lungs by threshold stay where they are when a CT is noisy, cropped, shifted, leaking or long."""

import numpy as np
import pytest

from nnunet_cascade.geometry import Box, Grid
from nnunet_cascade.images import Volume
from nnunet_cascade.postprocessing.lungs.result import LEFT, RIGHT
from nnunet_cascade.postprocessing.lungs.threshold import threshold_lungs

RIGHT_EDGE, LEFT_EDGE = 15, 93  # the lungs' outermost columns of the drawn thorax


def dice(a, b) -> float:
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


@pytest.fixture(scope="module")
def undisturbed(thorax):
    return threshold_lungs(thorax.ct)


def noise(array):
    return array + np.random.default_rng(1).normal(0, 60, array.shape).astype(np.float32)


@pytest.mark.parametrize(
    "disturb", [noise, lambda hu: hu - 50, lambda hu: hu + 100], ids=["noise of 60 HU", "-50 HU", "+100 HU"]
)
def test_noise_and_a_shifted_scale_change_little(thorax, undisturbed, disturb):
    found = threshold_lungs(Volume(disturb(thorax.ct.array), thorax.ct.grid))
    assert dice(found.mask, undisturbed.mask) > 0.98
    assert found.flags == ()


@pytest.mark.parametrize(
    "box",
    [
        Box((0, 12, RIGHT_EDGE - 3), (70, 72, LEFT_EDGE + 3)),
        Box((0, 17, RIGHT_EDGE), (70, 68, LEFT_EDGE + 1)),
        Box((0, 21, RIGHT_EDGE + 4), (70, 64, LEFT_EDGE - 3)),
        Box((0, 0, 0), (36, 90, 110)),
        Box((36, 0, 0), (70, 90, 110)),
        Box((22, 0, 0), (52, 90, 110)),
    ],
    ids=["10 mm around", "at the lungs", "15 mm into them", "lower half", "upper half", "middle"],
)
def test_a_crop_has_the_lungs_of_the_whole(thorax, undisturbed, box):
    found = threshold_lungs(Volume(thorax.ct.array[box.slices], thorax.ct.grid.cropped(box)))
    assert dice(found.mask, undisturbed.mask[box.slices]) > 0.98


@pytest.mark.parametrize("start", [48, 54, 58])
def test_half_a_chest_has_one_lung_on_its_own_side(thorax, start):
    for box, side in ((Box((0, 0, start), (70, 90, 110)), LEFT), (Box((0, 0, 0), (70, 90, 108 - start)), RIGHT)):
        found = threshold_lungs(Volume(thorax.ct.array[box.slices], thorax.ct.grid.cropped(box)))
        assert np.unique(found.labels).tolist() == [0, side]
        assert found.flags == ("one_lung_small",)


def test_the_lobes_of_a_single_lung_are_not_taken_for_two_lungs(thorax):
    """The lung that is left crosses the midline, and a fissure parts an upper from a lower part."""
    z, y, x = np.indices(thorax.left.shape)
    lung = (np.abs(x - 54) < 26) & (np.abs(y - 44) < 20) & (np.abs(z - 36) < 28)
    fissure = np.abs((z - 36) - 0.8 * (x - 54)) < 2
    array = np.where(thorax.right | thorax.left, 30.0, thorax.ct.array).astype(np.float32)
    array[lung & ~fissure] = -850.0
    found = threshold_lungs(Volume(array, thorax.ct.grid))
    assert found.flags == ("one_lung_small",)


def test_vessels_and_airway_of_a_lung_that_a_crop_leaves_open_are_what_they_are(thorax):
    box = Box((0, 21, RIGHT_EDGE + 4), (70, 64, LEFT_EDGE - 3))
    array = thorax.ct.array[box.slices]
    found = threshold_lungs(Volume(array, thorax.ct.grid.cropped(box))).mask
    drawn = (thorax.right | thorax.left)[box.slices]
    inner = drawn & np.roll(drawn, 4, 0) & np.roll(drawn, -4, 0) & np.roll(drawn, 4, 2) & np.roll(drawn, -4, 2)
    assert found[inner & (array > 0)].mean() > 0.98
    trachea = ~drawn & (array < -900)
    assert np.count_nonzero(trachea) > 300
    assert not found[trachea].any()


@pytest.mark.parametrize("width", [1, 3])
def test_air_from_the_trachea_to_the_room_is_no_way_out(thorax, undisturbed, width):
    array = thorax.ct.array.copy()
    array[60 : 60 + width, :41, 54 : 54 + width] = -1000.0
    found = threshold_lungs(Volume(array, thorax.ct.grid))
    assert dice(found.mask, undisturbed.mask) > 0.98


def test_a_scan_from_head_to_pelvis_has_the_lungs_of_its_chest(thorax, undisturbed):
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
    assert dice(found.mask[60 : 60 + depth], undisturbed.mask) > 0.98
    assert not found.mask[:60].any()
    assert not found.mask[60 + depth :].any()
