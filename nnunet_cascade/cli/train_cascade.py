"""`nnc-train-cascade`: from a raw dataset to a bundle."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_cascade.cli.common import (
    DONE,
    add_device,
    add_edge_channel,
    add_preset,
    add_trust,
    chosen_device,
    jitter_mm,
    new_parser,
    preset_spec,
    run_command,
)
from nnunet_cascade.cli.plan import PAPER_SPACING_MM, PAPER_TRAINING, PAPER_WINDOW_HU, add_plan_options, training_values

if TYPE_CHECKING:
    from nnunet_cascade.training.planning import PlanRequest


def build_parser() -> argparse.ArgumentParser:
    """Describe the command."""
    parser = new_parser(
        "nnc-train-cascade",
        "Train both stages of a cascade on a raw nnU-Net dataset, make the bundle and cross-validate it by patient. "
        "Run again, it goes on where it stopped.",
    )
    parser.add_argument("-d", type=int, required=True, metavar="ID", help="number of the raw dataset")
    parser.add_argument("-o", type=Path, required=True, metavar="BUNDLE", help="folder to make")
    parser.add_argument(
        "--roi_dataset", type=int, metavar="ID", help="number for the stage-2 dataset; default: ID + 100"
    )
    parser.add_argument("--folds", type=int, default=5, help="all of them are trained, and predict together")
    parser.add_argument("--stage1_trainer", default="CascadeTrainer", help="any nnU-Net trainer")
    parser.add_argument("--stage2_trainer", default="UncertaintyROITrainer", help="a trainer with dropout")
    parser.add_argument("--oracle_boxes", action="store_true", help="train stage 2 on boxes from the ground truth")
    parser.add_argument(
        "--jitter_mm", type=float, help="how far a face of a box may move in training; default: 8, preset paper 0"
    )
    parser.add_argument("--tumor_labels", type=int, nargs="+", default=[1], help="label values that are tumor")
    parser.add_argument("-np", type=int, default=2, help="processes for preprocessing")
    add_edge_channel(parser)
    add_preset(parser)
    add_plan_options(parser, "stage1_")
    add_plan_options(parser, "stage2_")
    add_trust(parser)
    add_device(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(build_parser(), _body, argv)


def _body(args: argparse.Namespace) -> int:
    from nnunet_cascade.training.pipeline import StageTraining, TrainingRequest, train_cascade

    spec = preset_spec(args)
    paper = args.preset == "paper"
    train_cascade(
        TrainingRequest(
            dataset=args.d,
            roi_dataset=args.roi_dataset if args.roi_dataset is not None else args.d + 100,
            bundle=args.o,
            stage1=StageTraining(plan=_plan(args, "stage1_", paper=paper), trainer=args.stage1_trainer),
            stage2=StageTraining(plan=_plan(args, "stage2_", paper=paper), trainer=args.stage2_trainer),
            spec=spec,
            folds=args.folds,
            oracle_boxes=args.oracle_boxes or paper,
            jitter_mm=jitter_mm(args),
            edge_channel=args.edge_channel,
            tumor_labels=tuple(args.tumor_labels),
            device=chosen_device(args),
            processes=args.np,
            trusted=args.trust_checkpoint,
        )
    )
    print(f"{args.o}\nnext: nnc-cascade-predict -i IMAGES -o RESULTS -m {args.o}")
    return DONE


def _plan(args: argparse.Namespace, prefix: str, *, paper: bool) -> PlanRequest:
    from nnunet_cascade.training.planning import PlanRequest

    given = {
        name: getattr(args, f"{prefix}{name}")
        for name in ("spacing", "window", "patch_size", "batch_size", "features", "set")
    }
    settings = training_values(given["set"])
    if paper:
        settings = {**PAPER_TRAINING, **settings}
    spacing: Any = given["spacing"] or (PAPER_SPACING_MM if paper else None)
    window: Any = given["window"] or (PAPER_WINDOW_HU if paper else None)
    return PlanRequest(
        max_patch_mm=112.0 if prefix == "stage2_" and given["patch_size"] is None else None,
        name="nnUNetCascadeCoarsePlans" if prefix == "stage1_" else "nnUNetCascadeROIPlans",
        spacing_mm=tuple(spacing) if spacing else None,
        window_hu=tuple(window) if window else None,
        patch_size=tuple(given["patch_size"]) if given["patch_size"] else None,
        batch_size=given["batch_size"],
        features=tuple(given["features"]) if given["features"] else None,
        training=settings,
    )
