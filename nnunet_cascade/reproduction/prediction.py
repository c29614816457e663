"""Every system on every test case; results lie where the next run finds them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from tqdm import tqdm

from nnunet_cascade.bundles.bundle import DATASET_NAME, PLANS_NAME, read_spec
from nnunet_cascade.bundles.checksums import files_checksum
from nnunet_cascade.case_folders.case_record import CaseRecord
from nnunet_cascade.case_folders.run import FolderTask, prepare_output, run_cases
from nnunet_cascade.cohort.cohort import CohortRequest, Workers, predict_cohort
from nnunet_cascade.cohort.jobs import CohortJob
from nnunet_cascade.errors import CascadeError
from nnunet_cascade.geometry import Image
from nnunet_cascade.images import ENDING, read_ct, read_labels, read_volume, write_image
from nnunet_cascade.nnunet_folders import raw_folder
from nnunet_cascade.postprocessing.lungs.source import LungSource
from nnunet_cascade.prediction.spec import CascadeSpec, StageSettings
from nnunet_cascade.prediction.stage_model import StageModel
from nnunet_cascade.reproduction.cases import EvaluationSplit, evaluation_splits
from nnunet_cascade.reproduction.request import (
    ReproductionRequest,
    baseline_folds,
    baseline_of,
    spec_of,
    stage1_of,
    training_request,
)
from nnunet_cascade.reproduction.systems import System, full_ct
from nnunet_cascade.reproduction.tables import systems_of
from nnunet_cascade.scans.search import image_scans
from nnunet_cascade.settings.serialization import to_json
from nnunet_cascade.training.pipeline import model_of, tumor_label
from nnunet_cascade.training.request import StageTraining

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """What became of a system.

    Attributes:
        folder: Of its predictions.
        failures: By case, why it has none.
        why_not: Why the system was not run at all, or "".
    """

    folder: Path
    failures: Mapping[str, str]
    why_not: str = ""


def system_folder(request: ReproductionRequest, system: System) -> Path:
    """Return the folder of a system's predictions."""
    return request.folder / "systems" / system.key


def predict_all(request: ReproductionRequest) -> dict[System, Predicted]:
    """Run every system of the tables; one that cannot be run is told, the others go on."""
    found: dict[System, Predicted] = {}
    systems = systems_of(request.tables)
    for number, system in enumerate(systems, start=1):
        _log.info("[system %d/%d] %s", number, len(systems), system.key)
        try:
            found[system] = _predict(request, system)
        except CascadeError as error:
            _log.error("%s: %s", system.key, error)
            found[system] = Predicted(folder=system_folder(request, system), failures={}, why_not=str(error))
    return found


def _predict(request: ReproductionRequest, system: System) -> Predicted:
    folder = system_folder(request, system)
    if system.lungs == "reference" and _reference_lungs(request) is None:
        return Predicted(folder=folder, failures={}, why_not="no reference lungs were given (--reference_lungs)")
    failures: dict[str, str] = {}
    for part in evaluation_splits(request):
        if system.kind == "cascade":
            failures |= _predict_cascade(request, system, part)
        else:
            failures |= _predict_masks(request, system, part)
    return Predicted(folder=folder, failures=failures)


def _predict_masks(request: ReproductionRequest, system: System, part: EvaluationSplit) -> dict[str, str]:
    """Predict the tumor on the whole CT by a model alone: masks and, of held-out cases, probabilities."""
    is_baseline = system.kind == "baseline"
    stage = baseline_of(request) if is_baseline else stage1_of(request, system.model.backbone)
    folds = baseline_folds(request) if is_baseline and part.held_out else part.folds
    folder = system_folder(request, system)
    prepare_output(folder)
    model = model_of(request.number, stage)
    loaded: list[StageModel] = []

    def out_of_fold(case: str) -> Path:
        return model / f"fold_{part.folds[0]}" / "validation" / f"{case}{ENDING}"

    def predicted(case: str, path: Path) -> CaseRecord:
        if not loaded:
            loaded.append(_load(request, stage, folds))
        image, alone = read_ct(path), loaded[0]
        found = alone.predict_everywhere(alone.prepare_coarse(image.array, image.grid.spacing_mm))
        write_image(found.mask, image.grid, folder / f"{case}{ENDING}")
        write_image(cast(Image, found.probability), image.grid, folder / f"{case}_probability{ENDING}")
        return CaseRecord(case=case, files={f"{case}{ENDING}": None, f"{case}_probability{ENDING}": None})

    def copied(case: str, path: Path) -> CaseRecord:
        grid = read_ct(path).grid
        labels = read_labels(out_of_fold(case), grid, what="out-of-fold prediction")
        write_image(np.isin(labels, request.tumor_labels), grid, folder / f"{case}{ENDING}")
        return CaseRecord(case=case, files={f"{case}{ENDING}": None})

    facts = {"trainer": stage.trainer, "plan": to_json(stage.plan), "size": request.size}
    if part.held_out:
        used = [PLANS_NAME, DATASET_NAME, *(f"fold_{fold}/{StageSettings().checkpoint}" for fold in folds)]
        facts["sha256"] = files_checksum(model, used)
    task = FolderTask(
        output=folder,
        settings={"model": facts, "folds": list(folds)},
        work=predicted if part.held_out else copied,
        inputs=lambda case, path: (path,) if part.held_out else (path, out_of_fold(case)),
        resume=True,
    )
    outcomes = run_cases(part.images, task)
    shown = tqdm(outcomes, total=len(part.images), desc=system.key, unit="case")
    return {outcome.case: outcome.error for outcome in shown if outcome.status == "failed"}


def _load(request: ReproductionRequest, stage: StageTraining, folds: tuple[int | Literal["all"], ...]) -> StageModel:
    mirroring = spec_of(request, full_ct().model).stage1.mirroring
    label = tumor_label(training_request(request, full_ct().model))
    settings = StageSettings(folds=folds, mirroring=mirroring, tumor_label=label)
    return StageModel(model_of(request.number, stage), settings, device=torch.device(request.device))


def _predict_cascade(request: ReproductionRequest, system: System, part: EvaluationSplit) -> dict[str, str]:
    job = CohortJob(
        bundle=training_request(request, system.model).bundle,
        spec=system_spec(request, system, part),
        output=system_folder(request, system),
        with_stage1=proposes(request, system),
    )
    with closing(predict_cohort(cohort_of(request, system, part, job))) as outcomes:
        shown = tqdm(outcomes, total=len(part.images), desc=system.key, unit="case")
        return {outcome.case: outcome.error for outcome in shown if outcome.status == "failed"}


def cohort_of(request: ReproductionRequest, system: System, part: EvaluationSplit, job: CohortJob) -> CohortRequest:
    """Return what to predict of a system's cases: what is done is left out.

    Stage 1's masks are given, found once for all systems; a cascade with a score proposes on its own.
    """
    return CohortRequest(
        cases=image_scans(part.images),
        job=job,
        stage1_masks=None if proposes(request, system) else coarse_masks(request, system, part),
        resume=True,
        workers=Workers(devices=(request.device,)),
    )


def proposes(request: ReproductionRequest, system: System) -> bool:
    """Tell whether a cascade's own stage 1 proposes, by its threshold, and its score decides."""
    scored = training_request(request, system.model).false_positives_per_scan is not None
    return scored and system.boxes == "predicted"


def system_spec(request: ReproductionRequest, system: System, part: EvaluationSplit) -> CascadeSpec:
    """Return the settings that a cascade predicts some cases with."""
    bundle = training_request(request, system.model).bundle
    spec = read_spec(bundle) if proposes(request, system) else spec_of(request, system.model)
    anatomy = replace(spec.anatomy, top_k=system.top_k)
    if system.boxes == "truth":
        # Nothing drops a true tumor: any share inside the lungs will do.
        anatomy = replace(anatomy, top_k="all", min_volume_mm3=0.0, min_lung_overlap=0.0, min_lung_overlap_central=0.0)
    label = tumor_label(training_request(request, system.model))
    return replace(
        spec,
        anatomy=anatomy,
        lungs=_lung_source(request, system),
        stage1=replace(spec.stage1, folds=part.folds, tumor_label=label),
        stage2=replace(spec.stage2, folds=part.folds),
    )


def _lung_source(request: ReproductionRequest, system: System) -> LungSource:
    if system.lungs == "reference":
        return LungSource(kind="folder", path=_reference_lungs(request))
    if system.lungs == "lungmask":
        return LungSource(kind="lungmask", weights=request.lung_weights)
    return LungSource()


def _reference_lungs(request: ReproductionRequest) -> Path | None:
    """Find the lungs that came with the data: those given, or the phantoms' true ones."""
    if request.reference_lungs is not None or request.dataset is not None:
        return request.reference_lungs
    return raw_folder(request.number) / "lungsTs"


def coarse_masks(request: ReproductionRequest, system: System, part: EvaluationSplit) -> Path:
    """Return the folder of what stands for stage 1: its masks, found once for all systems, or the true tumors."""
    if system.boxes == "predicted":
        first = full_ct(system.model.backbone)
        failures = _predict_masks(request, first, part)
        if failures:
            _log.warning("%s failed on %d cases; cascades behind it will, too", first.key, len(failures))
        return system_folder(request, first)
    return _true_masks(request, part)


def _true_masks(request: ReproductionRequest, part: EvaluationSplit) -> Path:
    """Return the folder of the true tumors as masks; those of labels that are as they were are there already."""
    folder = request.folder / "systems" / "true_boxes"
    prepare_output(folder)

    def work(case: str, path: Path) -> CaseRecord:
        labels = read_volume(path)
        write_image(np.isin(np.rint(labels.array), request.tumor_labels), labels.grid, folder / f"{case}{ENDING}")
        return CaseRecord(case=case, files={f"{case}{ENDING}": None})

    settings = {"tumor_labels": list(request.tumor_labels)}
    for outcome in run_cases(part.labels, FolderTask(output=folder, settings=settings, work=work, resume=True)):
        _log.debug("%s: %s", outcome.case, outcome.status)
    return folder
