"""Plans of tiny networks, which train on phantoms in minutes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnunet_cascade.geometry import Index
from nnunet_cascade.training.planning import PlanRequest

TINY_EPOCHS = 6
TINY_BATCH = 2
_TRAINING = {
    "epochs": TINY_EPOCHS,
    "validation_iterations_per_epoch": 5,
    "save_every": 2,
    "recipe": "adamw",
    "initial_learning_rate": 0.002,
    "oversample_foreground": 0.5,
    "mirroring": False,
}


def tiny_plan(
    name: str, spacing_mm: float, patch_size: Index, iterations: float, training: Mapping[str, Any]
) -> PlanRequest:
    """Return plans of a tiny network.

    Args:
        name: Of the plans.
        spacing_mm: Edge of the cubic voxels.
        patch_size: Voxels along each axis.
        iterations: In each epoch, rounded; at least 1.
        training: Further settings of the training.
    """
    return PlanRequest(
        name=name,
        spacing_mm=(spacing_mm, spacing_mm, spacing_mm),
        window_hu=(-1000.0, 400.0),
        patch_size=patch_size,
        batch_size=TINY_BATCH,
        features=(8, 16, 32, 64),
        training={**_TRAINING, "iterations_per_epoch": max(1, round(iterations)), **training},
    )
