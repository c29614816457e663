"""`nnc-figure`: a figure of each case of a run, with what was found, dropped and uncertain."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_cascade.cli.common import DONE, FAILED, CommandParser, new_command
from nnunet_cascade.cli.options import add_cases, add_images, add_processes, add_tumor_label, require_other_folder
from nnunet_cascade.errors import SettingsError

if TYPE_CHECKING:
    from nnunet_cascade.report.figures.folder import FigureJob


def build_parser() -> CommandParser:
    """Describe the command."""
    parser = CommandParser(
        "nnc-figure",
        "Draw a figure of each case: CT, ground truth, stage 1, kept and dropped candidates with the reasons, and "
        "the final mask with its uncertainty.",
        "nnc-figure -i RESULTS -o FIGURES -gt LABELS --slices 3",
    )
    files = parser.options("input and output")
    files.path("-i", "RESULTS", "folder that nnc-cascade-predict wrote", required=True)
    files.path("-o", "DIR", "folder for the figures <case>.png", required=True)
    files.path("-gt", "DIR", "folder of ground truth <case>.nii.gz")
    add_tumor_label(files, of="the ground truth")
    add_images(files)
    add_cases(files)
    add_processes(files)
    look = parser.options("contents")
    meaning = "gray levels of the CT: lung, mediastinum, bone, or LEVEL,WIDTH in HU"
    look.add("--window", meaning, default="lung", metavar="WINDOW")
    rows = look.one_of()
    rows.whole("--slices", "N", "number of slices of each case, one row each", default=1)
    meaning = "show the slices nearest to these heights (S, in mm) instead of chosen ones"
    rows.words("--slice", "MM", meaning, type=float)
    look.add("--format", "file format of the figures", choices=("png", "pdf", "svg"), default="png")
    return parser


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
    print(f"{len(drawn) - len(problems)} of {len(drawn)} figures drawn in {args.o}")
    return FAILED if problems else DONE


def _jobs(args: argparse.Namespace) -> list[FigureJob]:
    """Read the run and return what to draw."""
    from nnunet_cascade.case_folders.prediction_files import TumorLabel
    from nnunet_cascade.case_folders.run import prepare_output
    from nnunet_cascade.report.figures.folder import chosen_cases, figure_jobs
    from nnunet_cascade.report.figures.request import FigureRequest, Window
    from nnunet_cascade.report.pages.names import folder_names
    from nnunet_cascade.report.reading.given_scans import given_scans
    from nnunet_cascade.report.reading.run_folder import read_run

    if args.tumor_label and args.gt is None:
        raise SettingsError("--tumor_label names values of true labels; give their folder with -gt")
    if args.gt is not None and not args.gt.exists():
        raise SettingsError(f"-gt {args.gt} does not exist; expected a folder of <case>.nii.gz")
    require_other_folder(args.o, args.images, args.gt)
    truth: Path | None = args.gt
    drawn = FigureRequest(
        case="",
        folder=args.i,
        truth=truth,
        truth_tumor=TumorLabel.of(truth, args.tumor_label) if truth and args.tumor_label else None,
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


main = new_command(build_parser, _body, __name__)
