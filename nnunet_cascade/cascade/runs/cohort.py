"""Many cases: each on its own, a bad one named and passed over, nothing done twice."""

from __future__ import annotations

import csv
import io
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nnunet_cascade.cascade.bundles.bundle import LoadedCascade
from nnunet_cascade.cascade.case import CaseResult, Given, predict_case
from nnunet_cascade.cascade.outputs import record_path, remove_case, write_case
from nnunet_cascade.cascade.runs.folder_run import CHANNEL, prepare_output, told
from nnunet_cascade.cascade.spec import CascadeSpec
from nnunet_cascade.files import write_json, write_text
from nnunet_cascade.images import ENDING, read_ct, read_labels
from nnunet_cascade.versions import NOTICE, versions

_log = logging.getLogger(__name__)

Status = Literal["done", "skipped", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortRequest:
    """What to predict, and with what handed in.

    Attributes:
        inputs: A folder of `<case>_0000.nii.gz`, or one such file.
        output: Folder for the results, made where it is missing.
        stage1_masks: Folder of `<case>.nii.gz` to take instead of stage 1, or None.
        skip_done: Leave out cases whose record is there, made with the same settings.
        notes: Lines for every record.
    """

    inputs: Path
    output: Path
    stage1_masks: Path | None = None
    skip_done: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CaseOutcome:
    """What became of a case: its status, and the error where it failed."""

    case: str
    status: Status
    error: str = ""


def case_name(path: Path) -> str:
    """Give the case of an image file: its name without channel and ending."""
    return path.name.removesuffix(ENDING).removesuffix(CHANNEL)


def predict_cohort(
    cases: dict[str, Path], request: CohortRequest, load: Callable[[], LoadedCascade], spec: CascadeSpec
) -> Iterator[CaseOutcome]:
    """Predict cases one by one and write their results.

    Models are loaded once, and not at all where every case is done.

    Args:
        cases: Image files by case.
        request: What to predict, and with what handed in.
        load: Gives the loaded cascade.
        spec: Its settings.

    Yields:
        The outcome of each case, as soon as it is known. A case is
        cleared of an earlier run's files before it is predicted.

    Raises:
        InputImageError: The output folder cannot be written.
        BundleError, DropoutError, SettingsError: The bundle cannot be loaded.
    """
    prepare_output(request.output)
    bundle: LoadedCascade | None = None
    for case, path in cases.items():
        if request.skip_done and _is_done(record_path(request.output, case), request, spec):
            yield CaseOutcome(case, "skipped")
            continue
        bundle = bundle or load()
        try:
            remove_case(request.output, case)
            result = _predict_file(case, path, request, bundle)
            write_case(result, request.output, case, spec=spec, notes=request.notes)
            yield CaseOutcome(case, "done")
        except Exception as error:  # noqa: BLE001 - whatever one case does, the others go on
            yield CaseOutcome(case, "failed", told(case, error))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What is known of a run besides its cases.

    Attributes:
        spec: Its settings.
        begun: When it began, in seconds since 1970.
        command: Its arguments.
        part: Ending of the run's files where several runs share the cases, or "".
    """

    spec: CascadeSpec
    begun: float
    command: tuple[str, ...] = ()
    part: str = ""


def write_run(outcomes: Sequence[CaseOutcome], output: Path, run: RunFacts) -> None:
    """Write `run.json`, the story of a run, and `summary.csv`, a line per case with a record."""
    begun = time.strftime("%FT%TZ", time.gmtime(run.begun))
    seconds = round(time.time() - run.begun, 1)
    content: dict[str, Any] = {
        "notice": NOTICE,
        "cases": {outcome.case: _outcome(outcome) for outcome in outcomes},
        "counts": {status: sum(o.status == status for o in outcomes) for status in ("done", "skipped", "failed")},
        "settings": run.spec.to_json(),
        "versions": versions(),
        "varying": {"command": list(run.command), "seconds": seconds, "begun": begun},
    }
    write_json(output / f"run{run.part}.json", content)
    _write_summary(outcomes, output, output / f"summary{run.part}.csv")


def _outcome(outcome: CaseOutcome) -> dict[str, str]:
    return {"status": outcome.status, **({"error": outcome.error} if outcome.error else {})}


def _write_summary(outcomes: Sequence[CaseOutcome], output: Path, path: Path) -> None:
    columns = [
        "case",
        "status",
        "tumor_ml",
        "candidates",
        "kept",
        "tumor_ml_p5",
        "tumor_ml_p95",
        "mean_uncertainty_in_tumor",
        "lungs_ml",
        "flags",
        "error",
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for outcome in outcomes:
        row = {"case": outcome.case, "status": outcome.status, "error": outcome.error}
        writer.writerow({**row, **_figures(output, outcome)})
    write_text(path, text.getvalue())


def _figures(output: Path, outcome: CaseOutcome) -> dict[str, Any]:
    if outcome.status == "failed":
        return {}
    record = json.loads(record_path(output, outcome.case).read_text())
    uncertainty, lungs = record["uncertainty"] or {}, record["lungs"] or {}
    volume = uncertainty.get("volume") or {}
    return {
        "tumor_ml": record["tumor"]["volume_ml"],
        "candidates": len(record["candidates"]),
        "kept": len(record["rois"]),
        "tumor_ml_p5": volume.get("p5_ml"),
        "tumor_ml_p95": volume.get("p95_ml"),
        "mean_uncertainty_in_tumor": uncertainty.get("mean_in_tumor"),
        "lungs_ml": lungs.get("volume_ml"),
        "flags": " ".join(record["flags"]),
    }


def _predict_file(case: str, path: Path, request: CohortRequest, bundle: LoadedCascade) -> CaseResult:
    image = read_ct(path)
    stage1 = None
    if request.stage1_masks is not None:
        stage1 = read_labels(request.stage1_masks / f"{case}{ENDING}", image.grid, what="stage-1 mask") > 0
    return predict_case(image, bundle, Given(case=case, stage1=stage1))


def _is_done(path: Path, request: CohortRequest, spec: CascadeSpec) -> bool:
    """Tell whether a record is complete and was made with the same settings, stage 1's mask given or not alike."""
    try:
        record = json.loads(path.read_text())
        same_settings = record["settings"] == json.loads(json.dumps(spec.to_json()))
        return same_settings and record["stage1"]["given"] == (request.stage1_masks is not None)
    except (OSError, ValueError, KeyError, TypeError):
        return False
