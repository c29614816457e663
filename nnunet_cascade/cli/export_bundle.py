"""`nnc-export-bundle`: a bundle as one file for others."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from nnunet_cascade.cli.common import DONE, add_trust, new_parser, run_command


def build_parser() -> argparse.ArgumentParser:
    """Describe the command."""
    parser = new_parser("nnc-export-bundle", "Pack a bundle into a zip for others, with a manifest and a model card.")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder that nnc-make-bundle made")
    parser.add_argument("-o", type=Path, required=True, metavar="FILE.zip", help="file to write")
    parser.add_argument(
        "--licence",
        "--license",
        required=True,
        metavar="TEXT",
        help='under which it is given away, such as "CC BY 4.0"',
    )
    parser.add_argument(
        "--training-data", required=True, metavar="TEXT", help="what the models were trained on: source, cases, licence"
    )
    parser.add_argument("--figures", type=Path, metavar="FILE", help="evaluation.json of nnc-evaluate, for the card")
    add_trust(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(build_parser(), _body, argv)


def _body(args: argparse.Namespace) -> int:
    from nnunet_cascade.bundles.card import CardFacts
    from nnunet_cascade.bundles.sharing import export_bundle

    facts = CardFacts(licence=args.licence, training_data=args.training_data, figures=args.figures)
    export_bundle(args.bundle, args.o, facts, trusted=args.trust_checkpoint)
    print(f"{args.o} ({args.o.stat().st_size / 1e6:.1f} MB)\nnext: nnc-install-bundle {args.o} -o FOLDER")
    return DONE
