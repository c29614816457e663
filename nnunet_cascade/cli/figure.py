"""`nnc-figure`: a figure of each case of a run, with what was found, dropped and unsure."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_cascade.cli.common import DONE, FAILED, new_parser, require_other_folder, run_command
from nnunet_cascade.errors import SettingsError

if TYPE_CHECKING:
    from nnunet_cascade.report.figures.folder import FigureJob


def build_parser() -> argparse.ArgumentParser:
    """Describe the command."""
    parser = new_parser(
        "nnc-figure",
        "Draw a figure of each case: CT, ground truth, stage 1, candidates kept and dropped with their reasons, and "
        "the final mask with its uncertainty.",
    )
    parser.add_argument("-i", type=Path, required=True, metavar="RESULTS", help="folder of nnc-cascade-predict")
    parser.add_argument("-o", type=Path, required=True, metavar="DIR", help="folder for the figures <case>.png")
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="the CTs, as nnc-cascade-predict takes them; default: where they were",
    )
    parser.add_argument("--truth", "-gt", type=Path, metavar="DIR", help="folder of true <case>.nii.gz")
    parser.add_argument(
        "--tumor_label",
        "--tumor-label",
        nargs="+",
        default=[],
        metavar="LABEL",
        help="with --truth: names or values that are tumor there; default: the only one of dataset.json, or 1",
    )
    parser.add_argument("--cases", nargs="+", default=[], metavar="CASE", help="default: all")
    parser.add_argument("--window", default="lung", help="lung, mediastinum, bone, or LEVEL,WIDTH in HU")
    rows = parser.add_mutually_exclusive_group()
    rows.add_argument("--slices", type=int, default=1, metavar="N", help="slices of each case, a row each")
    rows.add_argument(
        "--slice",
        type=float,
        nargs="+",
        default=[],
        metavar="MM",
        help="show the slices nearest to these heights (S) instead of the program's choice",
    )
    parser.add_argument("--format", choices=("png", "pdf", "svg"), default="png", help="of the figures")
    parser.add_argument("-np", type=int, default=2, help="cases drawn side by side")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(build_parser(), _body, _joined(sys.argv[1:] if argv is None else argv))


def _joined(argv: Sequence[str]) -> list[str]:
    """Let a window begin with a minus, which argparse takes for another option."""
    joined: list[str] = []
    for word in argv:
        if joined and joined[-1] == "--window":
            joined[-1] = f"--window={word}"
        else:
            joined.append(word)
    return joined


def _body(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from nnunet_cascade.processes import start_early

    if args.np < 1:
        raise SettingsError(f"-np {args.np}; expected at least 1")
    if args.np > 1:
        start_early("nnunet_cascade.report.figures.folder")
    from nnunet_cascade.report.figures.folder import draw_figures

    jobs = _jobs(args)
    drawn = list(tqdm(draw_figures(jobs, args.np), total=len(jobs), desc="figures", unit="case"))
    problems = sorted((figure.case, figure.problem) for figure in drawn if figure.problem)
    sys.stderr.writelines(f"{case}: {problem}\n" for case, problem in problems)
    print(f"{len(drawn) - len(problems)} of {len(drawn)} figures drawn; they are in {args.o}")
    return FAILED if problems else DONE


def _jobs(args: argparse.Namespace) -> list[FigureJob]:
    """Read the run and what is asked for of it."""
    from nnunet_cascade.case_folders.run import prepare_output
    from nnunet_cascade.report.figures.folder import chosen_cases, figure_jobs
    from nnunet_cascade.report.figures.request import FigureRequest
    from nnunet_cascade.report.figures.sources import tumor_of_truth
    from nnunet_cascade.report.figures.window import Window
    from nnunet_cascade.report.pages.names import folder_names
    from nnunet_cascade.report.reading.given_scans import given_scans
    from nnunet_cascade.report.reading.run_folder import read_run

    if args.tumor_label and args.truth is None:
        raise SettingsError("--tumor_label names values of true labels; give their folder with --truth")
    if args.truth is not None and not args.truth.exists():
        raise SettingsError(f"--truth {args.truth} does not exist; expected a folder of <case>.nii.gz")
    require_other_folder(args.o, args.images, args.truth)
    truth: Path | None = args.truth
    drawn = FigureRequest(
        case="",
        folder=args.i,
        truth=truth,
        truth_tumor=tumor_of_truth(truth, args.tumor_label) if truth and args.tumor_label else None,
        window=Window.parsed(args.window),
        slices=args.slices,
        slice_mm=tuple(args.slice),
    )
    run = read_run(args.i)
    cases = chosen_cases(run, args.cases)
    scans = {} if args.images is None else given_scans(args.images, run)
    prepare_output(args.o)
    paths = {case: args.o / f"{name}.{args.format}" for case, name in folder_names(cases).items()}
    return figure_jobs(run, cases, drawn, paths, scans)
