"""`nnc-train-cascade`: from a raw dataset to a bundle."""

from __future__ import annotations

import argparse

from nnunet_cascade.cli.common import DONE, RESUMES, CommandParser, chosen_device, new_command
from nnunet_cascade.cli.options import (
    add_device,
    add_preset,
    add_processes,
    add_roi_training,
    add_trust,
    add_tumor_label,
    dataset_tumor,
    jitter_mm,
    preset_spec,
)
from nnunet_cascade.cli.plan import add_plan_options, plan_request


def build_parser() -> CommandParser:
    """Describe the command."""
    parser = CommandParser(
        "nnc-train-cascade",
        "Train both stages of a cascade on a raw nnU-Net dataset, make the bundle, and cross-validate it by patient. "
        f"{RESUMES}",
        "nnc-train-cascade -d 501 -o BUNDLE",
    )
    files = parser.options("input and output")
    files.whole("-d", "ID", "number of the raw dataset", required=True)
    files.path("-o", "BUNDLE", "folder to make", required=True)
    files.whole("--roi_dataset", "ID", "number of the dataset for stage 2; default: ID + 100")
    add_tumor_label(files, of="the dataset")
    training = parser.options("training")
    training.whole("--folds", "K", "number of folds; all are trained, and they predict together", default=5)
    training.add("--stage1_trainer", "any nnU-Net trainer", default="CascadeTrainer", metavar="TRAINER")
    training.add("--stage2_trainer", "a trainer with dropout", default="UncertaintyROITrainer", metavar="TRAINER")
    training.switch("--oracle_boxes", "train stage 2 on boxes from the ground truth")
    add_roi_training(training)
    add_plan_options(parser.options("plans of stage 1"), "stage1_")
    add_plan_options(parser.options("plans of stage 2"), "stage2_")
    add_preset(parser)
    machine = parser.options("speed and machines")
    add_device(machine)
    add_processes(machine)
    add_trust(machine)
    return parser


def _body(args: argparse.Namespace) -> int:
    from nnunet_cascade.training.pipeline import train_cascade
    from nnunet_cascade.training.request import StageTraining, TrainingRequest

    spec = preset_spec(args)
    paper = args.preset == "paper"
    # Regions are small, and a patch need not be larger: unless one is asked for, it is cut to this extent.
    coarse = plan_request(args, "stage1_", paper=paper, name="nnUNetCascadeCoarsePlans")
    largest = 112.0 if args.stage2_patch_size is None else None
    fine = plan_request(args, "stage2_", paper=paper, name="nnUNetCascadeROIPlans", max_patch_mm=largest)
    train_cascade(
        TrainingRequest(
            dataset=args.d,
            roi_dataset=args.roi_dataset if args.roi_dataset is not None else args.d + 100,
            bundle=args.o,
            stage1=StageTraining(plan=coarse, trainer=args.stage1_trainer),
            stage2=StageTraining(plan=fine, trainer=args.stage2_trainer),
            spec=spec,
            folds=args.folds,
            oracle_boxes=args.oracle_boxes or paper,
            jitter_mm=jitter_mm(args),
            edge_channel=args.edge_channel,
            tumor_labels=dataset_tumor(args.d, args.tumor_label),
            device=chosen_device(args),
            processes=args.np,
            trusted=args.trust_checkpoint,
        )
    )
    print(f"{args.o}\nnext: nnc-cascade-predict -i IMAGES -o RESULTS -m {args.o}")
    return DONE


main = new_command(build_parser, _body, __name__)
