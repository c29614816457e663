"""`nnc-anatomy-filter`: the anatomy rules on the predictions of any nnU-Net model, and their tuning."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_cascade.cli.common import (
    DONE,
    FAILED,
    add_device,
    add_lungs,
    add_sharing,
    lung_source,
    new_parser,
    parsed_top_k,
    require_other_folder,
    require_sharing,
    run_command,
)
from nnunet_cascade.errors import SettingsError

if TYPE_CHECKING:
    from nnunet_cascade.case_folders.run_report import RunContext
    from nnunet_cascade.postprocessing.settings import AnatomySettings
    from nnunet_cascade.postprocessing.tuning import SearchSpace
    from nnunet_cascade.workflows.anatomy_filter import FilterRequest

_WORDS: dict[str, bool] = {"true": True, "false": False}


def build_parser() -> argparse.ArgumentParser:
    """Describe the command."""
    parser = new_parser(
        "nnc-anatomy-filter",
        "Drop from nnU-Net's predictions what cannot be a lung tumor, and say why; or tune the rules on predictions "
        "with ground truth.",
    )
    parser.add_argument(
        "-i", type=Path, required=True, metavar="IN", help="folder of predictions <case>.nii.gz, or one of them"
    )
    parser.add_argument(
        "-ct", type=Path, required=True, metavar="IMAGES", help="folder of <case>_0000.nii.gz, or the one such file"
    )
    parser.add_argument("-o", type=Path, required=True, metavar="OUT", help="folder for the results")
    parser.add_argument(
        "--tumor_label",
        "--tumor-label",
        nargs="+",
        action="extend",
        default=[],
        metavar="LABEL",
        help="names or values that are tumor; default: the only label of dataset.json, 1 without one",
    )
    parser.add_argument("--preset", choices=("recommended", "paper"), default=None, help="default: recommended")
    parser.add_argument("--settings", type=Path, metavar="FILE", help="anatomy.json as --tune writes it")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="single settings, see docs/anatomy.md",
    )
    parser.add_argument(
        "--uncertainty",
        type=Path,
        metavar="FOLDER",
        help="maps <case>_uncertainty.nii.gz, for --set rank_by=mean_uncertainty and the record",
    )
    parser.add_argument("--top_k", help='candidates that stay, or "all"; default: the settings\', all with --tune')
    add_lungs(parser)
    add_device(parser)
    add_sharing(parser)
    _add_tuning(parser)
    return parser


def _add_tuning(parser: argparse.ArgumentParser) -> None:
    tuning = parser.add_argument_group("tuning")
    tuning.add_argument(
        "--tune", action="store_true", help="find settings that lose no true tumor first, then drop most of the rest"
    )
    tuning.add_argument("-gt", type=Path, metavar="LABELS", help="folder of true <case>.nii.gz, or the one such file")
    tuning.add_argument("--folds", type=int, default=5, help="patients are left out in so many folds")
    tuning.add_argument("--seed", type=int, default=12345, help="of the folds")
    tuning.add_argument("--splits", type=Path, metavar="FILE", help="nnU-Net's splits_final.json instead of --folds")
    tuning.add_argument(
        "--try",
        nargs="+",
        action="extend",
        default=[],
        dest="tried",
        metavar="NAME=V,V,...",
        help="values to try for a threshold instead of the usual ones",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(build_parser(), _body, argv)


def _body(args: argparse.Namespace) -> int:
    from nnunet_cascade.case_folders.case_files import find_masks
    from nnunet_cascade.case_folders.prediction_files import TumorLabel
    from nnunet_cascade.case_folders.run import open_folder, part_of
    from nnunet_cascade.case_folders.run_report import RunContext
    from nnunet_cascade.workflows.anatomy_filter import LUNG_FOLDER, FilterRequest

    share = require_sharing(args)
    _require_mode(args)
    inputs = (args.i, args.ct, args.gt, args.lungs, args.uncertainty)
    require_other_folder(args.o, *inputs)
    require_other_folder(args.o / LUNG_FOLDER, *inputs)
    request = FilterRequest(
        images=args.ct,
        output=args.o,
        anatomy=anatomy_settings(args),
        lungs=lung_source(args),
        tumor=TumorLabel.of(args.i, args.tumor_label),
        uncertainty=args.uncertainty,
        resume=args.continue_prediction,
    )
    if request.anatomy.rank_by == "mean_uncertainty" and args.uncertainty is None and not args.tune:
        raise SettingsError("rank_by=mean_uncertainty needs uncertainty maps; give their folder with --uncertainty")
    cases = part_of(find_masks(args.i), share)
    context = RunContext(begun=time.time(), command=args.argv, share=share)
    with open_folder(args.o, share, cases):
        if args.tune:
            return _tune(cases, request, args, context)
        return _filter(cases, request, args.i, context)


def _require_mode(args: argparse.Namespace) -> None:
    """Refuse options of tuning without it, and of filtering with it."""
    if args.tune and args.gt is None:
        raise SettingsError("--tune needs the true labels; give their folder with -gt")
    if args.tune and (args.num_parts > 1 or args.continue_prediction):
        raise SettingsError("--tune sees all cases at once, without -num_parts and --continue_prediction")
    for flag, given in (("-ct", args.ct), ("-gt", args.gt)):
        if given is not None and given.is_file() and not args.i.is_file():
            raise SettingsError(f"{flag} {given} is one file and -i {args.i} is not; give a folder")
    if not args.tune and (args.gt is not None or args.splits is not None or args.tried):
        raise SettingsError("-gt, --splits and --try are for tuning; add --tune, or leave them out")


def anatomy_settings(args: argparse.Namespace) -> AnatomySettings:
    """Return the preset or the file, changed by --set and --top_k.

    Raises:
        SettingsError: Both are given, the file is none, or a setting is unknown or out of range.
    """
    from nnunet_cascade.postprocessing.settings import AnatomySettings
    from nnunet_cascade.settings.serialization import from_json

    if args.settings is not None and args.preset is not None:
        raise SettingsError(f"--settings {args.settings} and --preset {args.preset} exclude each other; give one")
    values = AnatomySettings.recommended() if args.preset != "paper" else AnatomySettings.paper()
    begun = _read_settings(args.settings) if args.settings is not None else values.to_dict()
    if args.tune:
        begun["top_k"] = "all"
    changed = dict(_pair(text) for text in args.set)
    if args.top_k is not None:
        changed["top_k"] = parsed_top_k(args.top_k)
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


def _pair(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise SettingsError(f"--set {text!r}; expected NAME=VALUE")
    if value.lower() in _WORDS:
        return name, _WORDS[value.lower()]
    if value.isdecimal() and name == "top_k":
        return name, int(value)
    try:
        return name, float(value)
    except ValueError:
        return name, value


def search_space(tried: Sequence[str]) -> SearchSpace:
    """Return the usual values of each threshold with what --try changes.

    Raises:
        SettingsError: A threshold is unknown, or a value is no number or out of range.
    """
    from nnunet_cascade.postprocessing.tuning import SearchSpace
    from nnunet_cascade.settings.serialization import from_json

    changed: dict[str, Any] = {}
    for text in tried:
        name, _, values = text.partition("=")
        try:
            changed[name] = [float(value) for value in values.split(",")]
        except ValueError as error:
            raise SettingsError(f"--try {text!r}; expected NAME=V,V,... with numbers") from error
    return from_json(SearchSpace, changed, where="--try")


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
    print(f"{len(outcomes) - failed} of {len(outcomes)} cases done; {path} tells the whole story")
    return FAILED if failed else DONE


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
    print(f"{report} tells the whole story; next: nnc-anatomy-filter … --settings {settings}")
    return FAILED if any(case.error for case in measured) else DONE
