"""`nnc-cross-validate`: the honest figure of a bundle, and the score of its candidates."""

from __future__ import annotations

import argparse

from nnunet_cascade.cli import options
from nnunet_cascade.cli.common import DONE, CommandParser, chosen_device, new_command


def build_parser() -> CommandParser:
    """Describe the command."""
    parser = CommandParser(
        "nnc-cross-validate",
        "Predict each patient of a dataset with the models of a bundle that never saw the patient, score the results, "
        "fit the score of candidates to them, and store it in the bundle. nnc-train-cascade does so by itself.",
        "nnc-cross-validate -d 501 --stage1 MODEL_FOLDER -m BUNDLE",
    )
    files = parser.options("input and output")
    files.whole("-d", "ID", "number of the dataset with whole images", required=True)
    files.path("--stage1", "MODEL", "nnU-Net model folder of stage 1, with every fold", required=True)
    files.path("-m", "BUNDLE", "bundle with every fold of both stages", required=True)
    files.path("-o", "OUT", "folder for predictions and scores; default: BUNDLE_cross_validation")
    options.add_tumor_label(files, of="the dataset")
    options.add_false_positives(parser.options("candidates"))
    machine = parser.options("speed and machines")
    options.add_device(machine)
    options.add_trust(machine)
    return parser


def _body(args: argparse.Namespace) -> int:
    from nnunet_cascade.bundles.bundle import read_spec
    from nnunet_cascade.nnunet_folders import patient_folds, raw_folder
    from nnunet_cascade.training.cross_validation import CrossValidation, cross_validate, store_score
    from nnunet_cascade.training.proposals import SENSITIVE, THRESHOLD_NAME, ProposalRequest, make_proposals

    spec = read_spec(args.m)
    chosen = (args.stage1 / THRESHOLD_NAME).is_file()
    proposals = ProposalRequest(
        source=raw_folder(args.d),
        splits=patient_folds(args.d),
        model=args.stage1,
        spec=spec,
        thresholds=SENSITIVE if chosen else (spec.stage1.threshold,),
        tumor_labels=options.dataset_tumor(args.d, args.tumor_label),
        device=chosen_device(args),
        trusted=args.trust_checkpoint,
    )
    make_proposals(proposals)
    task = CrossValidation(
        proposals=proposals,
        bundle=args.m,
        output=args.o or args.m.with_name(f"{args.m.name}_cross_validation"),
        false_positives_per_scan=options.false_positives(args, None if spec.preset == "paper" else 0.25),
    )
    print(cross_validate(task))
    score = store_score(task)
    print("the rules decide alone" if score is None else f"{args.m} now has a score of candidates")
    return DONE


main = new_command(build_parser, _body, __name__)
