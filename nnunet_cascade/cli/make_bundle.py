"""`nnc-make-bundle`: two trained models and their settings in one folder."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nnunet_cascade.cli.common import DONE, CommandParser, new_command
from nnunet_cascade.cli.options import add_preset, add_trust, add_tumor_label, preset_spec


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
    use.number("--stage1_threshold", "P", "tumor probability from which stage 1 calls a voxel tumor", default=0.5)
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
    coarse = replace(stage(spec.stage1, args.stage1, args.stage1_folds), threshold=args.stage1_threshold)
    spec = replace(
        spec,
        stage1=replace(coarse, tumor_label=_tumor(args.stage1, args.tumor_label)),
        stage2=stage(spec.stage2, args.stage2, args.stage2_folds),
        sampling=replace(spec.sampling, mc_samples=samples, seed=args.seed),
    )
    make_bundle(args.o, stage1=args.stage1, stage2=args.stage2, spec=spec, trusted=args.trust_checkpoint)
    print(f"{args.o}\nnext: nnc-cascade-predict -i IMAGES -o RESULTS -m {args.o}")
    return DONE


def _tumor(model: Path, asked: Sequence[str]) -> str | tuple[str, ...]:
    """Return what a bundle stores of the labels asked for by name or value; "" if none is asked for."""
    from nnunet_cascade.dataset_labels import DatasetLabels
    from nnunet_cascade.nnunet_folders import read_json

    labels = DatasetLabels.of(read_json(model / "dataset.json"), where=str(model))
    first, *others = labels.names_of(labels.values_of(asked))
    return (first, *others) if others else first if asked else ""


main = new_command(build_parser, _body, __name__)
