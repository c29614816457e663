"""`nnc-import-weights`: weights of another network as a checkpoint for nnU-Net's -pretrained_weights."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_cascade.cli.common import DONE, new_parser, run_command
from nnunet_cascade.errors import SettingsError

if TYPE_CHECKING:
    from nnunet_cascade.training.pretrained_weights import ImportedWeights

_MOST = 12


def build_parser() -> argparse.ArgumentParser:
    """Describe the command."""
    parser = new_parser(
        "nnc-import-weights",
        "Fit the weights of a MONAI file or an nnU-Net checkpoint into a trainer's network, for -pretrained_weights.",
    )
    parser.add_argument("weights", type=Path, help="such as model_swinvit.pt, or checkpoint_final.pth")
    parser.add_argument("--plans", type=Path, required=True, help="plans file in nnUNet_preprocessed/DatasetXXX_NAME")
    parser.add_argument("-c", "--configuration", default="3d_fullres", metavar="NAME", help="of the plans")
    parser.add_argument("-tr", "--trainer", required=True, help="whose network it is for, such as SwinUNETRTrainer")
    parser.add_argument("-o", type=Path, required=True, metavar="OUT", help="checkpoint to write, such as weights.pth")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="report to write: where from, and each weight by name"
    )
    parser.add_argument(
        "--trust-checkpoint",
        action="store_true",
        help="let the plans name a network of any origin, which is imported and called; give it only if you trust "
        "where the plans come from",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(build_parser(), _body, argv)


def _body(args: argparse.Namespace) -> int:
    from nnunet_cascade.files import write_json
    from nnunet_cascade.training.pretrained_weights import import_weights

    if args.json is not None and not args.json.parent.is_dir():
        raise SettingsError(f"--json {args.json} cannot be written; expected a file in a folder that is there")
    imported = import_weights(
        args.weights,
        plans=args.plans,
        configuration=args.configuration,
        trainer=args.trainer,
        output=args.o,
        trusted=args.trust_checkpoint,
    )
    if args.json is not None:
        write_json(args.json, _report(imported))
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
    """Say which weights were taken, which not, and why."""
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
        lines.append(f"  in the file, but nothing in the network: {_grouped(names)}")
    return lines


def _grouped(names: Sequence[str]) -> str:
    """Count names by what they begin with, by more of it where that would say too little."""
    groups: Counter[str] = Counter()
    for depth in (1, 2):
        groups = Counter(".".join(name.split(".")[:-1][:depth]) or name for name in names)
        if len(groups) > 2:
            break
    return _shortened([f"{group} ({count})" for group, count in groups.items()])


def _shortened(parts: Sequence[str]) -> str:
    more = f" and {len(parts) - _MOST} more" if len(parts) > _MOST else ""
    return ", ".join(parts[:_MOST]) + more
