"""`nnc-convert-dicom`: your own CTs with contours or segmentations to an nnU-Net dataset."""

from __future__ import annotations

import argparse

from nnunet_cascade.cli.common import CommandParser, new_command
from nnunet_cascade.cli.conversion import add_conversion, run_conversion
from nnunet_cascade.cli.options import add_case_names, add_processes


def build_parser() -> CommandParser:
    """Describe the command."""
    parser = CommandParser(
        "nnc-convert-dicom",
        "Convert CTs with RTSTRUCT or SEG to an nnU-Net v2 raw dataset, voxel for voxel.",
        "nnc-convert-dicom -i DOWNLOAD -d 501 --label 'tumor=GTV-1,gtv*'",
    )
    files = add_conversion(parser)
    files.add("--name", "name of the dataset, as in Dataset501_NAME", default="DICOM", metavar="NAME")
    files.add("--license", "license of the data, for dataset.json", default="", metavar="TEXT")
    labels = parser.options("labels")
    meaning = (
        "a label and the names of its region; case does not matter; * stands for any characters, ? for any one (also a "
        "comma); the first name that exists counts. Give one --label per label, in the order of their values; where "
        "labels overlap, the first keeps the voxel"
    )
    labels.add("--label", meaning, action="append", required=True, metavar="NAME=REGION[,REGION...]")
    meaning = "a label that a patient may lack; these come after the others"
    labels.add("--optional_label", meaning, action="append", default=[], metavar="NAME=REGION[,REGION...]")
    labels.switch("--merge", "unite all regions that match a label, not only the first")
    meaning = "Series Description of the SEG to use; default: the one that was not made by a machine alone"
    labels.add("--seg_description", meaning, metavar="TEXT")
    cases = parser.options("cases")
    add_case_names(cases)
    cases.switch("--by_study", "make one case of each study of a patient")
    add_processes(parser.options("speed and machines"))
    return parser


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
        licence=args.license,
    )
    return run_conversion(args, settings, name=args.name)


main = new_command(build_parser, _body, __name__)
