"""`nnc-lung-mask`: lung masks of a folder of CTs."""

from __future__ import annotations

import argparse
import time

from nnunet_cascade.cli import options
from nnunet_cascade.cli.common import CommandParser, new_command, report_cases


def build_parser() -> CommandParser:
    """Describe the command."""
    parser = CommandParser(
        "nnc-lung-mask",
        "Find the lungs in CTs: label 1 is the right lung, 2 the left lung, 3 a lung of unknown side.",
        "nnc-lung-mask -i IMAGES -o LUNGS",
    )
    files = parser.options("input and output")
    files.path("-i", "IN", "folder of <case>_0000.nii.gz, or one such file", required=True)
    files.path("-o", "OUT", "folder for <case>.nii.gz and run.json", required=True)
    options.add_lungs(parser)
    options.add_device(parser.options("speed and machines"))
    options.add_sharing(parser.options("resume, and distribute cases over several runs"))
    return parser


def _body(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from nnunet_cascade.case_folders.case_files import find_images
    from nnunet_cascade.case_folders.lock import Part
    from nnunet_cascade.case_folders.run import open_folder, part_of, run_cases, write_run_report
    from nnunet_cascade.case_folders.run_report import RunContext
    from nnunet_cascade.workflows.lung_masks import lung_figures, lung_task

    share = Part(num_parts=args.num_parts, part_id=args.part_id)
    options.require_other_folder(args.o, args.i, args.lungs)
    source = options.lung_source(args)
    cases = part_of(find_images(args.i), share)
    context = RunContext(begun=time.time(), command=args.argv, share=share)
    task = lung_task(args.o, source, resume=args.resume)
    with open_folder(args.o, share, cases):
        outcomes = list(tqdm(run_cases(cases, task), total=len(cases), desc="lungs", unit="case"))
        path = write_run_report(outcomes, task, context, lung_figures)
    failed = sum(outcome.status == "failed" for outcome in outcomes)
    return report_cases(failed, len(outcomes), path)


main = new_command(build_parser, _body, __name__)
