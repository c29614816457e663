"""`nnc-roi-dataset`: the stage-2 training set."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from nnunet_cascade.cli.common import (
    DONE,
    add_edge_channel,
    add_preset,
    jitter_mm,
    new_parser,
    preset_spec,
    run_command,
)


def build_parser() -> argparse.ArgumentParser:
    """Describe the command."""
    parser = new_parser("nnc-roi-dataset", "Cut ROI crops from a raw nnU-Net dataset, as a raw dataset for stage 2.")
    parser.add_argument("-d", type=int, required=True, metavar="ID", help="number of the dataset with whole images")
    parser.add_argument("-o", type=int, required=True, metavar="ID", help="number of the dataset to make")
    parser.add_argument(
        "--stage1",
        type=Path,
        metavar="MODEL",
        help="trained nnU-Net model folder; its fold_*/validation gives the boxes. default: boxes from the truth",
    )
    parser.add_argument(
        "--context_mm",
        type=float,
        nargs=3,
        default=(160.0, 160.0, 160.0),
        metavar=("Z", "Y", "X"),
        help="extent a crop has at least: stage 2's patch and half of it on top",
    )
    parser.add_argument(
        "--jitter_mm", type=float, help="how far a face of a box may move in training; default: 8, preset paper 0"
    )
    parser.add_argument("--tumor_labels", type=int, nargs="+", default=[1], help="label values that are tumor")
    add_edge_channel(parser)
    add_preset(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(build_parser(), _body, argv)


def _body(args: argparse.Namespace) -> int:
    from nnunet_cascade.nnunet_folders import patient_folds, raw_folder, roi_target
    from nnunet_cascade.training.roi_dataset import RoiDatasetRequest, make_roi_dataset

    spec = preset_spec(args)
    target = roi_target(args.d, args.o)
    rois = make_roi_dataset(
        RoiDatasetRequest(
            source=raw_folder(args.d),
            target=target,
            splits=patient_folds(args.d),
            stage1=args.stage1,
            tumor_labels=tuple(args.tumor_labels),
            anatomy=spec.anatomy,
            lungs=spec.lungs,
            roi=spec.roi,
            edge_channel=args.edge_channel,
            jitter_mm=jitter_mm(args),
            context_mm=tuple(args.context_mm),
        )
    )
    kinds = Counter(roi.kind for roi in rois)
    print(f"{target}: {len(rois)} crops ({', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))})")
    print(f"next: nnc-plan -d {args.o}, nnUNetv2_preprocess, nnUNetv2_train -tr UncertaintyROITrainer")
    return DONE
