"""Voxel sizes of both stages from a dataset's fingerprint."""

import pytest

from nnunet_cascade.errors import DatasetError, SettingsError
from nnunet_cascade.training.grids import Fingerprint, coarse_spacing_mm, count_windows, fine_spacing_mm
from nnunet_cascade.training.planning import PlanRequest

NNUNET = (128, 128, 128)
"""About what nnU-Net plans for cubic voxels and 8 GB."""


def fingerprint(*images):
    spacings, shapes = zip(*images, strict=True)
    return {"spacings": spacings, "shapes_after_crop": shapes, "median_relative_size_after_cropping": 1.0}


FINGERPRINTS = {
    # 325 × 358 × 358 mm: two windows on each axis, up to 192 voxels of 2 mm.
    "thin slices": (fingerprint(((1.25, 0.7, 0.7), (260, 512, 512))), NNUNET, 0.7, 2.0),
    # 360 × 501.8 × 501.8 mm: two windows on each axis up to 192 voxels, 501.8 / 192.5 = 2.607.
    "NSCLC": (fingerprint(((3.0, 0.98, 0.98), (120, 512, 512))), NNUNET, 0.98, 2.7),
    # 320 × 409.6 × 409.6 mm: 409.6 / 192.5 = 2.13.
    "2 mm slices": (fingerprint(((2.0, 0.8, 0.8), (160, 512, 512))), NNUNET, 0.8, 2.2),
    "thick slices": (fingerprint(((5.0, 0.6, 0.6), (64, 512, 512))), NNUNET, 0.6, 2.0),
    # 288 × 384 × 384 mm, 1.5 × 3 = 4.5 mm at least: 1 × 4 × 2 windows at 288 / 40.5 = 7.11, 80 and 72 voxels long.
    "phantoms, tiny patch": (fingerprint(((3.0, 3.0, 3.0), (96, 128, 128))), (40, 32, 48), 3.0, 7.2),
}


@pytest.mark.parametrize(("content", "patch", "fine", "coarse"), FINGERPRINTS.values(), ids=FINGERPRINTS)
def test_the_fine_grid_is_in_plane_and_the_coarse_one_the_finest_on_which_the_image_takes_eight_windows(
    content, patch, fine, coarse
):
    images = Fingerprint.of(content, where="x")
    assert fine_spacing_mm(images) == fine
    assert coarse_spacing_mm(images, lambda _: patch) == coarse
    assert count_windows(images.median_shape(coarse), patch) <= 8
    assert coarse == 2.0 or count_windows(images.median_shape(coarse - 0.1), patch) > 8


def test_the_coarse_grid_follows_the_patch_that_is_planned_at_each_spacing():
    images = Fingerprint.of(FINGERPRINTS["NSCLC"][0], where="x")
    asked = []
    found = coarse_spacing_mm(images, lambda edge: asked.append(edge) or ((128,) * 3 if edge < 2.3 else (160,) * 3))
    assert (found, asked) == (2.3, [2.0, 2.1, 2.2, 2.3])


def test_the_coarse_grid_is_at_least_one_and_a_half_times_the_fine_one():
    images = Fingerprint.of(fingerprint(((3.0, 1.55, 1.55), (50, 50, 50))), where="x")
    assert coarse_spacing_mm(images, lambda _: NNUNET) == 2.33  # 2.325, never rounded down


def test_the_fine_grid_is_the_median_of_the_images_in_any_order_of_axes():
    images = [((3.0, 0.7, 0.7), (9, 9, 9)), ((0.9, 3.0, 0.9), (9, 9, 9)), ((0.9766, 0.9766, 0.5), (9, 9, 9))]
    assert fine_spacing_mm(Fingerprint.of(fingerprint(*images), where="x")) == 0.9
    assert fine_spacing_mm(Fingerprint.of(fingerprint(*images[1:]), where="x")) == 0.94


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"spacings": [], "shapes_after_crop": []},
        fingerprint(((1.0, 1.0, 1.0), (0, 5, 5))),
        fingerprint(((0.0, 1.0, 1.0), (5, 5, 5))),
        fingerprint(((1.0, 1.0), (5, 5))),
        {"spacings": [[1, 1, 1]], "shapes_after_crop": [[5, 5, "five"]]},
    ],
)
def test_a_fingerprint_that_no_grid_follows_from_is_refused_in_one_line(content):
    with pytest.raises(DatasetError, match=r"^x has no images with sizes above 0, .*nnUNetv2_extract_fingerprint$"):
        Fingerprint.of(content, where="x")


def test_a_grid_and_a_spacing_exclude_each_other():
    with pytest.raises(SettingsError, match="exclude each other"):
        PlanRequest(name="Ours", grid="fine", spacing_mm=(1.0, 1.0, 1.0))
    with pytest.raises(SettingsError, match="grid must be one of"):
        PlanRequest(name="Ours", grid="rough")
    with pytest.raises(SettingsError, match="a patch of at most 90"):
        PlanRequest(name="Ours", grid="coarse", max_patch_mm=90.0)
