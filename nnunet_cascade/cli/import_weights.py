"""`nnc-import-weights`: weights of another network as a checkpoint for nnU-Net's -pretrained_weights."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from nnunet_cascade.cli.common import DONE, new_parser, run_command

_MOST_NAMES = 8


def build_parser() -> argparse.ArgumentParser:
    """Describe the command."""
    parser = new_parser(
        "nnc-import-weights",
        "Fit the weights of a MONAI file or an nnU-Net checkpoint into a trainer's network, for -pretrained_weights.",
    )
    parser.add_argument("weights", type=Path, help="such as model_swinvit.pt, or checkpoint_final.pth")
    parser.add_argument("--plans", type=Path, required=True, help="plans file in nnUNet_preprocessed/DatasetXXX_NAME")
    parser.add_argument("-c", default="3d_fullres", metavar="CONFIGURATION", help="of the plans")
    parser.add_argument("-tr", "--trainer", required=True, help="whose network it is, such as SwinUNETRTrainer")
    parser.add_argument("-o", type=Path, required=True, metavar="OUT", help="checkpoint to write, such as weights.pth")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(build_parser(), _body, argv)


def _body(args: argparse.Namespace) -> int:
    from nnunet_cascade.cascade.pretrained_weights import import_weights

    fitted = import_weights(args.weights, plans=args.plans, configuration=args.c, trainer=args.trainer, output=args.o)
    print(f"{len(fitted.taken)} of {len(fitted.taken) + len(fitted.left)} weights taken; {args.o}")
    for what, names in (
        ("not in the file, left as initialized", fitted.left),
        ("in the file, but the network has no place for them", fitted.unused),
        ("of another shape, not taken", fitted.of_other_shape),
    ):
        if names:
            more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
            print(f"  {what}: {', '.join(names[:_MOST_NAMES])}{more}")
    return DONE
