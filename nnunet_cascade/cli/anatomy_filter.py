"""`nnc-anatomy-filter`: the anatomy rules on the predictions of any nnU-Net model, and their tuning."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_cascade.cli import options
from nnunet_cascade.cli.common import DONE, FAILED, CommandParser, Options, new_command, report_cases
from nnunet_cascade.cli.settings_values import settings_values
from nnunet_cascade.errors import BundleError, SettingsError

if TYPE_CHECKING:
    from nnunet_cascade.case_folders.run_report import RunContext
    from nnunet_cascade.postprocessing.scoring.score import CandidateScore
    from nnunet_cascade.postprocessing.settings import AnatomySettings
    from nnunet_cascade.postprocessing.tuning import SearchSpace
    from nnunet_cascade.workflows.anatomy_filter import FilterRequest


def build_parser() -> CommandParser:
    """Describe the command."""
    parser = CommandParser(
        "nnc-anatomy-filter",
        "Remove from nnU-Net's predictions what cannot be a lung tumor, and record why; or tune the rules on "
        "predictions with ground truth.",
        "nnc-anatomy-filter -i PREDICTIONS -ct IMAGES -o OUT",
        "nnc-anatomy-filter -i PREDICTIONS -ct IMAGES -o TUNED --tune -gt LABELS",
    )
    files = parser.options("input and output")
    files.path("-i", "IN", "folder of predictions <case>.nii.gz, or one of them", required=True)
    files.path("-ct", "IMAGES", "folder of <case>_0000.nii.gz, or the one such file", required=True)
    files.path("-o", "OUT", "folder for the results", required=True)
    options.add_tumor_label(files, of="the predictions")
    meaning = "maps <case>_uncertainty.nii.gz, for --set rank_by=mean_uncertainty and for the record"
    files.path("--uncertainty", "FOLDER", meaning)
    rules = parser.options("rules")
    options.add_preset_name(rules, default=None)
    rules.path("--settings", "FILE", "anatomy.json as --tune writes it")
    rules.words("--set", "NAME=VALUE", "single settings, see docs/anatomy.md")
    options.add_top_k(rules, default="that of the settings; all with --tune")
    meaning = (
        "judge candidates by the score of this bundle, as far as it goes without stage 2; needs <case>.npz beside IN"
    )
    rules.path("--score", "BUNDLE", meaning)
    _add_tuning(parser.options("tuning"))
    options.add_lungs(parser)
    options.add_device(parser.options("speed and machines"))
    options.add_sharing(parser.options("resume, and distribute cases over several runs"))
    return parser


def _add_tuning(tuning: Options) -> None:
    tuning.switch("--tune", "find settings that first lose no true tumor and then drop most of the other candidates")
    tuning.path("-gt", "LABELS", "folder of ground truth <case>.nii.gz, or the one such file")
    tuning.whole("--folds", "K", "number of patient-level folds", default=5)
    tuning.whole("--seed", "N", "random seed of the folds", default=12345)
    tuning.path("--splits", "FILE", "nnU-Net's splits_final.json instead of --folds")
    tuning.words("--try", "NAME=V,V,...", "values to try for a threshold, instead of the default ones", dest="tried")


def _body(args: argparse.Namespace) -> int:
    from nnunet_cascade.case_folders.case_files import find_masks
    from nnunet_cascade.case_folders.lock import Part
    from nnunet_cascade.case_folders.prediction_files import TumorLabel
    from nnunet_cascade.case_folders.run import open_folder, part_of
    from nnunet_cascade.case_folders.run_report import RunContext
    from nnunet_cascade.workflows.anatomy_filter import LUNG_FOLDER, FilterRequest

    share = Part(num_parts=args.num_parts, part_id=args.part_id)
    _require_mode(args)
    inputs = (args.i, args.ct, args.gt, args.lungs, args.uncertainty)
    options.require_other_folder(args.o, *inputs)
    options.require_other_folder(args.o / LUNG_FOLDER, *inputs)
    request = FilterRequest(
        images=args.ct,
        output=args.o,
        anatomy=anatomy_settings(args),
        lungs=options.lung_source(args),
        tumor=TumorLabel.of(args.i, args.tumor_label),
        uncertainty=args.uncertainty,
        score=None if args.score is None else _score_of(args.score),
        resume=args.resume,
    )
    if request.anatomy.rank_by == "mean_uncertainty" and args.uncertainty is None and not args.tune:
        raise SettingsError("rank_by=mean_uncertainty needs uncertainty maps; give their folder with --uncertainty")
    cases = part_of(find_masks(args.i), share)
    context = RunContext(begun=time.time(), command=args.argv, share=share)
    with open_folder(args.o, share, cases):
        if args.tune:
            return _tune(cases, request, args, context)
        return _filter(cases, request, args.i, context)


def _score_of(bundle: Path) -> CandidateScore:
    """Read the score of a bundle.

    Raises:
        BundleError: There is no such bundle, or it has none.
    """
    from nnunet_cascade.bundles.bundle import read_spec

    score = read_spec(bundle).scoring
    if score is None:
        raise BundleError(f"{bundle} has no score of candidates; leave --score out, or fit one by nnc-cross-validate")
    return score


def _require_mode(args: argparse.Namespace) -> None:
    """Refuse options of tuning without it, and of filtering with it."""
    if args.tune and args.gt is None:
        raise SettingsError("--tune needs the true labels; give their folder with -gt")
    if args.tune and (args.num_parts > 1 or args.resume):
        raise SettingsError("--tune needs all cases at once; leave -num_parts and --continue_prediction out")
    for flag, given in (("-ct", args.ct), ("-gt", args.gt)):
        if given is not None and given.is_file() and not args.i.is_file():
            raise SettingsError(f"{flag} {given} is one file and -i {args.i} is not; give a folder")
    if args.tune and args.score is not None:
        raise SettingsError("--tune tunes the rules, which --score does without; give one")
    if not args.tune and (args.gt is not None or args.splits is not None or args.tried):
        raise SettingsError("-gt, --splits and --try are for tuning; add --tune, or leave them out")


def anatomy_settings(args: argparse.Namespace) -> AnatomySettings:
    """Return the preset or the file, changed by --set and --top_k.

    Raises:
        SettingsError: Both are given, the file holds no settings, or a setting is unknown or out of range.
    """
    from nnunet_cascade.postprocessing.settings import AnatomySettings
    from nnunet_cascade.settings.serialization import from_json

    if args.settings is not None and args.preset is not None:
        raise SettingsError(f"--settings {args.settings} and --preset {args.preset} exclude each other; give one")
    values = AnatomySettings.recommended() if args.preset != "paper" else AnatomySettings.paper()
    begun = _read_settings(args.settings) if args.settings is not None else values.to_dict()
    if args.tune:
        begun["top_k"] = "all"
    changed = settings_values(AnatomySettings, args.set)
    if args.top_k is not None:
        changed["top_k"] = args.top_k
    return from_json(AnatomySettings, {**begun, **changed}, where="anatomy settings")


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"--settings {path} cannot be read ({error}); expected the anatomy.json of --tune"
        ) from error
    if not isinstance(content, dict):
        raise SettingsError(f"--settings {path} holds no JSON object; expected the anatomy.json of --tune")
    return content


def search_space(tried: Sequence[str]) -> SearchSpace:
    """Return the default values of each threshold with what --try changes.

    Raises:
        SettingsError: A threshold is unknown, or a value is not a number or out of range.
    """
    from nnunet_cascade.postprocessing.tuning import SearchSpace
    from nnunet_cascade.settings.serialization import from_json

    return from_json(SearchSpace, settings_values(SearchSpace, tried), where="--try")


def _filter(cases: dict[str, Path], request: FilterRequest, predictions: Path, context: RunContext) -> int:
    from tqdm import tqdm

    from nnunet_cascade.case_folders.run import run_cases, write_run_report
    from nnunet_cascade.workflows.anatomy_filter import filter_figures, filter_task, keep_dataset_file, verdict_table

    task = filter_task(request)
    outcomes = list(tqdm(run_cases(cases, task), total=len(cases), desc="filter", unit="case"))
    keep_dataset_file(predictions, request.output)
    path = write_run_report(outcomes, task, context, filter_figures)
    failed = sum(outcome.status == "failed" for outcome in outcomes)
    print(verdict_table(outcomes))
    return report_cases(failed, len(outcomes), path)


def _tune(cases: dict[str, Path], request: FilterRequest, args: argparse.Namespace, context: RunContext) -> int:
    from tqdm import tqdm

    from nnunet_cascade.workflows.anatomy_tuning import (
        TuningRequest,
        conclusions,
        measure_cases,
        read_splits,
        tune,
        tuning_table,
        write_tuning,
    )

    splits = None if args.splits is None else read_splits(args.splits)
    tuning = TuningRequest(
        filter=request,
        truths=args.gt,
        space=search_space(args.tried),
        folds=args.folds,
        seed=args.seed,
        splits=splits,
    )
    measured = list(tqdm(measure_cases(cases, tuning), total=len(cases), desc="measure", unit="case"))
    tuned = tune(measured, tuning)
    settings, report = write_tuning(tuned, measured, tuning, context)
    print(tuning_table(tuned))
    print("\n".join(conclusions(tuned, measured)))
    print(f"details: {report}; next: nnc-anatomy-filter … --settings {settings}")
    return FAILED if any(case.error for case in measured) else DONE


main = new_command(build_parser, _body, __name__)
