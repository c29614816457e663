"""Untrained networks of a fixed seed in nnU-Net's model folders, and a bundle of them: to measure time and memory."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from plain_unet import plain_unet

from nnunet_cascade.bundles.bundle import make_bundle
from nnunet_cascade.files import write_json
from nnunet_cascade.plugin.nnunet_cascade_trainers import UncertaintyROITrainer
from nnunet_cascade.prediction.spec import CascadeSpec

DATASET = "Dataset900_Untrained"
CONFIGURATION = "3d_fullres"
PLANS = "nnUNetPlans"
DATASET_JSON = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "tumor": 1},
    "numTraining": 1,
    "file_ending": ".nii.gz",
    "overwrite_image_reader_writer": "SimpleITKIO",
}
_AGAINST_TUMOR = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """The networks and what is asked of them.

    Attributes:
        features: Of the stages of either network.
        coarse_mm: Isotropic spacing of stage 1.
        fine_mm: The same of stage 2 and of the plain prediction.
        coarse_patch: Side of stage 1's patch, in voxels.
        fine_patch: The same of stage 2 and of the plain prediction.
        samples: T, stochastic passes of stage 2.
    """

    features: tuple[int, ...]
    coarse_mm: float
    fine_mm: float
    coarse_patch: int
    fine_patch: int
    samples: int


FULL = Size(features=(16, 32, 64), coarse_mm=2.5, fine_mm=1.0, coarse_patch=96, fine_patch=96, samples=20)
QUICK = Size(features=(4, 8), coarse_mm=8.0, fine_mm=5.0, coarse_patch=16, fine_patch=16, samples=2)


@dataclass(frozen=True, slots=True)
class Models:
    """Where the networks lie.

    Attributes:
        bundle: Of both stages.
        results: nnU-Net's folder of results, with stage 2 as a model of its own.
    """

    bundle: Path
    results: Path


def make_models(folder: Path, size: Size, *, stock_resampling: bool) -> Models:
    """Draw the networks and write them.

    Stage 1 is told to see no tumor: noise all over the body would be no stage 1. Stage 2 and the plain prediction are
    one network; the dropout of the trainer's network is silent where nobody asks for samples.

    Args:
        folder: Emptied first.
        size: Of the networks.
        stock_resampling: Give the plain prediction nnU-Net's own choice of resampling, slice by slice where slices
            are thick, instead of that of the cascade's plans.
    """
    shutil.rmtree(folder, ignore_errors=True)
    coarse = _write_model(folder / "stage1", _plans(size, size.coarse_mm, size.coarse_patch), nnUNetTrainer, seed=1)
    plans = _plans(size, size.fine_mm, size.fine_patch)
    fine = _write_model(folder / "stage2", plans, UncertaintyROITrainer, seed=2)
    spec = CascadeSpec()
    spec = replace(
        spec,
        stage1=replace(spec.stage1, mirroring=False),
        sampling=replace(spec.sampling, mc_samples=size.samples),
    )
    make_bundle(folder / "bundle", stage1=coarse, stage2=fine, spec=spec)
    plain = folder / "results" / DATASET / f"{UncertaintyROITrainer.__name__}__{PLANS}__{CONFIGURATION}"
    shutil.copytree(fine, plain)
    if stock_resampling:
        write_json(plain / "plans.json", _plans(size, size.fine_mm, size.fine_patch, separate_z=None))
    return Models(folder / "bundle", folder / "results")


def plain_arguments(images: Path, output: Path) -> list[str]:
    """Give the arguments of `nnUNetv2_predict`: without mirroring, as the cascade, and one process beside each side."""
    names = ["-d", "900", "-c", CONFIGURATION, "-p", PLANS, "-tr", UncertaintyROITrainer.__name__, "-f", "0"]
    return ["-i", str(images), "-o", str(output), *names, "--disable_tta", "-device", "cpu", "-npp", "1", "-nps", "1"]


def plain_environment(models: Models, threads: int) -> dict[str, str]:
    """Give nnU-Net's folders, and as many threads as the cascade has."""
    folders = dict.fromkeys(("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"), str(models.results))
    return {**os.environ, **folders, "OMP_NUM_THREADS": str(threads), "nnUNet_def_n_proc": str(threads)}


def _write_model(folder: Path, plans: dict[str, Any], trainer: type[nnUNetTrainer], *, seed: int) -> Path:
    (folder / "fold_0").mkdir(parents=True)
    manager = PlansManager(plans)
    torch.manual_seed(seed)
    network = trainer.build_network_architecture(manager, manager.get_configuration(CONFIGURATION), 1, 2, False)
    weights = network.state_dict()
    if trainer is nnUNetTrainer:
        for name in [name for name in weights if "seg_layers" in name and name.endswith("bias")]:
            weights[name] = torch.tensor([_AGAINST_TUMOR, -_AGAINST_TUMOR])
    write_json(folder / "plans.json", plans)
    write_json(folder / "dataset.json", DATASET_JSON)
    checkpoint = {
        "network_weights": weights,
        "init_args": {"configuration": CONFIGURATION},
        "trainer_name": trainer.__name__,
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")
    return folder


def _plans(size: Size, spacing_mm: float, patch: int, *, separate_z: bool | None = False) -> dict[str, Any]:
    """Give plans as nnU-Net's planner writes them, which leaves `force_separate_z` to the spacing (None)."""
    resampling = {
        what: {"is_seg": what == "seg", "order": order, "order_z": 0, "force_separate_z": separate_z}
        for what, order in (("data", 3), ("seg", 1), ("probabilities", 1))
    }
    configuration = {
        "data_identifier": "untrained",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [patch] * 3,
        "spacing": [spacing_mm] * 3,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "batch_dice": False,
        **{f"resampling_fn_{what}": "resample_data_or_seg_to_shape" for what in resampling},
        **{f"resampling_fn_{what}_kwargs": keywords for what, keywords in resampling.items()},
        "architecture": plain_unet(size.features),
    }
    window = {"percentile_00_5": -1000.0, "percentile_99_5": 400.0, "mean": -300.0, "std": 700.0}
    plans = {
        "dataset_name": DATASET,
        "plans_name": PLANS,
        "original_median_spacing_after_transp": [spacing_mm] * 3,
        "original_median_shape_after_transp": [patch] * 3,
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {CONFIGURATION: configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": {**window, "median": 25.0, "min": -1000.0, "max": 400.0}},
    }
    return json.loads(json.dumps(plans))
