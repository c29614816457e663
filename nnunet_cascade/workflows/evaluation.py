"""Folders of predictions against one folder of true labels: every pair scored once, none dropped silently."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from nnunet_cascade.case_folders.case_files import find_masks
from nnunet_cascade.case_folders.case_record import CaseRecord
from nnunet_cascade.case_folders.prediction_files import TumorLabel
from nnunet_cascade.case_folders.record_parts import UncertaintyRecord
from nnunet_cascade.case_folders.records import CaseFingerprint, read_finished, write_record
from nnunet_cascade.case_folders.unchecked_json import read_json_lenient
from nnunet_cascade.errors import InputImageError, SettingsError
from nnunet_cascade.evaluation.case import CaseScore
from nnunet_cascade.evaluation.metric_info import uncertainty_name, without_nan
from nnunet_cascade.images import ENDING
from nnunet_cascade.uncertainty_measures import MEASURES
from nnunet_cascade.workflows.evaluation_workers import LabelFile, MethodOutcome, ScoreJob, score_jobs

_log = logging.getLogger(__name__)
CASE_FOLDER = "cases"
STAGE1_PATTERN = f"*_stage1{ENDING}"
_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """The predictions of one method.

    Attributes:
        name: The method's; also that of the folder of its records.
        place: A folder of `<case>.nii.gz`, one such file, or a pattern such as `RUN/*_stage1.nii.gz`
            whose `*` is the case.
        tumor: Which values are tumor.

    Raises:
        SettingsError: The name cannot be a folder's, or the pattern has a `*` too many.
    """

    name: str
    place: Path
    tumor: TumorLabel = field(default_factory=TumorLabel)

    def __post_init__(self) -> None:
        if not self.name or self.name.startswith(".") or set(self.name) & set('/\\:*?"<>|\0'):
            raise SettingsError(
                f"method name {self.name!r}; expected one that can be a folder's: give NAME=PREDICTIONS"
            )
        if "*" in str(self.place.parent) or self.place.name.count("*") > 1:
            raise SettingsError(f"{self.place}; expected one * at most, in the file's name, for the case")

    @property
    def folder(self) -> Path:
        """Where the files lie."""
        return self.place.parent if "*" in self.place.name or self.place.is_file() else self.place

    def path(self, case: str) -> Path:
        """Return the file of a case; it need not be there."""
        if self.place.is_file():
            return self.place
        return self.folder / (self.place.name.replace("*", case) if "*" in self.place.name else f"{case}{ENDING}")

    @property
    def of_stage1(self) -> bool:
        """Whether the files are the coarse masks that nnc-cascade-predict leaves beside its results."""
        return self.place.name == STAGE1_PATTERN

    def record(self, case: str) -> Path | None:
        """Return the record that nnc-cascade-predict left of a case, or None."""
        path = self.folder / f"{case}.json"
        return path if (self.of_stage1 or "*" not in self.place.name) and path.is_file() else None

    def require(self, cases: Mapping[str, Path]) -> None:
        """Raise unless a case of these has a prediction.

        Raises:
            InputImageError: There is no such folder, or no prediction of any of the cases in it.
        """
        if not self.folder.is_dir():
            raise InputImageError(f"{self.name}: {self.place} does not exist; expected a folder of <case>{ENDING}")
        if not any(self.path(case).is_file() for case in cases):
            raise InputImageError(
                f"{self.name}: {self.place} holds none of the {len(cases)} cases of -gt, such as {next(iter(cases))}; "
                "names must be the same"
            )

    def without_truth(self, cases: Mapping[str, Path]) -> tuple[str, ...]:
        """Name the cases that are predicted and have no true label; other files of a known case are none."""
        if self.place.is_file():
            return ()
        before, _, after = (self.place.name if "*" in self.place.name else f"*{ENDING}").partition("*")
        found = [path.name for path in self.folder.glob(f"*{after}") if not path.name.startswith(".")]
        names = [name.removeprefix(before).removesuffix(after) for name in found if name.startswith(before)]
        outputs = tuple(f"{case}_" for case in cases if self.record(case) is not None)
        return tuple(sorted(name for name in names if name not in cases and not name.startswith(outputs)))


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRequest:
    """What to evaluate.

    Attributes:
        truths: Folder of true `<case>.nii.gz`, or one such file: they say which cases there are.
        truth_tumor: Which of their values are tumor.
        predictions: Of each method, in the order of the tables.
        output: Folder for the results.
        processes: How many cases are scored side by side.
        resume: Take over what an earlier run scored from the same files.

    Raises:
        SettingsError: There is no method, two have the same name, or there is no process.
    """

    truths: Path
    predictions: tuple[Predictions, ...]
    output: Path
    truth_tumor: TumorLabel = field(default_factory=TumorLabel)
    processes: int = 2
    resume: bool = False

    def __post_init__(self) -> None:
        names = [method.name for method in self.predictions]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice or not names:
            raise SettingsError(f"found methods named {names}; expected different names: give NAME=PREDICTIONS")
        if self.processes < 1:
            raise SettingsError(f"{self.processes} processes; expected at least 1")


Outcomes = Mapping[str, Mapping[str, MethodOutcome]]
"""By case, then by method."""


def evaluate_cases(
    request: EvaluationRequest, cases: Mapping[str, Path]
) -> Iterator[tuple[str, dict[str, MethodOutcome]]]:
    """Score every prediction of every case, given the true labels by case.

    Yields:
        Each case with what became of its predictions, as soon as it is known: in no fixed order.
        A record of each scored prediction is written to the folder `cases/<method>`.

    Raises:
        InputImageError: A method has no prediction of any of the cases.
    """
    for method in request.predictions:
        method.require(cases)
        (request.output / CASE_FOLDER / method.name).mkdir(parents=True, exist_ok=True)
    known = {case: _known(request, case, truth) for case, truth in cases.items()}
    jobs: list[ScoreJob] = []
    for case, truth in cases.items():
        files = {
            method.name: LabelFile(method.path(case), method.tumor)
            for method in request.predictions
            if method.name not in known[case]
        }
        if files:
            jobs.append(ScoreJob(case=case, truth=LabelFile(truth, request.truth_tumor), predictions=files))
        else:
            yield case, known[case]
    for job, scored in score_jobs(jobs, request.processes):
        found = {**known[job.case], **_kept(request, job, scored)}
        yield job.case, {method.name: found[method.name] for method in request.predictions}


def _known(request: EvaluationRequest, case: str, truth: Path) -> dict[str, MethodOutcome]:
    """Tell what needs no scoring: what is missing, and what an earlier run did."""
    known: dict[str, MethodOutcome] = {}
    for method in request.predictions:
        if not method.path(case).is_file():
            known[method.name] = MethodOutcome(status="missing")
        elif request.resume:
            settings = CaseFingerprint(settings=_settings(request, method, case, truth))
            record = read_finished(request.output / CASE_FOLDER / method.name, case, settings)
            if record is not None:
                known[method.name] = MethodOutcome(status="skipped", values=_with_nan(record.values or {}))
    return known


def _kept(request: EvaluationRequest, job: ScoreJob, scored: dict[str, MethodOutcome]) -> dict[str, MethodOutcome]:
    """Write the records of a scored case, and tell what became of each method."""
    methods = {method.name: method for method in request.predictions}
    outcomes = dict(scored)
    for name, found in scored.items():
        if found.error:
            _log.error("%s: %s: %s", name, job.case, found.error)
            continue
        method = methods[name]
        values = {**found.values, **recorded_uncertainty(method.record(job.case), of_stage1=method.of_stage1)}
        record = CaseRecord(case=job.case, files={}, method=name, values=without_nan(values))
        settings = CaseFingerprint(settings=_settings(request, method, job.case, job.truth.path))
        write_record(request.output / CASE_FOLDER / name, record, settings)
        outcomes[name] = replace(found, values=values)
    return outcomes


def _settings(request: EvaluationRequest, method: Predictions, case: str, truth: Path) -> dict[str, Any]:
    """Return what decides a score: the labels, the files as they are, and which scores there are."""
    record = method.record(case)
    return {
        "truth_values": list(request.truth_tumor.values),
        "tumor_values": list(method.tumor.values),
        "truth": _stamp(truth),
        "prediction": _stamp(method.path(case)),
        "record": None if record is None else _stamp(record),
        "scores": [score.name for score in fields(CaseScore)],
    }


def _stamp(path: Path) -> list[int]:
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns]


def _with_nan(values: Mapping[str, float | None]) -> dict[str, float]:
    numbers = {name: math.nan if value is None else float(value) for name, value in values.items()}
    return {name: value if math.isfinite(value) else math.nan for name, value in numbers.items()}


def recorded_uncertainty(path: Path | None, *, of_stage1: bool = False) -> dict[str, float]:
    """Read the mean uncertainties that nnc-cascade-predict recorded of a case.

    Args:
        path: Its record; None where there is none.
        of_stage1: Whether those of the coarse mask are meant.

    Returns:
        By metric, whose name holds the measure, so that no variance is compared with an entropy.
        NaN for what the record leaves undefined; nothing where there is no record or it has none.
    """
    record = CaseRecord() if path is None else CaseRecord.from_json(read_json_lenient(path)[0].value)
    coarse = None if record.stage1 is None else record.stage1.uncertainty
    found = coarse if of_stage1 else record.uncertainty
    words = "" if found is None else found.measure.replace("_", " ")
    measure = next((name for name, info in MEASURES.items() if info.label in words), None)
    if measure is None or found is None:
        return {}
    means = (
        {"tumor": found.mean_in_tumor, "rois": found.mean_in_rois}
        if isinstance(found, UncertaintyRecord)
        else {"tumor": found.mean_in_mask}
    )
    return _with_nan({uncertainty_name(measure, where): mean for where, mean in means.items()})


def values_by_method(request: EvaluationRequest, outcomes: Outcomes) -> dict[str, dict[str, Mapping[str, float]]]:
    """Return what was scored by method and case, cases in the order of their names."""
    return {
        method.name: {
            case: outcomes[case][method.name].values for case in sorted(outcomes) if outcomes[case][method.name].values
        }
        for method in request.predictions
    }


def tell_of_gaps(request: EvaluationRequest, outcomes: Outcomes, cases: Mapping[str, Path]) -> list[str]:
    """Say in a line per method which cases are missing and which are predicted and have no true label."""
    lines: list[str] = []
    for method in request.predictions:
        missing = [case for case in sorted(outcomes) if outcomes[case][method.name].status == "missing"]
        extra = method.without_truth(cases)
        if missing:
            lines.append(f"{method.name}: {len(missing)} of {len(cases)} cases missing: {_some(missing)}")
        if extra:
            lines.append(f"{method.name}: {len(extra)} predictions without true labels, left out: {_some(extra)}")
        scored = [of_case[method.name].values for of_case in outcomes.values() if of_case[method.name].values]
        if scored and not any(values.get("predicted_ml") for values in scored):
            lines.append(f"{method.name}: no prediction holds {_values(method.tumor)}; is that the tumor's label?")
    found = [outcome.values for of_case in outcomes.values() for outcome in of_case.values() if outcome.values]
    if found and not any(values.get("reference_ml") for values in found):
        lines.append(f"no true label holds {_values(request.truth_tumor)}; is that the tumor's label?")
    return lines


def _values(tumor: TumorLabel) -> str:
    return " or ".join(map(str, tumor.values))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def true_labels(truths: Path) -> dict[str, Path]:
    """List the true labels by case.

    Raises:
        InputImageError: There is no such file, or none in the folder.
    """
    return find_masks(truths)
