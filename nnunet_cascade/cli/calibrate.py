"""`nnc-calibrate`: a bundle's temperature, fitted to results with ground truth."""

from __future__ import annotations

import argparse
import time

from nnunet_cascade.cli.common import DONE, FAILED, CommandParser, new_command
from nnunet_cascade.cli.options import add_tumor_label, require_other_folder


def build_parser() -> CommandParser:
    """Describe the command."""
    parser = CommandParser(
        "nnc-calibrate",
        "Fit the temperature of a bundle's tumor probabilities to results with ground truth, and store it in the "
        "bundle. Masks do not change.",
        "nnc-calibrate -m BUNDLE -i RESULTS -gt LABELS -o CALIBRATION",
    )
    files = parser.options("input and output")
    files.path("-m", "BUNDLE", "bundle that the results were made with", required=True)
    meaning = "results of nnc-cascade-predict on cases that were not used in training, or <bundle>_cross_validation"
    files.path("-i", "RESULTS", meaning, required=True)
    files.path("-gt", "LABELS", "folder of ground truth <case>.nii.gz", required=True)
    files.path("-o", "OUT", "folder for a report of every case, with diagrams")
    add_tumor_label(files, of="the ground truth")
    fit = parser.options("fit")
    meaning = "voxels to fit to: within 5 mm of ground truth or result, or within 3 mm of the true surface"
    fit.add("--region", meaning, choices=("union", "surface"), default="union")
    fit.whole("--seed", "N", "random seed of the confidence intervals", default=12345)
    fit.switch("--dry_run", "do not change the bundle")
    return parser


def _body(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from tqdm import tqdm

    from nnunet_cascade.bundles.bundle import read_spec
    from nnunet_cascade.case_folders.prediction_files import TumorLabel
    from nnunet_cascade.case_folders.run import prepare_output
    from nnunet_cascade.case_folders.run_report import RunContext
    from nnunet_cascade.evaluation.statistics.replicates import RESAMPLING
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
        tumor=TumorLabel.of(args.gt, args.tumor_label),
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
        print(f"stored in {args.m}; its calibration.json records the source")
    if args.o is not None:
        print(f"details: {write_report(report, args.o)}")
    failed = len(report.usable) < len(measured) or bool(reason_against(report))
    return FAILED if failed else DONE


main = new_command(build_parser, _body, __name__)
