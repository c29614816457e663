"""`nnc-make-bundle`: two trained models and their settings in one folder."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nnunet_cascade.cli.common import DONE, add_preset, add_trust, new_parser, preset_spec, run_command


def build_parser() -> argparse.ArgumentParser:
    """Describe the command."""
    parser = new_parser("nnc-make-bundle", "Make a bundle for nnc-cascade-predict from two trained nnU-Net models.")
    parser.add_argument("-o", type=Path, required=True, metavar="BUNDLE", help="folder to make")
    parser.add_argument(
        "--stage1", type=Path, required=True, metavar="MODEL", help="model folder of any nnU-Net trainer"
    )
    parser.add_argument(
        "--stage2", type=Path, required=True, metavar="MODEL", help="model folder of a trainer with dropout"
    )
    parser.add_argument("--stage1_folds", nargs="+", help="folds to take; default: all that are trained")
    parser.add_argument("--stage2_folds", nargs="+", help="folds to take; default: all that are trained")
    parser.add_argument("--tumor_label", default="", help="name of the tumor where stage 1 has several labels")
    parser.add_argument("--stage1_threshold", type=float, default=0.5, help="below 0.5 it misses less")
    parser.add_argument("-chk", default="checkpoint_final.pth", help="checkpoint of both models")
    parser.add_argument("--mc_samples", type=int, default=None, help="stochastic passes; default: the preset's")
    parser.add_argument("--seed", type=int, default=0, help="of the stochastic passes")
    parser.add_argument(
        "--orientation",
        choices=("stored", "LPS", "RAS"),
        default="stored",
        help="how images were oriented in training; others are turned for the networks",
    )
    add_preset(parser)
    add_trust(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(build_parser(), _body, argv)


def _body(args: argparse.Namespace) -> int:
    from nnunet_cascade.bundles.bundle import make_bundle, with_folds
    from nnunet_cascade.prediction.spec import StageSettings

    spec = preset_spec(args)

    def stage(settings: StageSettings, model: Path, folds: list[str] | None, label: str) -> StageSettings:
        settings = replace(settings, checkpoint=args.chk, tumor_label=label, orientation=args.orientation)
        if folds is None:
            return with_folds(settings, model)
        return replace(settings, folds=tuple(int(fold) if fold.isdecimal() else fold for fold in folds))

    samples = spec.sampling.mc_samples if args.mc_samples is None else args.mc_samples
    spec = replace(
        spec,
        stage1=replace(
            stage(spec.stage1, args.stage1, args.stage1_folds, args.tumor_label), threshold=args.stage1_threshold
        ),
        stage2=stage(spec.stage2, args.stage2, args.stage2_folds, ""),
        sampling=replace(spec.sampling, mc_samples=samples, seed=args.seed),
    )
    make_bundle(args.o, stage1=args.stage1, stage2=args.stage2, spec=spec, trusted=args.trust_checkpoint)
    print(f"{args.o}\nnext: nnc-cascade-predict -i IMAGES -o RESULTS -m {args.o}")
    return DONE
