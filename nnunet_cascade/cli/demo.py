"""`nnc-demo`: the whole method on phantoms, in minutes, on any machine."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from nnunet_cascade.cli.common import DONE, add_device, chosen_device, new_parser, run_command


def build_parser() -> argparse.ArgumentParser:
    """Describe the command."""
    parser = new_parser(
        "nnc-demo",
        "Make phantoms, train a tiny cascade and a plain nnU-Net of equal budget on them, and compare both on held-out "
        "phantoms. Run again, it goes on where it stopped.",
    )
    parser.add_argument("-o", type=Path, default=Path("demo"), metavar="FOLDER", help="for everything it writes")
    parser.add_argument("--train", type=int, default=28, help="phantoms to train on")
    parser.add_argument("--test", type=int, default=20, help="phantoms to test on")
    parser.add_argument("--effort", type=float, default=1.0, help="multiplies the training iterations")
    add_device(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(build_parser(), _body, argv)


def _body(args: argparse.Namespace) -> int:
    from nnunet_cascade.reproduction.demo import DemoRequest, run_demo

    request = DemoRequest(
        folder=args.o, train=args.train, test=args.test, effort=args.effort, device=chosen_device(args)
    )
    print(run_demo(request))
    print(f"bundle: {args.o / 'bundle'}; predictions: {args.o / 'predictions'}")
    return DONE
