"""`nnc-import-weights`: weights of another network as a checkpoint for nnU-Net's -pretrained_weights."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nnunet_cascade.cli.common import DONE, CommandParser, new_command
from nnunet_cascade.cli.options import add_trust
from nnunet_cascade.errors import SettingsError

if TYPE_CHECKING:
    from nnunet_cascade.training.pretrained_weights import ImportedWeights

_MOST = 12


def build_parser() -> CommandParser:
    """Describe the command."""
    parser = CommandParser(
        "nnc-import-weights",
        "Fit the weights of a MONAI file or an nnU-Net checkpoint into a trainer's network, for -pretrained_weights.",
        "nnc-import-weights model_swinvit.pt --plans nnUNetPlans.json -tr SwinUNETRTrainer -o weights.pth",
    )
    files = parser.options("input and output")
    files.path("weights", "FILE", "weights to import, such as model_swinvit.pt or checkpoint_final.pth")
    files.path("-o", "OUT", "checkpoint to write, such as weights.pth", required=True)
    files.path("--report", "FILE", "JSON report to write: the source of the weights, and each weight by name")
    add_trust(files)
    network = parser.options("network")
    network.path("--plans", "FILE", "plans file in nnUNet_preprocessed/DatasetXXX_NAME", required=True)
    network.add("-c", "configuration of the plans", default="3d_fullres", metavar="CONFIGURATION")
    network.add(
        "-tr", "trainer whose network gets the weights, such as SwinUNETRTrainer", required=True, metavar="TRAINER"
    )
    return parser


def _body(args: argparse.Namespace) -> int:
    from nnunet_cascade.files import write_json
    from nnunet_cascade.training.pretrained_weights import import_weights

    if args.report is not None and not args.report.parent.is_dir():
        raise SettingsError(f"--report {args.report} cannot be written; expected a file in an existing folder")
    imported = import_weights(
        args.weights,
        plans=args.plans,
        configuration=args.c,
        trainer=args.tr,
        output=args.o,
        trusted=args.trust_checkpoint,
    )
    if args.report is not None:
        write_json(args.report, _report(imported))
    print("\n".join(_lines(imported)))
    record = imported.record
    print(
        f"{args.o} is written; next: nnUNetv2_train {record['dataset']} {record['configuration']} FOLD "
        f"-tr {record['trainer']} -p {record['plans']} -pretrained_weights {args.o}"
    )
    return DONE


def _report(imported: ImportedWeights) -> dict[str, object]:
    fitted = imported.fitted
    others = [{"name": each.name, "found": each.found, "expected": each.expected} for each in fitted.of_other_shape]
    return {
        **imported.record,
        "taken": fitted.taken,
        "left": fitted.left,
        "of_other_shape": others,
        "unused": fitted.unused,
    }


def _lines(imported: ImportedWeights) -> list[str]:
    """List which weights were taken and which were not, with the reasons."""
    fitted, record = imported.fitted, imported.record
    left, renamed = "left as initialized", ""
    if fitted.origin or fitted.place:
        renamed = f"; {record['names_in_file']} → {record['names_in_network']}"
    counts = f"{record['weights_taken']} of {record['weights']} weights taken"
    lines = [f"{record['file']}: {counts}, {fitted.numbers_taken:,} of {fitted.numbers:,} numbers{renamed}"]
    if fitted.left:
        lines.append(f"  not in the file, {left}: {_grouped(fitted.left)}")
    if fitted.of_other_shape:
        lines.append(f"  of another shape, {left}: {_shortened([str(each) for each in fitted.of_other_shape])}")
    if fitted.unused:
        names = [name.removeprefix(fitted.origin) for name in fitted.unused]
        lines.append(f"  in the file, but not in the network: {_grouped(names)}")
    return lines


def _grouped(names: Sequence[str]) -> str:
    """Count names by their first part, or by their first two if that gives more than two groups."""
    groups: Counter[str] = Counter()
    for depth in (1, 2):
        groups = Counter(".".join(name.split(".")[:-1][:depth]) or name for name in names)
        if len(groups) > 2:
            break
    return _shortened([f"{group} ({count})" for group, count in groups.items()])


def _shortened(parts: Sequence[str]) -> str:
    more = f" and {len(parts) - _MOST} more" if len(parts) > _MOST else ""
    return ", ".join(parts[:_MOST]) + more


main = new_command(build_parser, _body, __name__)
