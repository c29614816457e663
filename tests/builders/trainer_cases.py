"""Every trainer by name, and tiny ROI datasets, preprocessed in this process, to run them on."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from builders.oriented_grids import grid_towards
from builders.tiny_plans import PLAIN, RESIDUAL
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_cascade.geometry import Box
from nnunet_cascade.images import write_image
from nnunet_cascade.plugin import nnunet_cascade_trainers
from nnunet_cascade.trainers.roi_manifest import MANIFEST_NAME, StoredRoi, write_manifest

NAMES = sorted(nnunet_cascade_trainers.__all__)
STAGE1 = [name for name in NAMES if "ROI" not in name]
STAGE2 = [name for name in NAMES if "ROI" in name]
U_NETS = [name for name in NAMES if name == "CascadeTrainer" or name.endswith("ROITrainer")]
EVERY_LOSS = [name for name in STAGE2 if name in U_NETS]
"""One trainer for each loss, all with the plan's U-Net."""
PLANNED_PATCH = (16, 16, 16)
PATCHES = {"SwinUNETR": (64, 64, 64), "AttentionUNet": (32, 32, 32)}
"""Those that are not the planned ones, by what the trainers' names contain."""

CONFIGURATION = "3d_fullres"
DATA_IDENTIFIER = "tiny_3d_fullres"
PLANS, SWIN_PLANS = "tinyPlans", "tinySwinPlans"
"""Batches of two, and of one: patches of Swin UNETR have 64 times as many voxels as the planned ones."""
SPACING_MM = (2.5, 2.0, 2.0)
BLOCK = {
    "epochs": 3,
    "iterations_per_epoch": 2,
    "validation_iterations_per_epoch": 1,
    "network_size": "tiny",
    "mirroring": False,
    "mc_samples": 2,
}


@dataclass(frozen=True)
class Labelling:
    """What a dataset makes of the drawn structures: 0 outside, 1 rim, 2 core, 3 what nobody outlined."""

    number: int
    labels: dict
    drawn_as: tuple[int, int, int, int]

    @property
    def dataset(self):
        return f"Dataset{self.number}_TinyROI"

    @property
    def json(self):
        order = [1, 2] if "whole" in self.labels else None
        return {
            "channel_names": {"0": "CT"},
            "labels": self.labels,
            "numTraining": len(CASES),
            "file_ending": ".nii.gz",
            **({"regions_class_order": order} if order else {}),
        }


CASES = {"p1_roi01": "p1", "p1_roi02": "p1", "p2_roi01": "p2", "p3_roi01": "p3"}
"""Crops and their patients; the last one is validated on."""
LABELLINGS = {
    "tumor": Labelling(701, {"background": 0, "tumor": 1}, (0, 1, 1, 0)),
    "two classes": Labelling(702, {"background": 0, "rim": 1, "core": 2}, (0, 1, 2, 0)),
    "ignore label": Labelling(703, {"background": 0, "tumor": 1, "ignore": 2}, (0, 1, 1, 2)),
    "regions": Labelling(704, {"background": 0, "whole": [1, 2], "core": [2]}, (0, 1, 2, 0)),
    "regions, ignore label": Labelling(705, {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}, (0, 1, 2, 3)),
}


def drawn(seed, shape=(22, 26, 24)):
    """A tumor with a core, and a corner that nobody outlined: image (Z, Y, X) in HU and structures 0 … 3."""
    rng = np.random.default_rng(seed)
    places = np.moveaxis(np.indices(shape), 0, -1)
    center = np.array(shape) / 2 + rng.uniform(-2, 2, 3)
    distance = np.linalg.norm(places - center, axis=-1)
    structures = np.select([distance < 3, distance < 6], [2, 1], 0)
    structures[:8, :10, :10] = 3
    hounsfield = np.choose(structures, [-700, 20, 60, -700]) + rng.normal(0, 60, shape)
    return hounsfield.astype(np.float32), structures.astype(np.uint8)


def stored(path, array):
    """Write an array on a grid like a scanner's, two axes of which run backwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(array, grid_towards("RAS", array.shape, SPACING_MM), path)
    return path


def plans_of(
    labelling,
    *,
    block=BLOCK,
    patch_size=PLANNED_PATCH,
    features=(4, 8, 8, 8),
    batch_size=2,
    batch_dice=False,
    network=PLAIN,
):
    """The contents of a plans file, with `block` as settings or, if it is None, without any."""
    of_stages = "n_blocks_per_stage" if network is RESIDUAL else "n_conv_per_stage"
    resampling = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": False}
    architecture = {
        **network,
        "arch_kwargs": {
            **network["arch_kwargs"],
            "n_stages": len(features),
            "features_per_stage": list(features),
            "kernel_sizes": [[3, 3, 3]] * len(features),
            "strides": [[1, 1, 1], *[[2, 2, 2]] * (len(features) - 1)],
            of_stages: [1] * len(features),
            "n_conv_per_stage_decoder": [1] * (len(features) - 1),
        },
    }
    configuration = {
        "data_identifier": DATA_IDENTIFIER,
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": batch_size,
        "batch_dice": batch_dice,
        "patch_size": list(patch_size),
        "median_image_size_in_voxels": [28, 26, 24],
        "spacing": [2.0, 2.0, 2.0],
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        **{f"resampling_fn_{what}": "resample_data_or_seg_to_shape" for what in ("data", "seg", "probabilities")},
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True},
        "resampling_fn_probabilities_kwargs": resampling,
        "architecture": architecture,
    }
    window = {"percentile_00_5": -1000.0, "percentile_99_5": 400.0, "mean": -300.0, "std": 700.0}
    plans = {
        "dataset_name": labelling.dataset,
        "plans_name": PLANS,
        "original_median_spacing_after_transp": list(SPACING_MM),
        "original_median_shape_after_transp": [22, 26, 24],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {CONFIGURATION: configuration},
        "experiment_planner_used": "by hand",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": {**window, "median": -300.0, "min": -1000, "max": 400}},
    }
    return plans if block is None else {**plans, "nnunet_cascade": block}


def write_plans(root, labelling, name=PLANS, **changed):
    """Write a plans file of a dataset below nnU-Net's folders; gives its name."""
    folder = root / "nnUNet_preprocessed" / labelling.dataset
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({**plans_of(labelling, **changed), "plans_name": name}))
    return name


def write_dataset(root, labelling):
    """Draw a dataset below nnU-Net's folders and preprocess it, all in this process."""
    base = root / "nnUNet_preprocessed" / labelling.dataset
    write_plans(root, labelling)
    write_plans(root, labelling, SWIN_PLANS, batch_size=1)
    (base / "dataset.json").write_text(json.dumps(labelling.json))
    (base / "dataset_fingerprint.json").write_text("{}")
    *train, last = CASES
    (base / "splits_final.json").write_text(json.dumps([{"train": train, "val": [last]}]))
    manager = PlansManager(plans_of(labelling))
    configuration = manager.get_configuration(CONFIGURATION)
    data = base / DATA_IDENTIFIER
    data.mkdir()
    for seed, case in enumerate(CASES):
        image, structures = drawn(seed)
        truth = stored(base / "gt_segmentations" / f"{case}.nii.gz", np.array(labelling.drawn_as, np.uint8)[structures])
        shown = stored(root / "images" / f"{case}_0000.nii.gz", image)
        configuration.preprocessor_class(verbose=False).run_case_save(
            str(data / case), [str(shown)], str(truth), manager, configuration, labelling.json
        )
    place = {"box": Box((4, 6, 5), (18, 20, 19)), "jitter_voxels": (2, 2, 2), "cut_at": (0, 0, 0)}
    rois = [StoredRoi(case=case, patient=patient, kind="ground_truth", **place) for case, patient in CASES.items()]
    write_manifest(base / MANIFEST_NAME, rois, provenance={})


def folders(root):
    """nnU-Net's variables for the folders below a root."""
    return {name: str(root / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}


def run_stock(command, *arguments, root):
    """Run one of nnU-Net's own commands with nothing exported but its folders; gives what came of it."""
    program = [sys.executable, str(Path(sys.executable).parent / command), *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if name != "nnUNet_extTrainer"}
    # One worker process. Threads sleep while they wait: nnU-Net starts one for each core, and two commands run.
    environment |= {**folders(root), "nnUNet_def_n_proc": "1", "nnUNet_n_proc_DA": "0", "OMP_WAIT_POLICY": "passive"}
    return subprocess.run(program, capture_output=True, text=True, check=False, env=environment)


def patch_of(name):
    return next((patch for backbone, patch in PATCHES.items() if backbone in name), PLANNED_PATCH)


def size_of(name):
    """What `network_size` means for a trainer: the plan's own network is as it is planned."""
    return "paper" if name in U_NETS else "tiny"


def nnunets(name, *, continues=False):
    """A trainer as `nnUNetv2_train` makes it."""
    dataset, plans = LABELLINGS["tumor"].dataset, SWIN_PLANS if "Swin" in name else PLANS
    return get_trainer_from_args(dataset, CONFIGURATION, 0, name, plans, continues, torch.device("cpu"))


def weights(network):
    return {key: value.clone() for key, value in network.state_dict().items()}


def magnified(voxels, factor):
    """The middle of (B, C, Z, Y, X), each voxel as a cube of `factor`³."""
    for axis in (2, 3, 4):
        side = voxels.shape[axis] // factor
        voxels = voxels.narrow(axis, (voxels.shape[axis] - side) // 2, side).repeat_interleave(factor, axis)
    return voxels


def start(trainer):
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    return trainer


def validated(trainer):
    """What one validation step gives, taken in as nnU-Net does at the end of an epoch."""
    with torch.no_grad():
        trainer.on_validation_epoch_start()
        outputs = trainer.validation_step(next(trainer.dataloader_val))
        trainer.on_validation_epoch_end([outputs])
    return outputs


def begun(trainer):
    """Write a trainer's checkpoint as of its first epoch where `--c` looks for it; gives its path."""
    if not trainer.was_initialized:
        trainer.initialize()
    trainer.logger.log("ema_fg_dice", 0.5, 0)
    checkpoint = f"{trainer.output_folder}/checkpoint_latest.pth"
    trainer.save_checkpoint(checkpoint)
    return checkpoint
