"""`nnc-plan`: plans of our own beside nnU-Net's."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from nnunet_cascade.cli.common import DONE, new_parser, run_command
from nnunet_cascade.errors import SettingsError
from nnunet_cascade.settings.serialization import with_nearest
from nnunet_cascade.settings.training import TrainingSettings

_BOOLEANS = {"true": True, "false": False, "True": True, "False": False}
PAPER_SPACING_MM = (1.0, 1.0, 1.0)
PAPER_WINDOW_HU = (-1000.0, 400.0)
PAPER_TRAINING = {"recipe": "paper", "augmentation": "paper", "uncertainty_scale": 1.0, "mc_samples": 3}


def build_parser() -> argparse.ArgumentParser:
    """Describe the command."""
    parser = new_parser(
        "nnc-plan", "Write plans with a settings block for this package's trainers beside nnU-Net's own."
    )
    parser.add_argument("-d", type=int, required=True, metavar="ID", help="number of a raw nnU-Net dataset")
    parser.add_argument("-o", default="nnUNetCascadePlans", metavar="NAME", help="name of the new plans")
    parser.add_argument("-c", default="3d_fullres", metavar="CONFIGURATION", help="the one configuration to keep")
    add_plan_options(parser)
    return parser


def add_plan_options(parser: argparse.ArgumentParser, prefix: str = "") -> None:
    """Add what a plan can be given, each option beginning with `prefix`."""
    flag = f"--{prefix}"
    parser.add_argument(
        f"{flag}spacing", type=float, nargs=3, metavar=("Z", "Y", "X"), help="voxel size in mm; default: nnU-Net's"
    )
    parser.add_argument(
        f"{flag}window", type=float, nargs=2, metavar=("LOW", "HIGH"), help="fixed window in HU; default: nnU-Net's"
    )
    parser.add_argument(
        f"{flag}patch_size",
        type=int,
        nargs=3,
        metavar=("Z", "Y", "X"),
        help="in nnU-Net's order of axes; default: nnU-Net's",
    )
    parser.add_argument(f"{flag}batch_size", type=int, help="default: nnU-Net's")
    parser.add_argument(f"{flag}features", type=int, nargs="+", help="channels of each resolution; default: nnU-Net's")
    names = ", ".join(get_type_hints(TrainingSettings))
    parser.add_argument(f"{flag}set", nargs="+", default=[], metavar="NAME=VALUE", help=f"training settings: {names}")
    if not prefix:
        parser.add_argument(
            "--paper",
            action="store_true",
            help="as preset `paper`: 1 mm isotropic, window −1000…400 HU, recipe and augmentation, τ = 1, 3 samples",
        )


def training_values(pairs: Sequence[str]) -> dict[str, Any]:
    """Read NAME=VALUE pairs; each value takes the type of its setting, `none` where that may be None.

    Raises:
        SettingsError: A pair has no =, the name is unknown or the value is of another type.
    """
    hints = get_type_hints(TrainingSettings)
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or name not in hints:
            raise SettingsError(
                f"{pair!r} is no training setting: {with_nearest(name, set(hints))}; "
                f"expected NAME=VALUE with NAME of {', '.join(hints)}"
            )
        try:
            values[name] = _parsed(text, hints[name])
        except (ValueError, KeyError) as error:
            default = getattr(TrainingSettings(), name)
            raise SettingsError(f"{pair!r}: expected a value like {default!r}") from error
    return values


def _parsed(text: str, hint: Any) -> Any:
    """Read a value as the type that a setting is annotated with."""
    kinds = get_args(hint) if get_origin(hint) in {Union, UnionType} else (hint,)
    if text.lower() == "none" and NoneType in kinds:
        return None
    kind = next(kind for kind in kinds if kind is not NoneType)
    if kind is bool:
        return _BOOLEANS[text]
    return kind(text) if kind in {int, float} else text


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(build_parser(), _body, argv)


def _body(args: argparse.Namespace) -> int:
    from nnunet_cascade.training.planning import PlanRequest, write_plans

    spacing = tuple(args.spacing) if args.spacing else (PAPER_SPACING_MM if args.paper else None)
    window = tuple(args.window) if args.window else (PAPER_WINDOW_HU if args.paper else None)
    request = PlanRequest(
        name=args.o,
        configuration=args.c,
        spacing_mm=spacing,
        window_hu=window,
        patch_size=tuple(args.patch_size) if args.patch_size else None,
        batch_size=args.batch_size,
        features=tuple(args.features) if args.features else None,
        training={**(PAPER_TRAINING if args.paper else {}), **training_values(args.set)},
    )
    path = write_plans(args.d, request)
    print(f"{path}\nnext: nnUNetv2_preprocess -d {args.d} -plans_name {args.o} -c {args.c}")
    return DONE
