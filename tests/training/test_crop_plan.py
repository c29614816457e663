"""What crops must hold for the training of stage 2."""

import json

import pytest
import torch
from builders.oriented_grids import grid_towards
from builders.trainer_cases import CONFIGURATION, LABELLINGS, plans_of
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape

from nnunet_cascade.errors import DatasetError
from nnunet_cascade.geometry import Box
from nnunet_cascade.plugin import nnunet_cascade_trainers
from nnunet_cascade.training.crop_plan import CropPlan, crop_extent_mm, read_crop_plan
from nnunet_cascade.training.roi_boxes import FoundBox
from nnunet_cascade.training.roi_dataset import RoiDatasetRequest, stored_roi

LABELLING = LABELLINGS["tumor"]


def plan_file(tmp_path, spacing, patch, forward=(0, 1, 2)):
    """A plans file; spacing and patch run along the preprocessed axes."""
    plans = plans_of(LABELLING, patch_size=patch)
    plans["configurations"][CONFIGURATION]["spacing"] = list(spacing)
    plans |= {"transpose_forward": list(forward), "transpose_backward": [forward.index(axis) for axis in range(3)]}
    (tmp_path / "plans.json").write_text(json.dumps(plans))
    return tmp_path / "plans.json", plans


@pytest.mark.parametrize("trainer", ["UncertaintyROITrainer", "UncertaintyROISwinUNETRTrainer"])
@pytest.mark.parametrize(
    ("image", "spacing", "patch", "forward"),
    [
        ((1.25, 0.7, 0.7), (0.7, 0.7, 0.7), (128, 128, 128), (0, 1, 2)),
        ((3.0, 0.977, 0.977), (3.0, 0.977, 0.977), (40, 128, 128), (0, 1, 2)),  # rotated in the plane alone
        ((0.8, 2.0, 0.8), (2.0, 0.8, 0.8), (56, 160, 96), (1, 0, 2)),
        ((5.0, 0.6, 0.61), (0.6, 0.6, 0.6), (96, 160, 128), (0, 1, 2)),
        ((3.0, 3.0, 3.0), (4.0, 4.0, 4.0), (32, 24, 32), (0, 1, 2)),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_stored_crop_holds_the_trainers_initial_patch(trainer, image, spacing, patch, forward, tmp_path, monkeypatch):
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path / name))
    path, plans = plan_file(tmp_path, spacing, patch, forward)
    context_mm = crop_extent_mm(path, trainer)
    task = RoiDatasetRequest(source=tmp_path, target=tmp_path, splits=[], context_mm=context_mm, jitter_mm=0.0)
    found = FoundBox("p", "candidate", Box((90, 90, 90), (91, 91, 91)))
    _, crop = stored_roi(found, 1, grid_towards("LPS", (200, 200, 200), image), task)
    kind = getattr(nnunet_cascade_trainers, trainer)
    made = kind({**plans, "continue_training": False}, CONFIGURATION, 0, LABELLING.json, torch.device("cpu"))
    window = made.configure_rotation_dummyDA_mirroring_and_inital_patch_size()[2]
    shape, of_image = ([values[axis] for axis in forward] for values in (crop.shape, image))
    preprocessed = compute_new_shape(shape, of_image, spacing)
    assert (preprocessed >= window).all()
    # No more than the whole voxels of the image ask for.
    assert (preprocessed <= window + [1 + size / target for size, target in zip(of_image, spacing, strict=True)]).all()


def test_a_plan_is_read_in_the_images_order_of_axes(tmp_path):
    path, _ = plan_file(tmp_path, (3.0, 0.8, 0.9), (16, 32, 24), forward=(2, 0, 1))
    assert read_crop_plan(path) == CropPlan(spacing_mm=(0.8, 0.9, 3.0), patch_size=(16, 32, 24), features=(4, 8, 8, 8))


@pytest.mark.parametrize("content", ["{}", '{"configurations": {"2d": {"patch_size": [8, 8]}, "3d_lowres": {}}}'])
def test_what_is_no_plan_of_stage_2_is_named(tmp_path, content):
    (tmp_path / "plans.json").write_text(content)
    with pytest.raises(DatasetError, match="expected plans with 3d_fullres"):
        crop_extent_mm(tmp_path / "plans.json", "UncertaintyROITrainer")
