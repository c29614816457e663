"""`nnc-demo`: the whole method on phantoms, in minutes, on any machine."""

from __future__ import annotations

import argparse
from pathlib import Path

from nnunet_cascade.cli.common import DONE, RESUMES, CommandParser, chosen_device, new_command
from nnunet_cascade.cli.options import add_device, add_effort


def build_parser() -> CommandParser:
    """Describe the command."""
    parser = CommandParser(
        "nnc-demo",
        "Make phantoms, train a tiny cascade and a plain nnU-Net of equal budget on them, and compare both on held-out "
        f"phantoms. {RESUMES}",
        "nnc-demo -o demo",
    )
    files = parser.options("input and output")
    files.path("-o", "FOLDER", "folder for everything that is written", default=Path("demo"))
    size = parser.options("size and speed")
    size.whole("--train", "N", "number of training phantoms", default=28)
    size.whole("--test", "N", "number of test phantoms", default=20)
    add_effort(size)
    add_device(size)
    return parser


def _body(args: argparse.Namespace) -> int:
    from nnunet_cascade.reproduction.demo import DemoRequest, run_demo

    request = DemoRequest(
        folder=args.o, train=args.train, test=args.test, effort=args.effort, device=chosen_device(args)
    )
    print(run_demo(request))
    print(f"bundle: {args.o / 'bundle'}; predictions: {args.o / 'predictions'}")
    return DONE


main = new_command(build_parser, _body, __name__)
