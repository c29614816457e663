"""nnU-Net's experiment planners by name, as nnU-Net's own commands find them."""

from __future__ import annotations

import io
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import nnunetv2
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.geometry import Spacing

_PLACE = "experiment_planning"
_KNOWN = "ExperimentPlanner, nnUNetPlannerResEncM, nnUNetPlannerResEncL, nnUNetPlannerResEncXL"


def find_planner(name: str | None) -> type[ExperimentPlanner]:
    """Return the planner class of a name; None is nnU-Net's default.

    Raises:
        SettingsError: nnU-Net has no such planner.
    """
    if name is None:
        return ExperimentPlanner
    found: Any = None
    if name.isidentifier():
        folder = str(Path(nnunetv2.__path__[0]) / _PLACE)
        with redirect_stdout(io.StringIO()):
            found = recursive_find_python_class(folder, name, f"nnunetv2.{_PLACE}")
    if not (isinstance(found, type) and issubclass(found, ExperimentPlanner)):
        raise SettingsError(f"nnU-Net has no planner {name}; expected one such as {_KNOWN}")
    return found


def make_planner(
    dataset: str, name: str | None, *, plans_name: str, spacing_mm: Spacing | None, gpu_memory_target_gb: float | None
) -> ExperimentPlanner:
    """Return a planner for a dataset; None leaves voxel size (Z, Y, X) or memory to the planner.

    Raises:
        SettingsError: nnU-Net has no such planner.
    """
    chosen: dict[str, Any] = {"overwrite_target_spacing": spacing_mm and [float(size) for size in spacing_mm]}
    if gpu_memory_target_gb is not None:
        chosen["gpu_memory_target_in_gb"] = gpu_memory_target_gb
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the memory is not the planner's own, which was asked for
        return find_planner(name)(dataset, plans_name=plans_name, **chosen)
