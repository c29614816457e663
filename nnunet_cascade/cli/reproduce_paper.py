"""`nnc-reproduce-paper`: the paper's Tables I to VII on a data set, from training to report."""

from __future__ import annotations

import argparse
import time

from nnunet_cascade.cli import options
from nnunet_cascade.cli.common import DONE, FAILED, RESUMES, CommandParser, chosen_device, new_command


def build_parser() -> CommandParser:
    """Describe the command."""
    parser = CommandParser(
        "nnc-reproduce-paper",
        "Train, predict and score what Tables I to VII of the paper compare, and a plain nnU-Net, and report which of "
        f"the paper's claims hold. {RESUMES}",
        "nnc-reproduce-paper -o REPRODUCTION --tiny",
        "nnc-reproduce-paper -o REPRODUCTION -d 501 --dry_run",
    )
    files = parser.options("input and output")
    files.path("-o", "FOLDER", "folder for everything that is written", required=True)
    files.whole("-d", "ID", "number of a raw nnU-Net dataset; default: phantoms, which are made")
    files.whole("--test_dataset", "ID", "raw dataset to test on instead: its imagesTr and labelsTr")
    options.add_tumor_label(files, of="the dataset")
    files.path("--reference_lungs", "FOLDER", "lung masks that came with the test cases, for Table IV")
    options.add_lung_weights(files)
    tables = parser.options("tables and training")
    tables.words("--tables", "I…VII", "tables to reproduce; default: all")
    options.add_preset_name(tables, default="paper")
    tables.whole("--folds", "K", "number of folds of every model; default: 5, with --tiny 2")
    tables.whole("--seed", "N", "random seed of every training", default=0)
    options.add_resamples(tables)
    size = parser.options("size and speed")
    size.switch("--tiny", "use tiny networks and minutes of training, for CPUs")
    options.add_effort(size)
    meaning = "number of phantoms, without -d"
    size.whole("--phantoms", ("TRAIN", "TEST"), meaning, nargs=2, default=(28, 24))
    size.switch("--dry_run", "print the expected cost and stop")
    options.add_device(size)
    return parser


def _body(args: argparse.Namespace) -> int:
    from nnunet_cascade.case_folders.run_report import RunContext
    from nnunet_cascade.reproduction.cases import require_possible
    from nnunet_cascade.reproduction.report import cost_page
    from nnunet_cascade.reproduction.request import ReproductionRequest
    from nnunet_cascade.reproduction.run import reproduce
    from nnunet_cascade.reproduction.tables import chosen_tables
    from nnunet_cascade.reproduction.training import trainings

    request = ReproductionRequest(
        folder=args.o,
        tables=chosen_tables(args.tables),
        dataset=args.d,
        test_dataset=args.test_dataset,
        size="tiny" if args.tiny else "full",
        preset=args.preset,
        folds=args.folds if args.folds is not None else 2 if args.tiny else 5,
        seed=args.seed,
        device=chosen_device(args),
        effort=args.effort,
        reference_lungs=args.reference_lungs,
        lung_weights=args.lung_weights,
        tumor_labels=(1,) if args.d is None else options.dataset_tumor(args.d, args.tumor_label),
        resamples=args.resamples,
        phantoms=tuple(args.phantoms),
    )
    if request.dataset is not None:
        require_possible(request)
    print(cost_page(request, trainings(request)), flush=True)
    if args.dry_run:
        return DONE
    found = reproduce(request, RunContext(begun=time.time(), command=args.argv))
    print(found.page.read_text(encoding="utf-8"))
    print(f"details: {found.page} and reproduction.json next to it; predictions: {args.o / 'systems'}")
    return DONE if found.is_whole else FAILED


main = new_command(build_parser, _body, __name__)
