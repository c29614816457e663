"""Plans files of our own, made from nnU-Net's, that leave nnU-Net's untouched."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props
from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints

from nnunet_cascade.errors import DatasetError, one_line
from nnunet_cascade.files import write_text
from nnunet_cascade.geometry import Index, Spacing, as_index
from nnunet_cascade.nnunet_folders import dataset_name, nnunet_folder, preprocessed_folder, raw_folder, read_json
from nnunet_cascade.processes import environment
from nnunet_cascade.settings.serialization import from_json, require, to_json
from nnunet_cascade.settings.training import BLOCK, TrainingSettings
from nnunet_cascade.trainers.roi_manifest import MANIFEST_NAME, read_manifest
from nnunet_cascade.training.crop_plan import CropPlan
from nnunet_cascade.training.edge_scale import with_edge_scale
from nnunet_cascade.training.grids import Fingerprint, PlannedGrid, coarse_spacing_mm, fine_spacing_mm
from nnunet_cascade.training.planners import find_planner, make_planner

_WORKERS = "nnUNet_n_proc_DA"
_STOCK_PLANS = "nnUNetPlans"
_FINGERPRINT = "dataset_fingerprint.json"
_SMALLEST_FEATURE_MAP = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """What shall differ from nnU-Net's own plans.

    Attributes:
        name: Of the new plans; also the start of its data_identifier, so that
            preprocessed data of other plans are never overwritten.
        configuration: The one configuration of the new plans.
        spacing_mm: Voxel size along (Z, Y, X), or None for nnU-Net's choice.
        grid: Instead of `spacing_mm`: "coarse" or "fine" cubic voxels, whose size follows from
            the fingerprint of the dataset, for crops from that of the dataset they were cut from.
        window_hu: Lowest and highest Hounsfield unit; values are clipped to it and
            scaled to −1…1. None keeps nnU-Net's normalisation.
        patch_size: Along the preprocessed axes, or None for nnU-Net's choice.
        max_patch_mm: The patch is cut to this extent along each axis; None cuts nothing.
        batch_size: Or None for nnU-Net's choice.
        batch_dice: Sum the Dice over a batch, which gives crops without tumor a
            gradient; None sums where the dataset has such crops, and else is nnU-Net's choice.
        features: Channels of each resolution, which also bounds their number; None
            for nnU-Net's choice.
        planner: Name of nnU-Net's planner, such as nnUNetPlannerResEncM; None for nnU-Net's default.
        gpu_memory_target_gb: Memory of the GPU that patch and batch are planned for; None for the
            planner's.
        training: The settings block; what it leaves out keeps the defaults.

    Raises:
        SettingsError: A value is out of range, or the name is nnU-Net's own.

    Example:
        >>> nnc.PlanRequest(name="MyPlans", spacing_mm=(2, 1, 1), training={"epochs": 50}).configuration
        '3d_fullres'
    """

    name: str
    configuration: str = "3d_fullres"
    spacing_mm: Spacing | None = None
    grid: PlannedGrid | None = None
    window_hu: tuple[float, float] | None = None
    patch_size: Index | None = None
    max_patch_mm: float | None = None
    batch_size: int | None = None
    batch_dice: bool | None = None
    features: tuple[int, ...] | None = None
    planner: str | None = None
    gpu_memory_target_gb: float | None = None
    training: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        require(self.name.isidentifier(), f"a plans name has letters, digits and underscores; found {self.name!r}")
        require(self.name != _STOCK_PLANS, f"{_STOCK_PLANS} are the baseline's plans; choose another name")
        known = (None, *get_args(PlannedGrid))
        require(self.grid in known, f"grid must be one of {known}; found {self.grid!r}")
        both = self.grid is not None and self.spacing_mm is not None
        require(not both, f"grid {self.grid} and spacing {self.spacing_mm} exclude each other; give one")
        require(
            self.grid != "coarse" or self.max_patch_mm is None,
            f"on the coarse grid few windows hold an image, which a patch of at most {self.max_patch_mm} mm prevents",
        )
        if self.window_hu is not None:
            low, high = self.window_hu
            require(low < high, f"the window must grow from low to high; found {low} to {high} HU")
        sizes = {"spacing": self.spacing_mm, "patch size": self.patch_size, "features": self.features}
        for what, values in sizes.items():
            require(values is None or min(values) > 0, f"{what} must be positive; found {values}")
        memory_gb = self.gpu_memory_target_gb
        require(memory_gb is None or memory_gb > 0, f"GPU memory target must be positive; found {memory_gb} GB")
        batch_size = self.batch_size
        require(batch_size is None or batch_size >= 1, f"batch size must be at least 1; found {batch_size}")
        TrainingSettings.from_plans({BLOCK: self.training})


def write_plans(dataset_id: int, request: PlanRequest) -> Path:
    """Write a plans file next to nnU-Net's own, fingerprinting the dataset first where that was not done.

    Args:
        dataset_id: Of a raw nnU-Net dataset.
        request: What shall differ.

    Returns:
        The plans file, in the dataset's preprocessed folder.

    Raises:
        SettingsError: nnU-Net has no such planner.
        DatasetError: The dataset is missing or has no such configuration, plans of that
            name are there that are not ours, or no grid follows from the fingerprint.
    """
    find_planner(request.planner)  # before minutes of work
    folder = preprocessed_folder(dataset_id)
    if not (folder / _FINGERPRINT).is_file():
        _fingerprint(dataset_id)
    request = _on_grid(dataset_id, _as_cut(dataset_id, request))
    if request.batch_dice is None and _has_crops_without_tumor(dataset_id):
        request = replace(request, batch_dice=True)
    path = folder / f"{request.name}.json"
    if path.is_file() and BLOCK not in read_json(path):
        raise DatasetError(f"{path} is there already and not one of ours; choose another name")
    planner = _planner(dataset_id, request)
    with _threads_for_planning(), redirect_stdout(io.StringIO()):  # its prints are the plans we write
        plans = cast(dict[str, Any], planner.plan_experiment())
    ours = with_edge_scale(adapted(plans, request), read_json(raw_folder(dataset_id) / "dataset.json"))
    write_text(path, json.dumps(ours, indent=2, default=_plain))
    (folder / f"{request.name}Draft.json").unlink()  # as the planner wrote it
    return path


def plan_summary(path: Path) -> str:
    """Return voxel size, patch and batch of plans of ours in a line, along the preprocessed axes."""
    plans = read_json(path)
    (configuration,) = plans["configurations"].values()
    spacing, patch = configuration["spacing"], configuration["patch_size"]
    extent = (size * side for size, side in zip(spacing, patch, strict=True))
    voxels, sides, lengths = (" × ".join(f"{value:.4g}" for value in values) for values in (spacing, patch, extent))
    network = configuration["architecture"]["network_class_name"].rpartition(".")[2]
    return (
        f"{path.stem}: voxels of {voxels} mm, patch {sides} ({lengths} mm), batch size {configuration['batch_size']}, "
        f"{network}"
    )


def planned_batch(dataset_id: int, plans_name: str) -> int | None:
    """Return the batch size in plans of ours; None where the dataset or the plans are not made yet."""
    try:
        path = preprocessed_folder(dataset_id) / f"{plans_name}.json"
    except DatasetError:
        return None
    if not path.is_file():
        return None
    (configuration,) = read_json(path)["configurations"].values()
    return int(configuration["batch_size"])


def _planner(dataset_id: int, request: PlanRequest) -> ExperimentPlanner:
    return make_planner(
        dataset_name(dataset_id),
        request.planner,
        plans_name=f"{request.name}Draft",
        spacing_mm=request.spacing_mm,
        gpu_memory_target_gb=request.gpu_memory_target_gb,
    )


def _as_cut(dataset_id: int, request: PlanRequest) -> PlanRequest:
    """Return the request with the plan that crops were cut for, unless it asks for another voxel size."""
    manifest = raw_folder(dataset_id) / MANIFEST_NAME
    recorded = read_json(manifest).get("provenance", {}).get("plan") if manifest.is_file() else None
    if recorded is None or request.grid == "coarse":
        return request
    plan = from_json(CropPlan, recorded, where=f"{manifest}, plan")
    if request.spacing_mm not in (None, plan.spacing_mm):
        return request
    return replace(
        request,
        grid=None,
        spacing_mm=plan.spacing_mm,
        patch_size=request.patch_size or plan.patch_size,
        max_patch_mm=None,  # the patch is cut already
        features=request.features or plan.features,
    )


def _on_grid(dataset_id: int, request: PlanRequest) -> PlanRequest:
    """Return the request with a voxel size in place of a grid; unchanged if it asks for none."""
    if request.grid is None:
        return request
    path = _fingerprint_of_whole_images(dataset_id, request.grid)
    fingerprint = Fingerprint.of(read_json(path), where=str(path))
    if request.grid == "fine":
        edge = fine_spacing_mm(fingerprint)
    else:
        edge = coarse_spacing_mm(fingerprint, _patch_at(dataset_id, request, fingerprint))
    return replace(request, grid=None, spacing_mm=(edge, edge, edge))


def _fingerprint_of_whole_images(dataset_id: int, grid: PlannedGrid) -> Path:
    """Return the fingerprint that a grid follows from: that of crops says little about the images."""
    manifest = raw_folder(dataset_id) / MANIFEST_NAME
    if not manifest.is_file():
        return preprocessed_folder(dataset_id) / _FINGERPRINT
    if grid == "coarse":
        raise DatasetError(f"dataset {dataset_id} holds crops, but the coarse grid is for whole images; ask for fine")
    source = str(read_json(manifest).get("provenance", {}).get("source"))
    path = nnunet_folder("nnUNet_preprocessed") / source / _FINGERPRINT
    if not path.is_file():
        raise DatasetError(f"{path} is missing: crops have the grid of the dataset they were cut from; give a spacing")
    return path


def _patch_at(dataset_id: int, request: PlanRequest, fingerprint: Fingerprint) -> Callable[[float], Index]:
    """Return a function that plans a patch (Z, Y, X) for cubic voxels of an edge in mm, as `write_plans` would."""
    planner, known = _planner(dataset_id, replace(request, grid=None)), dict[str, Any]()

    def patch_at(edge_mm: float) -> Index:
        shape = np.array(fingerprint.median_shape(edge_mm))
        with _threads_for_planning(), redirect_stdout(io.StringIO()):
            planned = planner.get_plans_for_configuration(np.full(3, edge_mm), shape, "", 1.0, known)
        return as_index(_sized(planned, request)["patch_size"])

    return patch_at


def _has_crops_without_tumor(dataset_id: int) -> bool:
    """Tell whether a dataset is one of `nnc-roi-dataset` with candidates that are no tumor."""
    manifest = raw_folder(dataset_id) / MANIFEST_NAME
    return manifest.is_file() and any(roi.kind == "false_positive" for roi in read_manifest(manifest).values())


def _fingerprint(dataset_id: int) -> None:
    """Let nnU-Net check and fingerprint the dataset; what it objects to is the dataset's fault."""
    try:
        extract_fingerprints([dataset_id], num_processes=2, check_dataset_integrity=True)
    except (AssertionError, RuntimeError) as error:
        reason = one_line(error, longest=300) if str(error) else "its integrity check failed, see above"
        raise DatasetError(f"nnU-Net refuses dataset {dataset_id} ({reason}); repair the dataset") from error


def adapted(plans: Mapping[str, Any], request: PlanRequest) -> dict[str, Any]:
    """Return plans as requested: one configuration, renamed, with window, size and settings block.

    Args:
        plans: As nnU-Net's planner made them for the requested spacing. Left unchanged.
        request: What shall differ.

    Raises:
        DatasetError: The plans have no such configuration.
    """
    known = plans["configurations"]
    if request.configuration not in known:
        raise DatasetError(f"the plans have no {request.configuration}; they have {', '.join(known)}")
    configuration = dict(known[request.configuration])
    if configuration.get("inherits_from") is not None:
        raise DatasetError(f"{request.configuration} inherits from another configuration; choose 3d_fullres")
    configuration["data_identifier"] = f"{request.name}_{request.configuration}"
    asked = {"batch_size": request.batch_size, "batch_dice": request.batch_dice}
    configuration |= {name: value for name, value in asked.items() if value is not None}
    configuration = _sized(configuration, request)
    spacing = configuration["spacing"]
    if max(spacing) <= 1.01 * min(spacing):
        configuration = _without_separate_z(configuration)
    block = to_json(TrainingSettings.from_plans({BLOCK: request.training}))
    changed = {"plans_name": request.name, "configurations": {request.configuration: configuration}, BLOCK: block}
    if request.window_hu is not None:
        low, high = request.window_hu
        window = {"percentile_00_5": low, "percentile_99_5": high, "mean": (low + high) / 2, "std": (high - low) / 2}
        properties = plans["foreground_intensity_properties_per_channel"]
        changed["foreground_intensity_properties_per_channel"] = {
            channel: {**values, **window} for channel, values in properties.items()
        }
    return {**plans, **changed}


@contextmanager
def _threads_for_planning() -> Generator[None, None, None]:
    """Let nnU-Net's planner set torch's threads, which fails for nnUNet_n_proc_DA=0, and set them back."""
    threads = torch.get_num_threads()
    try:
        with environment({_WORKERS: "1"} if os.environ.get(_WORKERS) == "0" else {}):
            yield
    finally:
        torch.set_num_threads(threads)


def _sized(configuration: dict[str, Any], request: PlanRequest) -> dict[str, Any]:
    """Return a configuration with the patch and the features of a request; unchanged if it asks for none."""
    if request.patch_size is None and request.features is None and request.max_patch_mm is None:
        return configuration
    return _resized(configuration, request)


def _resized(configuration: Mapping[str, Any], request: PlanRequest) -> dict[str, Any]:
    """Return the network of a configuration another patch size or other features, by nnU-Net's rules of pooling."""
    kwargs = dict(configuration["architecture"]["arch_kwargs"])
    patch = [int(size) for size in request.patch_size or configuration["patch_size"]]
    if request.max_patch_mm is not None:
        allowed = [max(1, int(request.max_patch_mm / size)) for size in configuration["spacing"]]
        patch = [min(size, most) for size, most in zip(patch, allowed, strict=True)]
    features = list(request.features or kwargs["features_per_stage"])
    _, strides, kernels, patch, _ = get_pool_and_conv_props(
        configuration["spacing"], patch, _SMALLEST_FEATURE_MAP, max(len(features) - 1, 1)
    )
    # Axes pool at different resolutions on anisotropic grids, so there may be more steps than features.
    stages = min(len(strides), len(features))
    kwargs.update(
        n_stages=stages,
        features_per_stage=features[:stages],
        strides=[list(stride) for stride in strides[:stages]],
        kernel_sizes=[list(kernel) for kernel in kernels[:stages]],
    )
    for key, length in (
        ("n_conv_per_stage", stages),
        ("n_blocks_per_stage", stages),
        ("n_conv_per_stage_decoder", stages - 1),
    ):
        if key in kwargs:
            values = kwargs[key]
            kwargs[key] = [*values, *values[-1:] * length][:length]
    architecture = {**configuration["architecture"], "arch_kwargs": kwargs}
    return {**configuration, "architecture": architecture, "patch_size": [int(size) for size in patch]}


def _without_separate_z(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Resample all three axes alike: else a 3 mm slice becomes a staircase on an isotropic grid."""
    names = [f"resampling_fn_{what}_kwargs" for what in ("data", "seg", "probabilities")]
    names = [name for name in names if "force_separate_z" in configuration[name]]  # a planner may resample otherwise
    return {**configuration, **{name: {**configuration[name], "force_separate_z": False} for name in names}}


def _plain(value: Any) -> Any:
    """Turn what NumPy left in a plan into what JSON knows."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
