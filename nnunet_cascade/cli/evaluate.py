"""`nnc-evaluate`: predictions of any nnU-Net models against true labels, with intervals and comparisons."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_cascade.cli.common import DONE, FAILED, CommandParser, new_command
from nnunet_cascade.cli.options import add_processes, add_resamples, add_tumor_label, require_other_folder
from nnunet_cascade.errors import InputImageError, SettingsError

if TYPE_CHECKING:
    from nnunet_cascade.case_folders.prediction_files import TumorLabel
    from nnunet_cascade.case_folders.run_report import RunContext
    from nnunet_cascade.workflows.evaluation import EvaluationRequest

_TRUTH = "gt"


def build_parser() -> CommandParser:
    """Describe the command."""
    parser = CommandParser(
        "nnc-evaluate",
        "Score predictions of any nnU-Net models against ground truth, with confidence intervals, and compare methods. "
        "Draw the FROC if candidates have scores.",
        "nnc-evaluate -gt LABELS -pred cascade=RESULTS nnunet=PREDICTIONS -o EVALUATION",
    )
    files = parser.options("input and output")
    files.path("-gt", "LABELS", "folder of ground truth <case>.nii.gz, or one of them", required=True)
    meaning = (
        "folders of predictions <case>.nii.gz, or patterns such as RUN/*_stage1.nii.gz; without NAME= the method is "
        "named after the folder"
    )
    files.words("-pred", "NAME=PREDICTIONS", meaning, required=True)
    files.path("-o", "OUT", "folder for the results", required=True)
    further = "; NAME=LABEL is for one method and gt=LABEL for the ground truth"
    add_tumor_label(files, of="each folder", further=further)
    statistics = parser.options("statistics")
    statistics.add("--reference", "method to compare with; default: the first", metavar="NAME")
    add_resamples(statistics)
    statistics.whole("--seed", "N", "random seed of the resamples", default=12345)
    statistics.switch("--chill", "count and list missing predictions, but still exit with 0")
    run = parser.options("speed and resume")
    add_processes(run)
    run.resume("--c", meaning="resume: reuse the scores of files that have not changed")
    return parser


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
        reference=args.reference, resampling=Resampling(resamples=args.resamples, seed=args.seed)
    )
    cases = true_labels(args.gt)
    prepare_output(args.o)
    outcomes = dict(tqdm(evaluate_cases(request, cases), total=len(cases), desc="score", unit="case"))
    sys.stderr.writelines(f"{line}\n" for line in tell_of_gaps(request, outcomes, cases))
    comparison = compare(values_by_method(request, outcomes), settings, expected=sorted(cases))
    _, details, page = write_evaluation(request, outcomes, comparison, context)
    print(overview_table(comparison))
    froc_failed = _froc(args, request, cases, context)
    statuses = [outcome.status for of_case in outcomes.values() for outcome in of_case.values()]
    bad = statuses.count("failed") + (0 if args.chill else statuses.count("missing"))
    print(
        f"{len(statuses) - statuses.count('failed') - statuses.count('missing')} of {len(statuses)} predictions scored"
    )
    print(f"tables: {page}; details: {details}")
    return FAILED if bad or froc_failed else DONE


def _froc(args: argparse.Namespace, request: EvaluationRequest, cases: Mapping[str, Path], context: RunContext) -> bool:
    """Write and print the FROC of methods whose candidates are scored; tells whether a file could not be read."""
    from tqdm import tqdm

    from nnunet_cascade.evaluation.statistics.bootstrap import Resampling
    from nnunet_cascade.evaluation.tables import froc_table
    from nnunet_cascade.workflows.froc import froc_of_methods, read_findings, scored_proposals, tell_of_no_froc
    from nnunet_cascade.workflows.froc_output import write_froc

    proposals = scored_proposals(request, cases)
    reading = read_findings(request, cases, proposals) if proposals else ()
    findings = dict(tqdm(reading, total=len(cases), desc="candidates", unit="case", disable=not proposals))
    sys.stderr.writelines(f"{line}\n" for line in tell_of_no_froc(proposals, findings))
    resampling = Resampling(resamples=args.resamples, seed=args.seed)
    result = froc_of_methods(proposals, findings, resampling, args.reference)
    written = write_froc(result, args.o, context)
    if written:
        print(froc_table(result.frocs, result.differences, reference=result.reference))
        print(f"FROC: {written[0]}; picture: {written[-1]}")
    return any(each.failed for of_case in findings.values() for each in of_case.values())


def _request(args: argparse.Namespace) -> EvaluationRequest:
    from nnunet_cascade.workflows.evaluation import EvaluationRequest, Predictions

    places = [_named(text) for text in args.pred]
    asked = _asked_labels(args.tumor_label, [name for name, _ in places])
    methods = tuple(
        Predictions(name=name, place=place, tumor=_tumor(place, asked.get(name, asked[""]))) for name, place in places
    )
    for method in methods:
        require_other_folder(args.o, args.gt, method.folder)
    for method in methods:
        if method.place.is_file() and not args.gt.is_file():
            raise SettingsError(f"-pred {method.place} is one file and -gt {args.gt} is not; give a folder")
    return EvaluationRequest(
        truths=args.gt,
        predictions=methods,
        output=args.o,
        truth_tumor=_tumor(args.gt, asked.get(_TRUTH, asked[""])),
        processes=args.np,
        resume=args.resume,
    )


def _named(text: str) -> tuple[str, Path]:
    """Read NAME=PREDICTIONS, or a path, which may contain = too."""
    name, equals, place = text.partition("=")
    if equals and not Path(text).exists():
        return name, Path(place)
    path = Path(text)
    if "*" in path.name:
        return f"{path.parent.name} {path.name.partition('*')[2].split('.')[0].strip('_')}".strip(), path
    return path.resolve().name.removesuffix(".nii.gz"), path


def _asked_labels(texts: Sequence[str], methods: Sequence[str]) -> dict[str, list[str]]:
    """Return the labels asked for by method; those for all other folders are under ""."""
    asked: dict[str, list[str]] = {"": []}
    for text in texts:
        name, equals, label = text.rpartition("=")
        if equals and name not in {*methods, _TRUTH}:
            raise SettingsError(f"--tumor_label {text}; expected {_TRUTH} or one of {', '.join(methods)} before the =")
        asked.setdefault(name, []).append(label)
    return asked


def _tumor(place: Path, labels: Sequence[str]) -> TumorLabel:
    from nnunet_cascade.case_folders.prediction_files import TumorLabel

    folder = place.parent if "*" in place.name or place.is_file() else place
    if not folder.is_dir():
        raise InputImageError(f"{folder} does not exist; expected a folder of <case>.nii.gz")
    return TumorLabel.of(folder, labels)


main = new_command(build_parser, _body, __name__)
