"""`nnc-convert-nsclc-radiomics`: a download of NSCLC-Radiomics to an nnU-Net dataset."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from nnunet_cascade.cli.common import new_parser, run_command
from nnunet_cascade.cli.conversion import add_conversion, run_conversion
from nnunet_cascade.errors import SettingsError


def build_parser() -> argparse.ArgumentParser:
    """Describe the command."""
    parser = new_parser(
        "nnc-convert-nsclc-radiomics",
        "Convert a download of NSCLC-Radiomics (TCIA or IDC, any layout) to an nnU-Net v2 raw dataset.",
    )
    add_conversion(parser)
    parser.add_argument(
        "--targets",
        nargs="+",
        default=None,
        metavar="ROI",
        help="ROIs to unite, by exact name but for capitals; who lacks the first is left out; default: GTV-1",
    )
    parser.add_argument("--all-gtv", "--all_gtv", action="store_true", help="unite all ROIs named gtv…, nodal ones too")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(build_parser(), _body, argv)


def _body(args: argparse.Namespace) -> int:
    from nnunet_cascade.dataset_conversion.nsclc_radiomics import (
        DATASET_NAME,
        PRIMARY_TUMOR,
        nsclc_radiomics_settings,
    )

    if args.all_gtv and args.targets:
        raise SettingsError("--all-gtv and --targets exclude each other; give one")
    if args.all_gtv and args.label_source == "seg":
        raise SettingsError("--all-gtv with --label-source seg: the SEGs hold GTV-1 alone; use rtstruct")
    settings = nsclc_radiomics_settings(
        targets=tuple(args.targets or (PRIMARY_TUMOR,)),
        all_gtv=args.all_gtv,
        source=args.label_source,
        irregular=args.irregular,
    )
    return run_conversion(args, settings, name=DATASET_NAME)
