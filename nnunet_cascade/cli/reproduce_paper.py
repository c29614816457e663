"""`nnc-reproduce-paper`: the paper's Tables I to VII on a data set, from training to report."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from nnunet_cascade.cli.common import DONE, FAILED, add_device, chosen_device, new_parser, run_command


def build_parser() -> argparse.ArgumentParser:
    """Describe the command."""
    parser = new_parser(
        "nnc-reproduce-paper",
        "Train, predict and score what the paper's Tables I to VII compare, beside a plain nnU-Net, and say which of "
        "its claims hold. Run again, it goes on where it stopped.",
    )
    parser.add_argument("-o", type=Path, required=True, metavar="FOLDER", help="for everything it writes")
    parser.add_argument(
        "-d", type=int, metavar="ID", help="number of a raw nnU-Net dataset; default: phantoms of its own"
    )
    parser.add_argument(
        "--test-dataset",
        "--test_dataset",
        type=int,
        metavar="ID",
        help="another cohort to test on, its imagesTr and labelsTr",
    )
    parser.add_argument("--tables", nargs="+", action="extend", default=[], metavar="I…VII", help="default: all")
    parser.add_argument("--tiny", action="store_true", help="tiny networks and minutes of training, for CPUs")
    parser.add_argument(
        "--preset", choices=("recommended", "paper"), default="paper", help="of rules, training boxes, samples and loss"
    )
    parser.add_argument("--folds", type=int, help="of every model; default: 5, with --tiny 2")
    parser.add_argument("--seed", type=int, default=0, help="of every training")
    parser.add_argument("--effort", type=float, default=1.0, help="multiplies the training steps of --tiny")
    parser.add_argument(
        "--reference_lungs", type=Path, metavar="FOLDER", help="lung masks that came with the test cases, for Table IV"
    )
    parser.add_argument("--lung_weights", type=Path, help="weights file of lungmask, for Table IV")
    parser.add_argument("--tumor_labels", type=int, nargs="+", default=[1], help="label values that are tumor")
    parser.add_argument("--phantoms", type=int, nargs=2, default=(28, 24), metavar=("TRAIN", "TEST"), help="without -d")
    parser.add_argument("--resamples", type=int, default=9999, help="of every bootstrap interval")
    parser.add_argument("--dry_run", action="store_true", help="say what it will cost and stop")
    add_device(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(build_parser(), _body, argv)


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
        tumor_labels=tuple(args.tumor_labels),
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
    print(f"{found.page} and reproduction.json beside it; predictions: {args.o / 'systems'}")
    return DONE if found.is_whole else FAILED
