"""`nnc-report`: web pages of a run, or a comparison of two."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_cascade.cli.common import DONE, FAILED, CommandParser, new_command
from nnunet_cascade.cli.options import add_images, add_processes, add_tumor_label
from nnunet_cascade.errors import SettingsError

if TYPE_CHECKING:
    from nnunet_cascade.report.case_assets import CaseAssets
    from nnunet_cascade.report.collect import ReportRequest

_MOST_LINES = 20


def build_parser() -> CommandParser:
    """Describe the command."""
    parser = CommandParser(
        "nnc-report",
        "Make web pages of a run: a table of the cases, a page for each, and a viewer. Or compare two runs.",
        "nnc-report RESULTS -gt LABELS --serve",
        "nnc-report RESULTS OTHER_RESULTS -o COMPARISON",
    )
    files = parser.options("input and output")
    files.path("results", "RESULTS", "folder of nnc-cascade-predict; two folders are compared", nargs="+")
    files.path("-o", "REPORT", "folder for the pages; default: report, or comparison, in the first folder")
    meaning = "folder of ground truth <case>.nii.gz; default: what nnc-evaluate left in RESULTS/evaluation"
    files.path("-gt", "DIR", meaning)
    add_tumor_label(files, of="the ground truth")
    add_images(files)
    add_processes(files)
    viewer = parser.options("viewer")
    viewer.switch("--no_viewer", "leave the interactive viewer out: smaller pages, and no download")
    viewer.path("--niivue", "FILE", "library of the viewer; default: it is downloaded once")
    viewer.switch("--serve", "then serve the pages to the browsers of this machine, until Ctrl-C")
    viewer.whole("--port", "PORT", "with --serve; 0 takes a free one", default=0)
    return parser


def _body(args: argparse.Namespace) -> int:
    from nnunet_cascade.processes import start_early

    requests = _requests(args)
    if args.np > 1:
        start_early("nnunet_cascade.report.case_assets")
    from nnunet_cascade.report.build import make_comparison, make_report

    first, *others = requests
    made = make_comparison(first, others[0], _progress) if others else make_report(first, _progress)
    told, more = made.problems[:_MOST_LINES], len(made.problems) - _MOST_LINES
    told = [*made.notices, *told, *([f"and {more} more problems; see the pages"] if more > 0 else [])]
    sys.stderr.writelines(f"{line}\n" for line in told)
    print(f"{made.cases} cases; open {made.index}")
    if args.serve:
        from nnunet_cascade.report.viewing.server import serve

        serve(made.index.parent, args.port)
    return FAILED if made.problems else DONE


def _requests(args: argparse.Namespace) -> list[ReportRequest]:
    """Return what to make of each run."""
    from nnunet_cascade.report.collect import ReportRequest

    if len(args.results) > 2:
        raise SettingsError(f"{len(args.results)} folders; expected one, or two to compare")
    if args.port and not args.serve:
        raise SettingsError("--port needs --serve; add it, or leave --port out")
    if args.tumor_label and args.gt is None:
        raise SettingsError("--tumor_label names values of true labels; give their folder with -gt")
    if args.no_viewer and args.niivue is not None:
        raise SettingsError("--niivue and --no_viewer exclude each other; give one")
    default = args.results[0] / ("report" if len(args.results) == 1 else "comparison")
    output: Path = (default if args.o is None else args.o).absolute()
    return [
        ReportRequest(
            results=results,
            output=output,
            truths=args.gt,
            truth_labels=tuple(args.tumor_label),
            images=args.images,
            viewer=not args.no_viewer and len(args.results) == 1,
            niivue=args.niivue,
            processes=args.np,
        )
        for results in args.results
    ]


def _progress(cases: Iterable[CaseAssets], total: int) -> Iterator[CaseAssets]:
    from tqdm import tqdm

    return iter(tqdm(cases, total=total, desc="report", unit="case"))


main = new_command(build_parser, _body, __name__)
