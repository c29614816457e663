"""`nnc-calibrate`: a bundle's temperature, fitted to results with ground truth."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from nnunet_cascade.cli.common import DONE, FAILED, new_parser, require_other_folder, run_command


def build_parser() -> argparse.ArgumentParser:
    """Describe the command."""
    parser = new_parser(
        "nnc-calibrate",
        "Fit the temperature of a bundle's tumor probabilities to results with ground truth, and store it there. "
        "Masks stay as they are.",
    )
    parser.add_argument("-m", type=Path, required=True, metavar="BUNDLE", help="the bundle that made the results")
    parser.add_argument(
        "-i",
        type=Path,
        required=True,
        metavar="RESULTS",
        help="folder of nnc-cascade-predict, of cases the models were not trained on, or <bundle>_cross_validation",
    )
    parser.add_argument("-gt", type=Path, required=True, metavar="LABELS", help="folder of true <case>.nii.gz")
    parser.add_argument(
        "--region",
        choices=("union", "surface"),
        default="union",
        help="fit to the voxels within 5 mm of truth or result, or within 3 mm of the true surface",
    )
    parser.add_argument(
        "--tumor_label",
        nargs="+",
        default=[],
        help="names or values that are tumor; default: the only label of dataset.json, 1 without one",
    )
    parser.add_argument("-o", type=Path, metavar="OUT", help="folder for a report with every case, and diagrams")
    parser.add_argument("--dry_run", action="store_true", help="leave the bundle as it is")
    parser.add_argument("--seed", type=int, default=12345, help="of the intervals")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(build_parser(), _body, argv)


def _body(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from tqdm import tqdm

    from nnunet_cascade.bundles.bundle import read_spec
    from nnunet_cascade.case_folders.prediction_files import TumorLabel
    from nnunet_cascade.case_folders.run import prepare_output
    from nnunet_cascade.case_folders.run_report import RunContext
    from nnunet_cascade.evaluation.calibration.replicates import RESAMPLING
    from nnunet_cascade.workflows.calibration import CalibrationRequest, calibrate, find_results, measure_results
    from nnunet_cascade.workflows.calibration_report import (
        CalibrationReport,
        conclusions,
        held_out_tables,
        reason_against,
        store_temperature,
        write_report,
    )

    run = RunContext(begun=time.time(), command=args.argv)
    read_spec(args.m)
    request = CalibrationRequest(
        bundle=args.m,
        results=args.i,
        truths=args.gt,
        tumor=TumorLabel.of(_with_dataset_file(args.gt), args.tumor_label),
        region=args.region,
        resampling=replace(RESAMPLING, seed=args.seed),
    )
    if args.o is not None:
        require_other_folder(args.o, args.i, args.gt, args.m)
        prepare_output(args.o)
    found = find_results(args.i)
    measured = tuple(tqdm(measure_results(found, request), total=len(found), desc="measure", unit="case"))
    report = CalibrationReport(
        request=request, found=found, measured=measured, calibration=calibrate(measured, request), run=run
    )
    print(held_out_tables(report.calibration))
    print("\n".join(conclusions(report)))
    stored = not (args.dry_run or reason_against(report))
    if stored:
        store_temperature(report)
        print(f"stored in {args.m}, which says in calibration.json where it comes from")
    if args.o is not None:
        print(f"{write_report(report, args.o)} tells the whole story")
    failed = len(report.usable) < len(measured) or bool(reason_against(report))
    return FAILED if failed else DONE


def _with_dataset_file(truths: Path) -> Path:
    """Return the folder whose `dataset.json` names the labels: nnU-Net keeps it above `labelsTr`."""
    return truths.parent if (truths.parent / "dataset.json").is_file() else truths
