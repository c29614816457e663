"""The whole training of a cascade, from a raw dataset to a bundle, step by step and resumable."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from nnunetv2.utilities.crossval_split import generate_crossval_split

from nnunet_cascade.bundles.bundle import make_bundle
from nnunet_cascade.case_folders.same_request import require_same_request
from nnunet_cascade.dataset_labels import DatasetLabels
from nnunet_cascade.errors import DatasetError, require_type
from nnunet_cascade.files import write_json
from nnunet_cascade.images import ENDING
from nnunet_cascade.nnunet_folders import (
    model_folder,
    patient_folds,
    preprocessed_folder,
    raw_folder,
    read_json,
    roi_target,
)
from nnunet_cascade.postprocessing.lungs.source import LungSource
from nnunet_cascade.prediction.spec import CascadeSpec
from nnunet_cascade.settings.serialization import to_json
from nnunet_cascade.settings.training import BLOCK, TrainingSettings
from nnunet_cascade.training.crop_plan import crop_extent_mm, read_crop_plan
from nnunet_cascade.training.cross_validation import CrossValidation, cross_validate, store_score
from nnunet_cascade.training.earlier_runs import PLAN_BEFORE, as_begun, completed
from nnunet_cascade.training.nnunet_commands import run_nnunet
from nnunet_cascade.training.planning import plan_summary, write_plans
from nnunet_cascade.training.proposals import SENSITIVE, ProposalRequest, propose, proposed_threshold
from nnunet_cascade.training.request import StageTraining, TrainingRequest
from nnunet_cascade.training.roi_dataset import RoiDatasetRequest, make_roi_dataset, require_made_so

_log = logging.getLogger(__name__)
_FREE = ("bundle", "device", "notes", "processes", "trusted")  # may change from run to run
_REQUEST = "nnunet_cascade_request"
_NNUNET_SEED = 12345  # nnU-Net's own, so that our folds are the ones it would make


def train_cascade(request: TrainingRequest) -> None:
    """Plan, preprocess and train both stages, make the bundle, cross-validate; what is done is not done again.

    Args:
        request: The cascade. It is recorded next to the bundle: a second run with other
            settings is refused rather than mixed with the first.

    Raises:
        DatasetError: The dataset is not as expected, or an earlier run had other settings.
        SettingsError: Its labels do not say what is the tumor.
        StepFailedError: A command of nnU-Net did not succeed.
        CascadeError: As the steps raise.

    Example:
        >>> request = nnc.TrainingRequest.of_preset(501, "my_bundle", device="cuda")  # doctest: +SKIP
        >>> nnc.train_cascade(request)  # doctest: +SKIP
    """
    require_type(request, TrainingRequest, "a TrainingRequest", what="request")
    request = as_begun(with_tumor_values(request), _record(request))
    _run(request, [*_model_steps(request), ("cross-validation", lambda: _cross_validate(request))])


def train_models(request: TrainingRequest) -> None:
    """Do the same as far as the bundle, without the cross-validation.

    Raises:
        DatasetError, StepFailedError, CascadeError: As `train_cascade`.
    """
    request = as_begun(with_tumor_values(request), _record(request))
    _run(request, _model_steps(request))


def make_crops(request: TrainingRequest) -> None:
    """Do the same as far as the ROI dataset: stage 1 and its proposals, but no stage 2.

    Raises:
        DatasetError, StepFailedError, CascadeError: As `train_cascade`.
    """
    request = as_begun(with_tumor_values(request), _record(request))
    _run(request, _crop_steps(request))


_Steps = list[tuple[str, Callable[[], object]]]


def _crop_steps(request: TrainingRequest) -> _Steps:
    logs = log_folder(request)
    return [
        ("folds", lambda: make_folds(request)),
        ("plans", lambda: _plan_first(request)),
        ("stage 1", lambda: train_stage(request.dataset, request.stage1, request, logs)),
        ("proposals", lambda: propose(proposals_of(request))),
        ("ROI dataset", lambda: _make_roi_dataset(request)),
    ]


def _model_steps(request: TrainingRequest) -> _Steps:
    logs = log_folder(request)
    return [
        *_crop_steps(request),
        ("stage 2", lambda: train_stage(request.roi_dataset, request.stage2, request, logs)),
        ("bundle", lambda: _make_bundle(request)),
    ]


def _run(request: TrainingRequest, steps: _Steps) -> None:
    tumor_label(request)
    require_same_request(
        _record(request),
        to_json(request),
        advice="give the same options to go on, or other names and dataset numbers to train anew",
        free=_FREE,
        complete=partial(completed, stage2=request.stage2),
    )
    for number, (title, step) in enumerate(steps, start=1):
        _log.info("[%d/%d] %s", number, len(steps), title)
        step()


def log_folder(request: TrainingRequest) -> Path:
    """Return the folder of the commands' logs."""
    return request.bundle.with_name(f"{request.bundle.name}_logs")


def _record(request: TrainingRequest) -> Path:
    return log_folder(request) / "request.json"


def cross_validation_folder(request: TrainingRequest) -> Path:
    """Return the folder of the cross-validation's predictions and scores."""
    return request.bundle.with_name(f"{request.bundle.name}_cross_validation")


def train_stage(
    dataset: int, stage: StageTraining, request: TrainingRequest, logs: Path, folds: tuple[Any, ...] = ()
) -> None:
    """Plan, preprocess and train one stage, every fold of the request or the folds named."""
    _plan(dataset, stage)
    _preprocess(dataset, stage, request, logs)
    for fold in folds or range(request.folds):
        train_fold(dataset, stage, fold, device=request.device, logs=logs)


def model_of(dataset: int, stage: StageTraining) -> Path:
    """Return the model folder of a stage."""
    plan = stage.plan
    return model_folder(dataset, trainer=stage.trainer, plans=plan.name, configuration=plan.configuration)


def make_folds(request: TrainingRequest) -> None:
    """Write nnU-Net's own random folds where there are none; those that are there must be as many as asked."""
    path = preprocessed_folder(request.dataset) / "splits_final.json"
    own = raw_folder(request.dataset) / "splits_final.json"
    if not path.is_file() and own.is_file():
        shutil.copyfile(own, path)
    if path.is_file():
        found = len(json.loads(path.read_text()))
        if found != request.folds:
            raise DatasetError(
                f"{path} has {found} folds, asked are {request.folds}; give --folds {found} or remove it"
            )
        return
    cases = sorted(p.name.removesuffix(ENDING) for p in (raw_folder(request.dataset) / "labelsTr").glob(f"*{ENDING}"))
    if len(cases) < request.folds:
        raise DatasetError(f"{len(cases)} cases for {request.folds} folds; give fewer folds or more cases")
    splits = generate_crossval_split(cases, seed=_NNUNET_SEED, n_splits=request.folds)
    write_json(path, [{part: [str(case) for case in cases] for part, cases in fold.items()} for fold in splits])


def _plan_first(request: TrainingRequest) -> None:
    """Plan both stages on whole images; crops of a size that is asked for have plans of their own."""
    _plan(request.dataset, request.stage1)
    if request.context_mm is None:
        _plan(request.dataset, request.stage2)


def _plans_of(dataset: int, stage: StageTraining) -> Path:
    return preprocessed_folder(dataset) / f"{stage.plan.name}.json"


def _plan(dataset: int, stage: StageTraining) -> None:
    path = _plans_of(dataset, stage)
    wanted = json.loads(json.dumps(to_json(stage.plan)))
    if path.is_file():
        if {**PLAN_BEFORE, **read_json(path).get(_REQUEST, {})} != wanted:
            raise DatasetError(
                f"{path} was planned with other settings; choose another plans name, or remove it and its models"
            )
    else:
        write_plans(dataset, stage.plan)
        write_json(path, {**read_json(path), _REQUEST: wanted})
    _log.info("%s", plan_summary(path))


def _preprocess(dataset: int, stage: StageTraining, request: TrainingRequest, logs: Path) -> None:
    name, configuration = stage.plan.name, stage.plan.configuration
    folder = preprocessed_folder(dataset) / f"{name}_{configuration}"
    expected = len(list((raw_folder(dataset) / "labelsTr").glob(f"*{ENDING}")))
    # nnU-Net writes the properties last of each case's three files.
    if len(list(folder.glob("*.pkl"))) == expected:
        return
    arguments = ["-d", str(dataset), "-plans_name", name, "-c", configuration, "-np", str(request.processes)]
    log = logs / f"preprocess_{dataset}_{name}.log"
    run_nnunet("nnUNetv2_preprocess", arguments, log=log, title=f"preprocess {name}")


def train_fold(dataset: int, stage: StageTraining, fold: int | str, *, device: str, logs: Path) -> None:
    """Train one fold, go on where it stopped, or validate what is trained; a validated fold is done."""
    plan = stage.plan
    settings = TrainingSettings.from_plans({BLOCK: plan.training})
    folder = model_of(dataset, stage) / f"fold_{fold}"
    trained = (folder / "checkpoint_final.pth").is_file()
    if (folder / "validation" / "summary.json").is_file() or (trained and not settings.final_validation):
        return
    interrupted = (folder / "checkpoint_latest.pth").is_file()
    resume = ["--val"] if trained else ["--c"] if interrupted else []
    arguments = [str(dataset), plan.configuration, str(fold), "-tr", stage.trainer, "-p", plan.name]
    run_nnunet(
        "nnUNetv2_train",
        [*arguments, "-device", device, *resume],
        log=logs / f"train_{dataset}_{plan.name}_fold_{fold}.log",
        title=f"train {plan.name} fold {fold}",
        epochs=settings.epochs,
    )


def proposals_of(request: TrainingRequest) -> ProposalRequest:
    """Return what stage 1 proposes out of fold: with a score, masks of several thresholds to choose from."""
    return ProposalRequest(
        source=raw_folder(request.dataset),
        splits=patient_folds(request.dataset),
        model=model_of(request.dataset, request.stage1),
        spec=final_spec(request),
        thresholds=(request.spec.stage1.threshold,) if request.false_positives_per_scan is None else SENSITIVE,
        tumor_labels=request.tumor_labels,
        device=request.device,
        trusted=request.trusted,
    )


def _make_roi_dataset(request: TrainingRequest) -> None:
    source = raw_folder(request.dataset)
    target = roi_target(request.dataset, request.roi_dataset)
    proposals = proposals_of(request)
    plans = _plans_of(request.dataset, request.stage2)
    wanted = RoiDatasetRequest(
        source=source,
        target=target,
        splits=patient_folds(request.dataset),
        proposals=None if request.oracle_boxes else proposals,
        threshold=proposed_threshold(proposals),
        ask_stage2=request.false_positives_per_scan is not None,
        tumor_labels=request.tumor_labels,
        anatomy=request.spec.anatomy,
        lungs=request.spec.lungs,
        roi=request.spec.roi,
        edge_channel=request.edge_channel,
        jitter_mm=request.jitter_mm,
        context_mm=request.context_mm or crop_extent_mm(plans, request.stage2.trainer),
        plan=read_crop_plan(plans) if request.context_mm is None else None,
    )
    if target.is_dir():
        require_made_so(wanted)
    else:
        make_roi_dataset(wanted)


def final_spec(request: TrainingRequest) -> CascadeSpec:
    """Return the settings of the bundle: those of the request with every trained fold."""
    folds = tuple(range(request.folds))
    return replace(
        request.spec,
        stage1=replace(request.spec.stage1, folds=folds, tumor_label=tumor_label(request)),
        stage2=replace(request.spec.stage2, folds=folds),
        # A folder of the training cases' masks has none for another image.
        lungs=LungSource() if request.spec.lungs.kind == "folder" else request.spec.lungs,
    )


def tumor_label(request: TrainingRequest) -> str | tuple[str, ...]:
    """Return the name of the tumor, or its names, if the dataset has several labels; "" if it has one.

    Raises:
        SettingsError: A value is no label, or there are regions of which none has exactly these values.
        DatasetError: Labels are not as nnU-Net's.
    """
    labels = _labels(request)
    tumor = _tumor_values(request, labels)
    first, *others = labels.names_of(tumor)
    if len(labels.values) == 1:
        return ""
    return (first, *others) if others else first


def with_tumor_values(request: TrainingRequest) -> TrainingRequest:
    """Return a request with the values of the dataset's only label if it names none.

    Raises:
        SettingsError: A value is no label, or there are several labels and none is named.
        DatasetError: Labels are not as nnU-Net's.
    """
    return replace(request, tumor_labels=tuple(sorted(_tumor_values(request, _labels(request)))))


def _labels(request: TrainingRequest) -> DatasetLabels:
    path = raw_folder(request.dataset) / "dataset.json"
    return DatasetLabels.of(read_json(path), where=str(path))


def _tumor_values(request: TrainingRequest, labels: DatasetLabels) -> frozenset[int]:
    return labels.values_of(request.tumor_labels)


def _with_threshold(spec: CascadeSpec, threshold: float) -> CascadeSpec:
    return replace(spec, stage1=replace(spec.stage1, threshold=threshold))


def _make_bundle(request: TrainingRequest) -> None:
    if request.bundle.is_dir():
        return
    make_bundle(
        request.bundle,
        stage1=model_of(request.dataset, request.stage1),
        stage2=model_of(request.roi_dataset, request.stage2),
        spec=_with_threshold(final_spec(request), proposed_threshold(proposals_of(request))),
        notes=request.notes,
        trusted=request.trusted,
    )


def _cross_validate(request: TrainingRequest) -> None:
    task = CrossValidation(
        proposals=proposals_of(request),
        bundle=request.bundle,
        output=cross_validation_folder(request),
        false_positives_per_scan=request.false_positives_per_scan,
    )
    if not (task.output / "scores.json").is_file():
        _log.info("%s", cross_validate(task))
    store_score(task)
