"""`nnc-train-cascade`: from a raw dataset to a bundle."""

from __future__ import annotations

import argparse
from dataclasses import replace

from nnunet_cascade.cli import options
from nnunet_cascade.cli.common import DONE, RESUMES, CommandParser, chosen_device, new_command
from nnunet_cascade.cli.plan import add_plan_options, changed_plan


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
    options.add_tumor_label(files, of="the dataset")
    training = parser.options("training")
    training.whole("--folds", "K", "number of folds; all are trained, and they predict together", default=5)
    training.add("--stage1_trainer", "any nnU-Net trainer", default="CascadeTrainer", metavar="TRAINER")
    training.add("--stage2_trainer", "a trainer with dropout", default="UncertaintyROITrainer", metavar="TRAINER")
    options.add_false_positives(training)
    training.switch("--oracle_boxes", "train stage 2 on boxes from the ground truth")
    options.add_roi_training(training)
    options.add_context(training, default="what training cuts for the patch of stage 2, with rotation and scaling")
    kept = "with preset paper 1 mm"
    add_plan_options(parser.options("plans of stage 1"), "stage1_", grid=f"coarse; {kept}")
    add_plan_options(parser.options("plans of stage 2"), "stage2_", grid=f"fine; {kept}", max_patch="112")
    options.add_preset(parser)
    machine = parser.options("speed and machines")
    options.add_device(machine)
    options.add_processes(machine)
    options.add_trust(machine)
    return parser


def _body(args: argparse.Namespace) -> int:
    from nnunet_cascade.training.pipeline import train_cascade
    from nnunet_cascade.training.request import StageTraining, TrainingRequest

    preset = TrainingRequest.of_preset(args.d, args.o, preset=args.preset)
    coarse = changed_plan(preset.stage1.plan, args, "stage1_")
    fine = changed_plan(preset.stage2.plan, args, "stage2_")
    train_cascade(
        replace(
            preset,
            roi_dataset=preset.roi_dataset if args.roi_dataset is None else args.roi_dataset,
            stage1=StageTraining(plan=coarse, trainer=args.stage1_trainer),
            stage2=StageTraining(plan=fine, trainer=args.stage2_trainer),
            spec=options.preset_spec(args),
            folds=args.folds,
            oracle_boxes=args.oracle_boxes or preset.oracle_boxes,
            jitter_mm=options.jitter_mm(args),
            false_positives_per_scan=options.false_positives(args, preset.false_positives_per_scan),
            context_mm=options.context_mm(args),
            edge_channel=args.edge_channel,
            tumor_labels=options.dataset_tumor(args.d, args.tumor_label),
            device=chosen_device(args),
            processes=args.np,
            trusted=args.trust_checkpoint,
        )
    )
    print(f"{args.o}\nnext: nnc-cascade-predict -i IMAGES -o RESULTS -m {args.o}")
    return DONE


main = new_command(build_parser, _body, __name__)
