"""`nnc-make-bundle`: two trained models and their settings in one folder."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from nnunet_cascade.cli.common import DONE, CommandParser, new_command
from nnunet_cascade.cli.options import add_preset, add_trust, add_tumor_label, preset_spec, stored_tumor


def build_parser() -> CommandParser:
    """Describe the command."""
    parser = CommandParser(
        "nnc-make-bundle",
        "Make a bundle for nnc-cascade-predict from two trained nnU-Net models.",
        "nnc-make-bundle -o BUNDLE --stage1 MODEL_FOLDER --stage2 MODEL_FOLDER",
    )
    models = parser.options("input and output")
    models.path("-o", "BUNDLE", "folder to make", required=True)
    for stage, trainer in (("stage1", "any nnU-Net trainer"), ("stage2", "a trainer with dropout")):
        models.path(f"--{stage}", "MODEL", f"nnU-Net model folder of {trainer}", required=True)
        models.words(f"--{stage}_folds", "FOLD", "folds to include; default: all that are trained")
    models.add("-chk", "checkpoint of both models", default="checkpoint_final.pth", metavar="NAME")
    add_trust(models)
    add_tumor_label(models, of="stage 1")
    use = parser.options("prediction")
    meaning = "tumor probability from which stage 1 calls a voxel tumor; default: what nnc-roi-dataset chose, or 0.5"
    use.number("--stage1_threshold", "P", meaning)
    use.whole("--mc_samples", "T", "number of stochastic passes; default: the preset's")
    use.whole("--seed", "N", "random seed of the stochastic passes", default=0)
    meaning = "orientation of the training images; other images are reoriented for the networks"
    use.add("--orientation", meaning, choices=("stored", "LPS", "RAS"), default="stored")
    add_preset(parser)
    return parser


def _body(args: argparse.Namespace) -> int:
    from nnunet_cascade.bundles.bundle import make_bundle, with_folds
    from nnunet_cascade.prediction.spec import StageSettings

    spec = preset_spec(args)

    def stage(settings: StageSettings, model: Path, folds: list[str]) -> StageSettings:
        settings = replace(settings, checkpoint=args.chk, orientation=args.orientation)
        if not folds:
            return with_folds(settings, model)
        return replace(settings, folds=tuple(int(fold) if fold.isdecimal() else fold for fold in folds))

    samples = spec.sampling.mc_samples if args.mc_samples is None else args.mc_samples
    coarse = replace(stage(spec.stage1, args.stage1, args.stage1_folds), threshold=_threshold(args))
    spec = replace(
        spec,
        stage1=replace(coarse, tumor_label=stored_tumor(args.stage1, args.tumor_label)),
        stage2=stage(spec.stage2, args.stage2, args.stage2_folds),
        sampling=replace(spec.sampling, mc_samples=samples, seed=args.seed),
    )
    make_bundle(args.o, stage1=args.stage1, stage2=args.stage2, spec=spec, trusted=args.trust_checkpoint)
    print(f"{args.o}\nnext: nnc-cascade-predict -i IMAGES -o RESULTS -m {args.o}")
    return DONE


def _threshold(args: argparse.Namespace) -> float:
    from nnunet_cascade.training.proposals import THRESHOLD_NAME, kept_threshold

    if args.stage1_threshold is not None:
        return float(args.stage1_threshold)
    chosen = args.preset == "recommended" and (args.stage1 / THRESHOLD_NAME).is_file()
    return kept_threshold(args.stage1) if chosen else 0.5


main = new_command(build_parser, _body, __name__)
