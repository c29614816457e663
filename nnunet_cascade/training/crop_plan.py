"""How stage 2 is planned before its crops are cut, and how much of a crop its training needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_cascade.errors import DatasetError
from nnunet_cascade.geometry import Index, Spacing, as_index
from nnunet_cascade.nnunet_folders import read_json
from nnunet_cascade.plugin import nnunet_cascade_trainers

_USUAL = "3d_fullres"


@dataclass(frozen=True, slots=True, kw_only=True)
class CropPlan:
    """What plans on whole images settle for plans on crops of them.

    Attributes:
        spacing_mm: Voxel size along (Z, Y, X) of the images.
        patch_size: In voxels along the preprocessed axes.
        features: Channels of each resolution, which also bounds the number of resolutions.
    """

    spacing_mm: Spacing
    patch_size: Index
    features: tuple[int, ...]


def read_crop_plan(plans: Path) -> CropPlan:
    """Read the plan of stage 2 from a plans file of ours or of nnU-Net's.

    Raises:
        DatasetError: The file is no plans file with one 3d configuration or 3d_fullres.
    """
    content, name = _configuration_of(plans)
    configuration = content["configurations"][name]
    z, y, x = _in_image_order(configuration["spacing"], content)
    features = configuration["architecture"]["arch_kwargs"]["features_per_stage"]
    return CropPlan(
        spacing_mm=(z, y, x), patch_size=as_index(configuration["patch_size"]), features=tuple(map(int, features))
    )


def crop_extent_mm(plans: Path, trainer: str) -> Spacing:
    """Return the extent along (Z, Y, X) that a crop must have, so that training never cuts beyond it.

    Training rotates and scales a region larger than the patch. That region is nnU-Net's own, for the patch that the
    network of the trainer can take.

    Args:
        plans: As for `read_crop_plan`.
        trainer: Name of the trainer of stage 2. One that is not ours takes the patch as it is planned.

    Raises:
        DatasetError: As `read_crop_plan` raises.
    """
    content, name = _configuration_of(plans)
    kind: Any = getattr(nnunet_cascade_trainers, trainer, None)
    if kind is not None:
        content = kind.legal_plans(content, name)
    configuration = content["configurations"][name]
    sides = zip(initial_patch(configuration["patch_size"]), configuration["spacing"], strict=True)
    return _in_image_order([side * size for side, size in sides], content)


def initial_patch(patch_size: Sequence[int]) -> Index:
    """Return what nnU-Net's loader cuts for a patch in training, in voxels along the same axes."""
    stand_in: Any = SimpleNamespace(
        configuration_manager=SimpleNamespace(patch_size=list(patch_size)), print_to_log_file=_silent
    )
    return as_index(nnUNetTrainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size(stand_in)[2])


def _silent(*_: object) -> None:
    """Log nothing."""


def _configuration_of(plans: Path) -> tuple[dict[str, Any], str]:
    """Return the contents of a plans file and the name of the configuration meant."""
    content = read_json(plans)
    known: Any = content.get("configurations")
    names = list(known) if isinstance(known, dict) else []
    name = names[0] if len(names) == 1 else _USUAL
    configuration: Any = known[name] if name in names else {}
    if not {"spacing", "patch_size", "architecture"} <= set(configuration) or len(configuration["patch_size"]) != 3:
        found = ", ".join(names) or "none"
        raise DatasetError(f"{plans} has the configurations {found}; expected plans with {_USUAL}, such as nnc-plan's")
    return content, name


def _in_image_order(values: Sequence[float], content: dict[str, Any]) -> Spacing:
    z, y, x = (float(values[axis]) for axis in content["transpose_backward"])
    return z, y, x
