"""`nnc-lung-mask`: lung masks of a folder of CTs."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from nnunet_cascade.cli.common import (
    DONE,
    FAILED,
    add_device,
    add_lungs,
    add_sharing,
    lung_source,
    new_parser,
    require_other_folder,
    require_sharing,
    run_command,
)


def build_parser() -> argparse.ArgumentParser:
    """Describe the command."""
    parser = new_parser("nnc-lung-mask", "Find the lungs in CTs: 1 the right one, 2 the left one, 3 of unknown side.")
    parser.add_argument(
        "-i", type=Path, required=True, metavar="IN", help="folder of <case>_0000.nii.gz, or one such file"
    )
    parser.add_argument("-o", type=Path, required=True, metavar="OUT", help="folder for <case>.nii.gz and run.json")
    add_lungs(parser)
    add_device(parser)
    add_sharing(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(build_parser(), _body, argv)


def _body(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from nnunet_cascade.case_folders.case_files import find_images
    from nnunet_cascade.case_folders.run import open_folder, part_of, run_cases, write_run_report
    from nnunet_cascade.case_folders.run_report import RunContext
    from nnunet_cascade.workflows.lung_masks import lung_figures, lung_task

    share = require_sharing(args)
    require_other_folder(args.o, args.i, args.lungs)
    source = lung_source(args)
    cases = part_of(find_images(args.i), share)
    context = RunContext(begun=time.time(), command=args.argv, share=share)
    task = lung_task(args.o, source, resume=args.continue_prediction)
    with open_folder(args.o, share, cases):
        outcomes = list(tqdm(run_cases(cases, task), total=len(cases), desc="lungs", unit="case"))
        path = write_run_report(outcomes, task, context, lung_figures)
    failed = sum(outcome.status == "failed" for outcome in outcomes)
    print(f"{len(outcomes) - failed} of {len(outcomes)} cases done; {path} tells the whole story")
    return FAILED if failed else DONE
