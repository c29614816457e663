"""`nnc-report`: pages of a run, or of two beside each other, for a browser."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_cascade.cli.common import DONE, FAILED, new_parser, run_command
from nnunet_cascade.errors import SettingsError

if TYPE_CHECKING:
    from nnunet_cascade.report.case_assets import CaseAssets
    from nnunet_cascade.report.collect import ReportRequest, ReportResult

_MOST_LINES = 20


def build_parser() -> argparse.ArgumentParser:
    """Describe the command."""
    parser = new_parser(
        "nnc-report", "Make pages of a run for a browser: a table of cases, a page for each, a viewer; or compare two."
    )
    parser.add_argument(
        "results", type=Path, nargs="+", metavar="OUT", help="folder of nnc-cascade-predict; two are compared"
    )
    parser.add_argument(
        "-o",
        type=Path,
        metavar="REPORT",
        help="folder for the report; default: OUT/report, or OUT/comparison of the first",
    )
    parser.add_argument(
        "--truth",
        "-gt",
        type=Path,
        metavar="DIR",
        help="folder of true <case>.nii.gz; default: what nnc-evaluate left in OUT/evaluation.json or OUT/evaluation",
    )
    parser.add_argument(
        "--tumor_label",
        "--tumor-label",
        nargs="+",
        default=[],
        metavar="LABEL",
        help="names or values that are tumor in --truth; default: the only label of dataset.json, 1 without one",
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="the CTs, as nnc-cascade-predict takes them; default: where they were",
    )
    parser.add_argument(
        "--no_viewer", action="store_true", help="no interactive viewer: smaller, and nothing is fetched"
    )
    parser.add_argument(
        "--niivue", type=Path, metavar="FILE", help="the viewer's library; default: it is fetched once and kept"
    )
    parser.add_argument("--serve", action="store_true", help="then show it to this machine's browsers, until Ctrl-C")
    parser.add_argument("--port", type=int, default=0, help="with --serve; 0 takes a free one")
    parser.add_argument("-np", type=int, default=2, help="cases made side by side")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(build_parser(), _body, argv)


def _body(args: argparse.Namespace) -> int:
    from nnunet_cascade.processes import start_early

    requests = _requests(args)
    if args.np > 1:
        start_early("nnunet_cascade.report.case_assets")
    made = _made(requests)
    for line in (*made.notices, *_report_lines(made)):
        sys.stderr.write(f"{line}\n")
    print(f"{made.cases} cases; open {made.index}")
    if args.serve:
        _serve(made.index.parent, args.port)
    return FAILED if made.problems else DONE


def _requests(args: argparse.Namespace) -> list[ReportRequest]:
    """Return what is asked for of each run."""
    from nnunet_cascade.report.collect import ReportRequest

    if len(args.results) > 2:
        raise SettingsError(f"{len(args.results)} folders; expected one, or two to compare")
    if args.port and not args.serve:
        raise SettingsError("--port is for --serve; add it, or leave --port out")
    if args.tumor_label and args.truth is None:
        raise SettingsError("--tumor_label names values of true labels; give their folder with --truth")
    if args.no_viewer and args.niivue is not None:
        raise SettingsError("--niivue and --no_viewer exclude each other; give one")
    default = args.results[0] / ("report" if len(args.results) == 1 else "comparison")
    output: Path = (default if args.o is None else args.o).absolute()
    return [
        ReportRequest(
            results=results,
            output=output,
            truths=args.truth,
            truth_labels=tuple(args.tumor_label),
            images=args.images,
            viewer=not args.no_viewer and len(args.results) == 1,
            niivue=args.niivue,
            processes=args.np,
        )
        for results in args.results
    ]


def _made(requests: list[ReportRequest]) -> ReportResult:
    if len(requests) == 1:
        from nnunet_cascade.report.build import make_report

        return make_report(requests[0], _progress)
    from nnunet_cascade.report.build import make_comparison

    return make_comparison(requests[0], requests[1], _progress)


def _progress(cases: Iterable[CaseAssets], total: int) -> Iterator[CaseAssets]:
    from tqdm import tqdm

    return iter(tqdm(cases, total=total, desc="report", unit="case"))


def _report_lines(made: ReportResult) -> list[str]:
    more = len(made.problems) - _MOST_LINES
    return [*made.problems[:_MOST_LINES], *([f"and {more} more problems; the pages tell them"] if more > 0 else [])]


def _serve(folder: Path, port: int) -> None:
    from nnunet_cascade.report.viewing.server import serve

    serve(folder, port)
