"""All models that the tables need, each trained once; what is done is not done again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from nnunet_cascade.nnunet_folders import nnunet_folder
from nnunet_cascade.phantom.cohort import TEST_SEEDS, TRAIN_SEEDS, write_cohort
from nnunet_cascade.phantom.settings import PhantomSettings
from nnunet_cascade.reproduction.request import (
    PHANTOMS,
    ReproductionRequest,
    baseline_folds,
    baseline_of,
    training_request,
)
from nnunet_cascade.reproduction.systems import RoiModel
from nnunet_cascade.reproduction.tables import systems_of
from nnunet_cascade.settings.training import BLOCK, TrainingSettings
from nnunet_cascade.training.pipeline import log_folder, make_folds, train_cascade, train_models, train_stage
from nnunet_cascade.training.request import StageTraining, TrainingRequest

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One training of the plan, every fold.

    Attributes:
        title: What is trained.
        models: How many: one a fold.
        stage: How each is trained.
        run: Does it.
    """

    title: str
    models: int
    stage: StageTraining
    run: Callable[[], None]

    @property
    def iterations(self) -> int:
        """Of each model."""
        settings = TrainingSettings.from_plans({BLOCK: self.stage.plan.training})
        return settings.epochs * settings.iterations_per_epoch


def make_phantoms(request: ReproductionRequest) -> None:
    """Draw the phantoms to train and to test on, with their true lungs; resumes."""
    train, test = request.phantoms
    folder = nnunet_folder("nnUNet_raw") / f"Dataset{PHANTOMS}_Phantoms"
    settings = PhantomSettings(tumors=(1, 2))
    write_cohort(folder, train_seeds=TRAIN_SEEDS[:train], test_seeds=TEST_SEEDS[:test], settings=settings)


def trainings(request: ReproductionRequest) -> tuple[Training, ...]:
    """List what is to be trained: each stage 1 once, the stage-2 models behind it, the plain nnU-Net."""
    found: list[Training] = []
    for backbone in request.backbones:
        models = [model for model in request.roi_models if model.backbone == backbone]
        chain = training_request(request, models[0] if models else RoiModel(backbone=backbone))
        run = partial(_train_alone, chain, chain.stage1)
        found.append(Training(title=f"stage 1, {backbone}", models=request.folds, stage=chain.stage1, run=run))
        for model in models:
            chain = training_request(request, model)
            # A score is fitted by the cross-validation.
            run = partial(train_models if chain.false_positives_per_scan is None else train_cascade, chain)
            found.append(Training(title=f"stage 2, {model.name}", models=request.folds, stage=chain.stage2, run=run))
    if any(system.kind == "baseline" for system in systems_of(request.tables)):
        run, models = partial(_train_baseline, request), len(baseline_folds(request))
        found.append(Training(title="plain nnU-Net", models=models, stage=baseline_of(request), run=run))
    return tuple(found)


def train_all(request: ReproductionRequest) -> None:
    """Train everything, one after the other.

    Raises:
        CascadeError: As the steps raise.
    """
    todo = trainings(request)
    for number, training in enumerate(todo, start=1):
        _log.info("[training %d/%d] %s", number, len(todo), training.title)
        training.run()


def _train_baseline(request: ReproductionRequest) -> None:
    """Train the plain nnU-Net after the cascade, for its length follows from the cascade's plans."""
    chain = training_request(request, RoiModel())
    _train_alone(chain, baseline_of(request), baseline_folds(request))


def _train_alone(chain: TrainingRequest, stage: StageTraining, folds: tuple[int | str, ...] = ()) -> None:
    """Train a model on whole images; without `folds` it is every fold."""
    make_folds(chain)
    train_stage(chain.dataset, stage, chain, log_folder(chain), folds)
