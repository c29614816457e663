"""`nnc-plan`: plans for this package's trainers, next to nnU-Net's."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_type_hints

from nnunet_cascade.cli.common import DONE, CommandParser, Options, new_command
from nnunet_cascade.cli.settings_values import settings_values
from nnunet_cascade.settings.training import PAPER_SPACING_MM, PAPER_TRAINING, PAPER_WINDOW_HU, TrainingSettings

if TYPE_CHECKING:
    from nnunet_cascade.training.planning import PlanRequest


def build_parser() -> CommandParser:
    """Describe the command."""
    parser = CommandParser(
        "nnc-plan",
        "Write plans with settings for this package's trainers, next to nnU-Net's own plans.",
        "nnc-plan -d 501 -o nnUNetCascadeCoarsePlans --grid coarse",
        "nnc-plan -d 501 --spacing_mm 1 1 1 --set epochs=300 mc_samples=3",
    )
    files = parser.options("input and output")
    files.whole("-d", "ID", "number of a raw nnU-Net dataset", required=True)
    files.add("-o", "name of the new plans", default="nnUNetCascadePlans", metavar="NAME")
    files.add("-c", "the one configuration to keep", default="3d_fullres", metavar="CONFIGURATION")
    plans = parser.options("plans")
    meaning = "as preset `paper`: 1 mm isotropic, window −1000…400 HU, recipe and augmentation, τ = 1, 3 samples"
    plans.switch("--paper", meaning)
    add_plan_options(plans, max_patch="112 with --grid fine, else none")
    return parser


def add_plan_options(options: Options, prefix: str = "", *, grid: str = "nnunet", max_patch: str = "none") -> None:
    """Add the settings of plans; each option begins with `prefix`, and `grid` and `max_patch` say their defaults."""
    flag, default = f"--{prefix}", "default: nnU-Net's"
    single = flag if prefix else "-"  # nnU-Net's own spelling
    axes = ("Z", "Y", "X")
    options.number(f"{flag}spacing_mm", axes, "voxel size in mm; default: that of the grid", nargs=3)
    grids = (
        "how the voxel size is chosen: fine (for stage 2): cubic, the median in-plane spacing of the dataset; coarse "
        "(for stage 1): cubic, at least 1.5 times that and 2 mm, and so large that the median image takes at most 8 "
        f"windows; nnunet: by nnU-Net; default: {grid}"
    )
    options.add(f"{flag}grid", grids, choices=("coarse", "fine", "nnunet"))
    options.number(f"{flag}window_hu", ("LOW", "HIGH"), f"fixed intensity window in HU; {default}", nargs=2)
    options.whole(f"{flag}patch_size", axes, f"patch in voxels, in nnU-Net's order of axes; {default}", nargs=3)
    options.number(f"{flag}max_patch_mm", "MM", f"largest edge of a planned patch in mm; default: {max_patch}")
    options.whole(f"{flag}batch_size", "N", f"patches in a batch; {default}")
    sums = "sum the Dice over the crops of a batch; default: true where the dataset has crops without tumor"
    options.add(f"{flag}batch_dice", sums, choices=("true", "false"))
    options.whole(f"{flag}features", "N", f"number of channels at each resolution; {default}", nargs="+")
    planner = (
        "nnU-Net's planner: nnUNetPlannerResEncM, nnUNetPlannerResEncL or nnUNetPlannerResEncXL plan residual encoders "
        "for GPUs of 9 to 11, 24 and 40 GB; default: ExperimentPlanner, as nnU-Net's"
    )
    options.add(f"{single}pl", planner, metavar="PLANNER")
    memory = "GPU memory in GB that patch and batch are planned for; default: the planner's, such as 8"
    options.number(f"{single}gpu_memory_target", "GB", memory)
    names = ", ".join(get_type_hints(TrainingSettings))
    options.words(f"{flag}set", "NAME=VALUE", f"training settings: {names}")


def changed_plan(plan: PlanRequest, args: argparse.Namespace, prefix: str = "") -> PlanRequest:
    """Return plans with what the options of `add_plan_options` change."""
    names = ("spacing_mm", "grid", "window_hu", "patch_size", "max_patch_mm", "batch_size", "features")
    given: dict[str, Any] = {name: getattr(args, f"{prefix}{name}") for name in names}
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    given["planner"] = getattr(args, f"{prefix}pl")
    given["gpu_memory_target_gb"] = getattr(args, f"{prefix}gpu_memory_target")
    training = settings_values(TrainingSettings, getattr(args, f"{prefix}set"))
    said = getattr(args, f"{prefix}batch_dice")
    given["batch_dice"] = None if said is None else said == "true"
    changes = {name: value for name, value in given.items() if value is not None}
    for name, instead in (("spacing_mm", "grid"), ("grid", "spacing_mm"), ("patch_size", "max_patch_mm")):
        if name in changes:  # a patch that is asked for is not cut
            changes.setdefault(instead, None)
    if changes.get("grid") == "nnunet":
        changes["grid"] = None
    return replace(plan, **changes, training={**plan.training, **training})


def _body(args: argparse.Namespace) -> int:
    from nnunet_cascade.training.planning import PlanRequest, plan_summary, write_plans
    from nnunet_cascade.training.request import DEFAULT_PATCH_MM

    paper: dict[str, Any] = {
        "spacing_mm": PAPER_SPACING_MM,
        "window_hu": PAPER_WINDOW_HU,
        "batch_dice": False,
        "training": PAPER_TRAINING,
    }
    plan = PlanRequest(name=args.o, configuration=args.c, **(paper if args.paper else {}))
    if args.grid == "fine":
        plan = replace(plan, max_patch_mm=DEFAULT_PATCH_MM)
    path = write_plans(args.d, changed_plan(plan, args))
    print(f"{path}\n{plan_summary(path)}\nnext: nnUNetv2_preprocess -d {args.d} -plans_name {args.o} -c {args.c}")
    return DONE


main = new_command(build_parser, _body, __name__)
