"""`nnc-convert-nsclc-radiomics`: a download of NSCLC-Radiomics to an nnU-Net dataset."""

from __future__ import annotations

import argparse

from nnunet_cascade.cli.common import CommandParser, new_command
from nnunet_cascade.cli.conversion import add_conversion, run_conversion
from nnunet_cascade.cli.options import add_processes
from nnunet_cascade.errors import SettingsError


def build_parser() -> CommandParser:
    """Describe the command."""
    parser = CommandParser(
        "nnc-convert-nsclc-radiomics",
        "Convert a download of NSCLC-Radiomics (TCIA or IDC, any layout) to an nnU-Net v2 raw dataset.",
        "nnc-convert-nsclc-radiomics -i DOWNLOAD -d 501 --folds 5",
    )
    add_conversion(parser)
    labels = parser.options("labels")
    meaning = "ROIs to unite, by exact name except for case; patients without the first are left out; default: GTV-1"
    labels.words("--targets", "ROI", meaning)
    labels.switch("--all_gtv", "unite all ROIs named gtv…, including lymph nodes")
    add_processes(parser.options("speed and machines"))
    return parser


def _body(args: argparse.Namespace) -> int:
    from nnunet_cascade.dataset_conversion.nsclc_radiomics import (
        DATASET_NAME,
        PRIMARY_TUMOR,
        nsclc_radiomics_settings,
    )

    if args.all_gtv and args.targets:
        raise SettingsError("--all_gtv and --targets exclude each other; give one")
    if args.all_gtv and args.label_source == "seg":
        raise SettingsError("--all_gtv with --label_source seg: the SEGs hold GTV-1 alone; use rtstruct")
    settings = nsclc_radiomics_settings(
        targets=tuple(args.targets or (PRIMARY_TUMOR,)),
        all_gtv=args.all_gtv,
        source=args.label_source,
        irregular=args.irregular,
    )
    return run_conversion(args, settings, name=DATASET_NAME)


main = new_command(build_parser, _body, __name__)
