"""Trainings of minutes on a CPU: what a user's own training is, in smaller networks and for fewer steps.

Nothing that decides accuracy is set here but sizes and lengths; `tests/reproduction/test_tiny_plans.py` lists them all.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from nnunet_cascade.geometry import Index
from nnunet_cascade.training.grids import PlannedGrid
from nnunet_cascade.training.request import StageTraining, TrainingRequest

EPOCHS, BATCH = 6, 2
"""Of every tiny training. nnU-Net plans this batch for so few scans; for crops, which are many, a larger one."""
SAMPLES = 10
"""Stochastic passes in prediction."""
COARSE_PATCH, CUBIC_PATCH, PLAIN_PATCH = (40, 32, 48), (32, 32, 32), (48, 64, 64)
COARSE_STEPS, FINE_STEPS = 60, 80
"""Of an epoch."""
_FEATURES = (8, 16, 32, 64)
_LENGTHS: dict[str, Any] = {
    "epochs": EPOCHS,
    "validation_iterations_per_epoch": 5,
    "save_every": 2,
    "final_validation": False,
    "recipe": "adamw",  # for trainings of hundreds of steps
    "initial_learning_rate": 0.01,
    "mirroring": False,  # would need more steps, and eightfold prediction
}


def tiny_stage(
    stage: StageTraining, patch_size: Index, steps: float, *, grid: PlannedGrid | None = None, **further: Any
) -> StageTraining:
    """Return a stage with a tiny network, trained for minutes.

    Args:
        stage: As a user trains it.
        patch_size: Voxels along each axis.
        steps: Of an epoch, rounded; at least 1.
        grid: In place of voxels of a fixed size, such as the paper's of 1 mm: phantoms have 3 mm.
        further: More settings of the training.
    """
    plan = stage.plan if stage.plan.spacing_mm is None else replace(stage.plan, spacing_mm=None, grid=grid)
    training = {**stage.plan.training, **_LENGTHS, "iterations_per_epoch": max(1, round(steps)), **further}
    return replace(stage, plan=replace(plan, patch_size=patch_size, features=_FEATURES, training=training))


def tiny_cascade(
    request: TrainingRequest, *, steps: float = 1.0, cubic: bool = False, **further: Any
) -> TrainingRequest:
    """Return a cascade with tiny networks, trained for minutes.

    Args:
        request: As a user trains it.
        steps: Multiplies the steps of both stages.
        cubic: Whether the network of stage 1 needs a cubic patch.
        further: More settings of both trainings.
    """
    sampling = request.spec.sampling
    return replace(
        request,
        stage1=tiny_stage(
            request.stage1, CUBIC_PATCH if cubic else COARSE_PATCH, COARSE_STEPS * steps, grid="coarse", **further
        ),
        stage2=tiny_stage(request.stage2, CUBIC_PATCH, FINE_STEPS * steps, grid="fine", mc_samples=3, **further),
        spec=replace(request.spec, sampling=replace(sampling, mc_samples=min(SAMPLES, sampling.mc_samples))),
    )


def tiny_plain(
    stage: StageTraining, *, models: int, steps: float = 1.0, fine_batch: int = BATCH, **further: Any
) -> StageTraining:
    """Return a plain nnU-Net whose models together pass as many voxels with gradient as a tiny cascade of two folds.

    Args:
        stage: As a user trains it.
        models: How many are trained.
        steps: As for the cascade.
        fine_batch: Crops in a batch of the cascade's stage 2, as planned.
        further: More settings of the training.
    """
    a_fold = COARSE_STEPS * math.prod(COARSE_PATCH) + FINE_STEPS * math.prod(CUBIC_PATCH) * fine_batch / BATCH
    equal = 2 * a_fold / math.prod(PLAIN_PATCH) / models
    return tiny_stage(stage, PLAIN_PATCH, equal * steps, **further)


def gradient_voxels(stage: StageTraining, batch: int = BATCH) -> int:
    """Return the voxels that pass with gradient through one tiny model while it is trained with a batch."""
    training = stage.plan.training
    steps = training["epochs"] * training["iterations_per_epoch"]
    return int(steps * batch * math.prod(stage.plan.patch_size or (1, 1, 1)))


def cascade_voxels(chain: TrainingRequest, fine_batch: int = BATCH) -> int:
    """Return the same of one fold of a tiny cascade, both stages together."""
    return gradient_voxels(chain.stage1) + gradient_voxels(chain.stage2, fine_batch)
