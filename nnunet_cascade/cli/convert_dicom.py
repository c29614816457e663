"""`nnc-convert-dicom`: one's own CTs with contours or segmentations to an nnU-Net dataset."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from nnunet_cascade.cli.common import new_parser, run_command
from nnunet_cascade.cli.conversion import add_conversion, run_conversion


def build_parser() -> argparse.ArgumentParser:
    """Describe the command."""
    parser = new_parser(
        "nnc-convert-dicom", "Convert CTs with RTSTRUCT or SEG to an nnU-Net v2 raw dataset, voxel for voxel."
    )
    add_conversion(parser)
    parser.add_argument("--name", default="DICOM", help="of the dataset: Dataset501_NAME")
    parser.add_argument(
        "--label",
        action="append",
        required=True,
        metavar="NAME=REGION[,REGION...]",
        help="a label and the spellings of its region, capitals aside; * stands for any letters, ? for any one (also a "
        "comma); the first that is there counts; give one --label for each label, in the order of their values; where "
        "they overlap the first keeps the voxel",
    )
    parser.add_argument(
        "--optional-label",
        "--optional_label",
        action="append",
        default=[],
        metavar="NAME=REGION[,REGION...]",
        help="a label that a patient may lack; these come after the others",
    )
    parser.add_argument(
        "--merge", action="store_true", help="unite all regions that match a label, not the first alone"
    )
    parser.add_argument(
        "--seg-description",
        "--seg_description",
        metavar="TEXT",
        help="Series Description of the SEG to use; default: the one not made by a machine alone",
    )
    parser.add_argument(
        "--case-names",
        "--case_names",
        choices=("uid", "patient-id"),
        default="uid",
        help="name cases by a hash of the study's UID, which names nobody, or by Patient ID, for data with pseudonyms",
    )
    parser.add_argument("--by-study", "--by_study", action="store_true", help="take each study of a patient for a case")
    parser.add_argument("--licence", default="", help="of the data; written into dataset.json")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(build_parser(), _body, argv)


def _body(args: argparse.Namespace) -> int:
    from nnunet_cascade.dataset_conversion.labels import Label
    from nnunet_cascade.dataset_conversion.settings import ConversionSettings

    labels = [Label.parsed(text, merge=args.merge) for text in args.label]
    labels += [Label.parsed(text, merge=args.merge, required=False) for text in args.optional_label]
    settings = ConversionSettings(
        labels=tuple(labels),
        source=args.label_source,
        seg_description=args.seg_description,
        irregular=args.irregular,
        case_names=args.case_names,
        by_study=args.by_study,
        licence=args.licence,
    )
    return run_conversion(args, settings, name=args.name)
