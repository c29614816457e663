"""`nnc-demo`: the whole method on phantoms, in minutes, on any machine."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_cascade.cli.common import DONE, RESUMES, CommandParser, chosen_device, new_command
from nnunet_cascade.cli.options import add_device, add_effort

if TYPE_CHECKING:
    from nnunet_cascade.reproduction.demo import DemoResult


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
    made = run_demo(request, first_predicted=_make_report)
    print(made.page)
    print(f"bundle: {made.bundle}; predictions: {made.predictions}; open {_report_folder(made) / 'index.html'}")
    return DONE


def _make_report(made: DemoResult) -> None:
    """Make the report as soon as there is something to see; what it could not show is told."""
    from nnunet_cascade.report.build import make_report
    from nnunet_cascade.report.collect import ReportRequest

    request = ReportRequest(
        results=made.predictions, output=_report_folder(made).absolute(), truths=made.truths, viewer=False
    )
    found = make_report(request)
    sys.stderr.writelines(f"{line}\n" for line in found.problems)


def _report_folder(made: DemoResult) -> Path:
    return made.predictions / "report"


main = new_command(build_parser, _body, __name__)
