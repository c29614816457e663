"""All models that the tables need, each trained once; what is done is not done again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from nnunet_cascade.nnunet_folders import nnunet_folder
from nnunet_cascade.phantom.cohort import TEST_SEEDS, TRAIN_SEEDS, write_cohort
from nnunet_cascade.phantom.settings import PhantomSettings
from nnunet_cascade.reproduction.request import (
    PHANTOMS,
    ReproductionRequest,
    baseline_folds,
    baseline_of,
    stage1_of,
    training_request,
)
from nnunet_cascade.reproduction.systems import RoiModel
from nnunet_cascade.reproduction.tables import systems_of
from nnunet_cascade.settings.training import BLOCK, TrainingSettings
from nnunet_cascade.training.pipeline import log_folder, make_folds, train_models, train_stage
from nnunet_cascade.training.request import TrainingRequest

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One training of the plan, every fold.

    Attributes:
        title: What is trained.
        models: How many: one a fold.
        iterations: Of each.
        run: Does it.
    """

    title: str
    models: int
    iterations: int
    run: Callable[[], None]


def make_phantoms(request: ReproductionRequest) -> None:
    """Draw the phantoms to train and to test on, with their true lungs; resumes."""
    train, test = request.phantoms
    folder = nnunet_folder("nnUNet_raw") / f"Dataset{PHANTOMS}_Phantoms"
    write_cohort(
        folder,
        train_seeds=TRAIN_SEEDS[:train],
        test_seeds=TEST_SEEDS[:test],
        settings=PhantomSettings(tumors=(1, 2)),
    )


def trainings(request: ReproductionRequest) -> tuple[Training, ...]:
    """List what is to be trained: each stage 1 once, the stage-2 models behind it, the plain nnU-Net."""
    found: list[Training] = []
    for backbone in request.backbones:
        models = [model for model in request.roi_models if model.backbone == backbone]
        chain = training_request(request, models[0] if models else RoiModel(backbone=backbone))
        stage = stage1_of(request, backbone)
        found.append(
            Training(
                title=f"stage 1, {backbone}",
                models=request.folds,
                iterations=_iterations(stage.plan.training),
                run=lambda chain=chain: _train_stage1(chain),
            )
        )
        found.extend(_stage2(request, model) for model in models)
    if any(system.kind == "baseline" for system in systems_of(request.tables)):
        found.append(
            Training(
                title="plain nnU-Net",
                models=len(baseline_folds(request)),
                iterations=_iterations(baseline_of(request).plan.training),
                run=lambda: _train_baseline(request),
            )
        )
    return tuple(found)


def _stage2(request: ReproductionRequest, model: RoiModel) -> Training:
    chain = training_request(request, model)
    return Training(
        title=f"stage 2, {model.name}",
        models=request.folds,
        iterations=_iterations(chain.stage2.plan.training),
        run=lambda: train_models(chain),
    )


def train_all(request: ReproductionRequest) -> None:
    """Train everything, one after the other.

    Raises:
        CascadeError: As the steps raise.
    """
    todo = trainings(request)
    for number, training in enumerate(todo, start=1):
        _log.info("[training %d/%d] %s", number, len(todo), training.title)
        training.run()


def _train_stage1(chain: TrainingRequest) -> None:
    make_folds(chain)
    train_stage(chain.dataset, chain.stage1, chain, log_folder(chain))


def _train_baseline(request: ReproductionRequest) -> None:
    chain = training_request(request, RoiModel())
    make_folds(chain)
    train_stage(request.number, baseline_of(request), chain, log_folder(chain), folds=baseline_folds(request))


def _iterations(training: object) -> int:
    settings = TrainingSettings.from_plans({BLOCK: training})
    return settings.epochs * settings.iterations_per_epoch
