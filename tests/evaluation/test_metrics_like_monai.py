"""Every metric that MONAI has, too, on random, degenerate and real masks; where it differs, how."""

import math

import numpy as np
import pytest
from builders.monai_reference import COMMON, monai_nsd_by_area, monai_scores
from scipy import ndimage

from nnunet_cascade.dicom.ct.reading import read_ct_series, stack_files
from nnunet_cascade.dicom.folder import index_folder
from nnunet_cascade.dicom.rtstruct.rasterizing import rasterize
from nnunet_cascade.dicom.rtstruct.reading import read_structure_set
from nnunet_cascade.evaluation.case import score_case
from nnunet_cascade.geometry import Box

SPACING_MM = (3.0, 0.977, 0.977)
MILLILITER_MM3 = 1000.0


def assert_equal(truth, prediction, spacing_mm):
    score = score_case("a", truth, prediction, spacing_mm)
    expected = monai_scores(truth, prediction, spacing_mm)
    assert {name: getattr(score, name) for name in COMMON} == pytest.approx(
        {name: expected[name] for name in COMMON}, rel=1e-6, abs=1e-6
    )
    difference_ml = expected["volume_difference_voxels"] * math.prod(spacing_mm) / MILLILITER_MM3
    assert abs(score.volume_error_ml) == pytest.approx(difference_ml, rel=1e-6, abs=1e-9)


class TestRandomMasks:
    @pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), SPACING_MM, (1.25, 0.7, 2.0)])
    @pytest.mark.parametrize("seed", range(2))
    @pytest.mark.parametrize("density", [0.002, 0.05, 0.6])
    def test_noise_around_two_boxes(self, density, seed, spacing_mm):
        rng = np.random.default_rng(seed)
        truth, prediction = (rng.random((12, 20, 16)) < density for _ in range(2))
        truth[2:6, 4:12, 5:9] = True
        prediction[3:7, 5:12, 3:9] = True
        assert_equal(truth, prediction, spacing_mm)

    def test_smooth_blobs_with_islands_far_away(self):
        rng = np.random.default_rng(0)
        field = ndimage.gaussian_filter(rng.normal(size=(2, 24, 80, 90)), (0, 2, 5, 5))
        truth, prediction = field[0] > 0.05, field[0] + 0.3 * field[1] > 0.06
        assert_equal(truth, prediction, SPACING_MM)


def one_voxel(*places):
    mask = np.zeros((4, 9, 8), dtype=bool)
    for place in places:
        mask[place] = True
    return mask


PLATE, LINE = one_voxel((1,)), one_voxel((2, 3))
CHECKERS = np.indices((4, 9, 8)).sum(axis=0) % 2 == 0
FULL = np.ones((4, 9, 8), dtype=bool)
SHELL = FULL.copy()
SHELL[1:3, 1:8, 1:7] = False


class TestDegenerateMasks:
    @pytest.mark.parametrize(
        ("truth", "prediction"),
        [
            (one_voxel((0, 0, 0)), one_voxel((0, 0, 0))),
            (one_voxel((0, 0, 0)), one_voxel((3, 8, 7))),
            (one_voxel((1, 2, 3), (3, 8, 0)), one_voxel((1, 2, 4))),
            (FULL, FULL),
            (FULL, one_voxel((2, 4, 4))),
            (SHELL, one_voxel((1, 4, 4))),
            (FULL, SHELL),
            (PLATE, np.roll(PLATE, 1, axis=0)),
            (PLATE, LINE),
            (LINE, one_voxel((2, 3, 7))),
            (CHECKERS, ~CHECKERS),
            (CHECKERS, FULL),
        ],
    )
    @pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), SPACING_MM])
    def test_voxels_lines_plates_shells_and_checkers(self, truth, prediction, spacing_mm):
        assert_equal(truth, prediction, spacing_mm)

    @pytest.mark.parametrize("axis", range(3))
    def test_images_of_one_slice(self, axis):
        rng = np.random.default_rng(axis)
        masks = [np.expand_dims(rng.random((9, 7)) < 0.4, axis) for _ in range(2)]
        assert_equal(*masks, SPACING_MM)

    def test_many_distances_that_tie_with_the_tolerance(self):
        truth = np.zeros((8, 8, 8), dtype=bool)
        truth[2:5, 2:5, 2:5] = True
        for shift in (1, 2, 3):
            assert_equal(truth, np.roll(truth, shift, axis=1), (1.0, 1.0, 1.0))


class TestWhereDefinitionsDiffer:
    def test_a_tolerance_holds_voxels_whose_sizes_add_up_to_it(self):
        truth = np.zeros((1, 20, 26), dtype=bool)
        truth[0, 0, 0] = True
        prediction = np.roll(truth, (18, 24), axis=(1, 2))
        # √(1.8² + 2.4²) = 3, but 18 · 0.1 and 24 · 0.1 give 3.0000000000000004
        assert score_case("a", truth, prediction, (0.1, 0.1, 0.1)).nsd_3mm == 1.0

    def test_one_empty_mask_is_the_diagonal_and_not_infinite(self):
        score = score_case("a", PLATE, np.zeros_like(PLATE), SPACING_MM)
        expected = monai_scores(PLATE, np.zeros_like(PLATE), SPACING_MM)
        assert (score.dice, score.nsd_2mm) == (expected["dice"], expected["nsd_2mm"]) == (0.0, 0.0)
        assert math.isinf(expected["hd_mm"])
        assert score.hd_mm == pytest.approx(math.hypot(4 * 3.0, 9 * 0.977, 8 * 0.977))

    def test_surface_voxels_count_alike_which_gives_less_than_their_areas_would(self):
        # a sphere moved by 6 mm across the slices: its surface is within 2 mm of the other on a third of its area
        z, y, x = np.ogrid[:20, :60, :60]
        low, high = (
            ((z - middle) * 3.0) ** 2 + ((y - 30) * 0.977) ** 2 + ((x - 30) * 0.977) ** 2 <= 20.0**2
            for middle in (9, 11)
        )
        counted = score_case("a", low, high, SPACING_MM).nsd_2mm
        assert counted < 1 / 3 < monai_nsd_by_area(low, high, SPACING_MM, 2.0)


def disturbed(mask, how, seed=0):
    """Move a mask, wear it down, or add noise at its rim and islands in the air."""
    if how == "shifted":
        return np.roll(mask, (1, 3, -2), axis=(0, 1, 2))
    if how == "eroded":
        return ndimage.binary_erosion(mask)
    rng = np.random.default_rng(seed)
    rim = ndimage.binary_dilation(mask) & ~ndimage.binary_erosion(mask)
    return (mask ^ (rim & (rng.random(mask.shape) < 0.2))) | (rng.random(mask.shape) < 1e-5)


@pytest.fixture(scope="module")
def drawn_by_clinicians(real_data):
    """Tumor and lungs of LUNG1-001 and IBSI1 as masks, by patient and name, with the voxel size."""
    found = {}
    for name in ("LUNG1-001", "IBSI1"):
        patient = index_folder(real_data / name).patients[0]
        stack = read_ct_series(stack_files(patient.of_modality("CT"))).stack
        structures = read_structure_set(patient.of_modality("RTSTRUCT")[0].path)
        masks = {
            roi: rasterize(structures.contours(number).closed, stack).mask
            for number, roi in structures.names.items()
            if roi in {"GTV-1", "Lung-Left", "Lung-Right"}
        }
        found[name] = masks, stack.grid.spacing_mm
    return found


@pytest.mark.parametrize(
    ("patient", "names", "how"),
    [
        *(("LUNG1-001", ["GTV-1"], how) for how in ("shifted", "eroded", "noisy")),
        ("IBSI1", ["GTV-1"], "noisy"),
        ("LUNG1-001", ["Lung-Left", "Lung-Right"], "noisy"),  # of which the lowest slices
    ],
)
def test_real_tumors_and_lungs(patient, names, how, drawn_by_clinicians):
    masks, spacing_mm = drawn_by_clinicians[patient]
    whole = np.any([masks[name] for name in names], axis=0)
    truth = whole[Box.around(whole).grown((2, 6, 6)).clipped(whole.shape).slices][:24]
    assert_equal(truth, disturbed(truth, how), spacing_mm)
