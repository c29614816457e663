"""`nnc-roi-dataset`: the stage-2 training set."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace

from nnunet_cascade.cli import options
from nnunet_cascade.cli.common import DONE, CommandParser, chosen_device, new_command

_CONTEXT_MM = (160.0, 160.0, 160.0)


def build_parser() -> CommandParser:
    """Describe the command."""
    parser = CommandParser(
        "nnc-roi-dataset",
        "Cut regions of interest out of a raw nnU-Net dataset and write them as a raw dataset for stage 2.",
        "nnc-roi-dataset -d 501 -o 601 --stage1 MODEL_FOLDER --plans nnUNetCascadeROIPlans.json",
    )
    files = parser.options("input and output")
    files.whole("-d", "ID", "number of the dataset with whole images", required=True)
    files.whole("-o", "ID", "number of the dataset to make", required=True)
    meaning = (
        "nnU-Net model folder with a trained model of every fold; each proposes boxes in the scans that it had not "
    )
    files.path("--stage1", "MODEL", f"{meaning}seen; default: boxes from the ground truth")
    options.add_tumor_label(files, of="the dataset")
    crops = parser.options("crops")
    size = crops.one_of()
    meaning = "plans of stage 2 on the same dataset (nnc-plan --grid fine): crops hold what training cuts for its patch"
    size.path("--plans", "FILE", meaning)
    options.add_context(size, default="160 on each axis")
    meaning = "trainer of stage 2, whose network may need a larger patch than --plans has"
    crops.add("-tr", meaning, default="UncertaintyROITrainer", metavar="TRAINER")
    options.add_roi_training(crops)
    options.add_preset(parser)
    machine = parser.options("speed and machines")
    options.add_device(machine)
    options.add_trust(machine)
    return parser


def _body(args: argparse.Namespace) -> int:
    from nnunet_cascade.nnunet_folders import patient_folds, raw_folder, roi_target
    from nnunet_cascade.training.crop_plan import crop_extent_mm, read_crop_plan
    from nnunet_cascade.training.proposals import SENSITIVE, ProposalRequest, propose
    from nnunet_cascade.training.roi_dataset import RoiDatasetRequest, make_roi_dataset

    spec = options.preset_spec(args)
    tumor_labels = options.dataset_tumor(args.d, args.tumor_label)
    scored = args.preset == "recommended"
    named = spec
    if args.stage1 is not None:
        named = replace(
            spec, stage1=replace(spec.stage1, tumor_label=options.stored_tumor(args.stage1, args.tumor_label))
        )
    proposals = args.stage1 and ProposalRequest(
        source=raw_folder(args.d),
        splits=patient_folds(args.d),
        model=args.stage1,
        spec=named,
        thresholds=SENSITIVE if scored else (spec.stage1.threshold,),
        tumor_labels=tumor_labels,
        device=chosen_device(args),
        trusted=args.trust_checkpoint,
    )
    target = roi_target(args.d, args.o)
    rois = make_roi_dataset(
        RoiDatasetRequest(
            source=raw_folder(args.d),
            target=target,
            splits=patient_folds(args.d),
            proposals=proposals,
            threshold=spec.stage1.threshold if proposals is None else propose(proposals),
            ask_stage2=scored,
            tumor_labels=tumor_labels,
            anatomy=spec.anatomy,
            lungs=spec.lungs,
            roi=spec.roi,
            edge_channel=args.edge_channel,
            jitter_mm=options.jitter_mm(args),
            context_mm=crop_extent_mm(args.plans, args.tr) if args.plans else options.context_mm(args) or _CONTEXT_MM,
            plan=read_crop_plan(args.plans) if args.plans else None,
        )
    )
    kinds = Counter(roi.kind for roi in rois)
    print(f"{target}: {len(rois)} crops ({', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))})")
    print(f"next: nnc-plan -d {args.o}, nnUNetv2_preprocess, nnUNetv2_train -tr {args.tr}")
    return DONE


main = new_command(build_parser, _body, __name__)
