"""`nnc-evaluate`: predictions of any nnU-Net models against true labels, with intervals and comparisons."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_cascade.cli.common import DONE, FAILED, new_parser, require_other_folder, run_command
from nnunet_cascade.errors import InputImageError, SettingsError

if TYPE_CHECKING:
    from nnunet_cascade.case_folders.prediction_files import TumorLabel
    from nnunet_cascade.workflows.evaluation import EvaluationRequest, Predictions

_TRUTH = "gt"


def build_parser() -> argparse.ArgumentParser:
    """Describe the command."""
    parser = new_parser(
        "nnc-evaluate", "Score predictions of any nnU-Net models, say how sure the figures are, and compare methods."
    )
    parser.add_argument(
        "-gt", type=Path, required=True, metavar="LABELS", help="folder of true <case>.nii.gz, or one of them"
    )
    parser.add_argument(
        "-pred",
        nargs="+",
        required=True,
        metavar="NAME=PREDICTIONS",
        help="folders of predictions <case>.nii.gz, or patterns such as RUN/*_stage1.nii.gz; "
        "without NAME= the folder's name is the method's",
    )
    parser.add_argument("-o", type=Path, required=True, metavar="OUT", help="folder for the results")
    parser.add_argument(
        "--tumor_label",
        "--tumor-label",
        nargs="+",
        default=[],
        metavar="LABEL",
        help="names or values that are tumor, for all folders, or NAME=LABEL for one method and gt=LABEL for the true "
        "labels; default: the only label of dataset.json, 1 without one",
    )
    parser.add_argument("--reference", metavar="NAME", help="method to compare with; default: the first")
    parser.add_argument("--bootstrap", type=int, default=9999, metavar="N", help="resamples of an interval")
    parser.add_argument("--seed", type=int, default=12345, help="of the resamples")
    parser.add_argument("-np", type=int, default=2, help="cases scored side by side")
    parser.add_argument(
        "--continue",
        "--continue_prediction",
        action="store_true",
        dest="resume",
        help="take over what was scored from the same files before",
    )
    parser.add_argument(
        "--chill", action="store_true", help="missing predictions are counted and named as ever, but are no failure"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(build_parser(), _body, argv)


def _body(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from nnunet_cascade.case_folders.run import prepare_output
    from nnunet_cascade.case_folders.run_report import RunContext
    from nnunet_cascade.evaluation.comparison import ComparisonSettings, compare
    from nnunet_cascade.evaluation.statistics.bootstrap import Resampling
    from nnunet_cascade.evaluation.tables import overview_table
    from nnunet_cascade.workflows.evaluation import evaluate_cases, tell_of_gaps, true_labels, values_by_method
    from nnunet_cascade.workflows.evaluation_output import write_evaluation

    context = RunContext(begun=time.time(), command=args.argv)
    request = _request(args)
    names = [method.name for method in request.predictions]
    if args.reference not in {None, *names}:
        raise SettingsError(f"--reference {args.reference}; expected one of {', '.join(names)}")
    settings = ComparisonSettings(
        reference=args.reference, resampling=Resampling(resamples=args.bootstrap, seed=args.seed)
    )
    cases = true_labels(args.gt)
    prepare_output(args.o)
    outcomes = dict(tqdm(evaluate_cases(request, cases), total=len(cases), desc="score", unit="case"))
    sys.stderr.writelines(f"{line}\n" for line in tell_of_gaps(request, outcomes, cases))
    comparison = compare(values_by_method(request, outcomes), settings, expected=sorted(cases))
    _, story_path, page = write_evaluation(request, outcomes, comparison, context)
    print(overview_table(comparison))
    statuses = [outcome.status for of_case in outcomes.values() for outcome in of_case.values()]
    bad = statuses.count("failed") + (0 if args.chill else statuses.count("missing"))
    print(
        f"{len(statuses) - statuses.count('failed') - statuses.count('missing')} of {len(statuses)} predictions scored"
    )
    print(f"{page} has the tables, {story_path} the whole story")
    return FAILED if bad else DONE


def _request(args: argparse.Namespace) -> EvaluationRequest:
    from nnunet_cascade.workflows.evaluation import EvaluationRequest, Predictions

    places = [_named(text) for text in args.pred]
    asked = _asked_labels(args.tumor_label, [name for name, _ in places])
    methods = tuple(
        Predictions(name=name, place=place, tumor=_tumor(place, asked.get(name, asked[""]))) for name, place in places
    )
    for method in methods:
        require_other_folder(args.o, args.gt, method.folder)
    _require_one_file(args.gt, methods)
    return EvaluationRequest(
        truths=args.gt,
        predictions=methods,
        output=args.o,
        truth_tumor=_tumor(args.gt, asked.get(_TRUTH, asked[""])),
        processes=args.np,
        resume=args.resume,
    )


def _require_one_file(truths: Path, methods: Sequence[Predictions]) -> None:
    for method in methods:
        if method.place.is_file() and not truths.is_file():
            raise SettingsError(f"-pred {method.place} is one file and -gt {truths} is not; give a folder")


def _named(text: str) -> tuple[str, Path]:
    """Read NAME=PREDICTIONS, or a path, which may hold = too."""
    name, equals, place = text.partition("=")
    if equals and not Path(text).exists():
        return name, Path(place)
    path = Path(text)
    if "*" in path.name:
        return f"{path.parent.name} {path.name.partition('*')[2].split('.')[0].strip('_')}".strip(), path
    return path.resolve().name.removesuffix(".nii.gz"), path


def _asked_labels(texts: Sequence[str], methods: Sequence[str]) -> dict[str, list[str]]:
    """Return the labels asked for by method, and for all others under ""."""
    asked: dict[str, list[str]] = {"": []}
    for text in texts:
        name, equals, label = text.rpartition("=")
        if equals and name not in {*methods, _TRUTH}:
            raise SettingsError(f"--tumor_label {text}; expected {_TRUTH} or one of {', '.join(methods)} before the =")
        asked.setdefault(name, []).append(label)
    return asked


def _tumor(place: Path, labels: Sequence[str]) -> TumorLabel:
    """Read which values are tumor; a raw dataset has its dataset.json above labelsTr."""
    from nnunet_cascade.case_folders.prediction_files import TumorLabel, dataset_file

    folder = place.parent if "*" in place.name or place.is_file() else place
    if not folder.is_dir():
        raise InputImageError(f"{folder} does not exist; expected a folder of <case>.nii.gz")
    of_raw_dataset = folder.name.startswith("labels") and dataset_file(folder) is None
    return TumorLabel.of(folder.parent if of_raw_dataset else folder, labels)
