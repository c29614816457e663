"""`nnc-export-bundle`: a bundle as one file for others."""

from __future__ import annotations

import argparse

from nnunet_cascade.cli.common import DONE, CommandParser, new_command
from nnunet_cascade.cli.options import add_trust


def build_parser() -> CommandParser:
    """Describe the command."""
    parser = CommandParser(
        "nnc-export-bundle",
        "Pack a bundle into a zip file for others, with a manifest and a model card.",
        "nnc-export-bundle BUNDLE -o cascade.zip --license 'CC BY 4.0' --training_data '400 CTs of NSCLC-Radiomics'",
    )
    files = parser.options("input and output")
    files.path("bundle", "BUNDLE", "folder that nnc-make-bundle or nnc-train-cascade made")
    files.path("-o", "FILE.zip", "file to write", required=True)
    add_trust(files)
    card = parser.options("model card")
    card.add("--license", 'license of the bundle, such as "CC BY 4.0"', required=True, metavar="TEXT")
    meaning = "what the models were trained on: source, number of cases, license"
    card.add("--training_data", meaning, required=True, metavar="TEXT")
    card.path("--figures", "FILE", "evaluation.json of nnc-evaluate, for the results in the card")
    return parser


def _body(args: argparse.Namespace) -> int:
    from nnunet_cascade.bundles.card import CardFacts
    from nnunet_cascade.bundles.sharing import export_bundle

    facts = CardFacts(license=args.license, training_data=args.training_data, figures=args.figures)
    export_bundle(args.bundle, args.o, facts, trusted=args.trust_checkpoint)
    print(f"{args.o} ({args.o.stat().st_size / 1e6:.1f} MB)\nnext: nnc-install-bundle {args.o} -o BUNDLE")
    return DONE


main = new_command(build_parser, _body, __name__)
