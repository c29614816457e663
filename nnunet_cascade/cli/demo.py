"""`nnc-demo`: the whole method on phantoms, in minutes, on any machine."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_cascade.cli.common import DONE, RESUMES, CommandParser, chosen_device, new_command
from nnunet_cascade.cli.options import add_device, add_effort

if TYPE_CHECKING:
    from nnunet_cascade.reproduction.demo import DemoRequest


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
    # Figure and report are made as soon as there is something to see.
    print(run_demo(request, proposed=partial(_draw_first_look, request), predicted=partial(_make_report, request)))
    page = request.predictions / "report" / "index.html"
    print(f"bundle: {request.bundle}; predictions: {request.predictions}; open {page}")
    return DONE


def _draw_first_look(request: DemoRequest, case: str) -> None:
    """Draw what stage 1 proposed for a phantom."""
    from nnunet_cascade.images import ENDING
    from nnunet_cascade.report.figures.drawing import draw_figure
    from nnunet_cascade.report.figures.request import FigureRequest
    from nnunet_cascade.scans.search import image_scans

    image = request.dataset / "imagesTr" / f"{case}_0000{ENDING}"
    truth, path = request.dataset / "labelsTr" / f"{case}{ENDING}", request.first_look / f"{case}.png"
    scan = image_scans({case: image})[case]
    draw_figure(FigureRequest(case=case, folder=request.first_look, scan=scan, truth=truth), path)
    print(f"a first look at what stage 1 proposes: {path}")


def _make_report(request: DemoRequest) -> None:
    """Make the report on the held-out phantoms, and say what it could not show."""
    from nnunet_cascade.report.build import make_report
    from nnunet_cascade.report.collect import ReportRequest

    output, truths = (request.predictions / "report").absolute(), request.dataset / "labelsTs"
    made = make_report(ReportRequest(results=request.predictions, output=output, truths=truths, viewer=False))
    sys.stderr.writelines(f"{line}\n" for line in made.problems)


main = new_command(build_parser, _body, __name__)
