"""The `nnunet_cascade` block of a plans file: all that our trainers leave to the user.

nnU-Net keeps unknown keys of a plans file, copies them into the trained model's
folder and stores them in no other place, so a run is reproducible from its plans.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from nnunet_cascade.settings.serialization import from_json, require

BLOCK = "nnunet_cascade"
"""Key of the settings block in a plans file."""

PAPER_SPACING_MM = (1.0, 1.0, 1.0)
PAPER_WINDOW_HU = (-1000.0, 400.0)
PAPER_TRAINING: dict[str, Any] = {
    "recipe": "paper",
    "augmentation": "paper",
    "uncertainty_scale": 1.0,
    "entropy_without_tumor": False,
    "mc_samples": 3,
}
"""What the preset `paper` changes in plans, besides voxel size and window."""

DropoutPlacement = Literal["bottleneck_decoder", "everywhere"]
AdaptiveVariant = Literal["voxel", "scalar"]
NetworkSize = Literal["paper", "tiny"]
Recipe = Literal["nnunet", "adamw", "transformer", "paper"]
Augmentation = Literal["nnunet", "paper"]
_CHOICES: dict[str, tuple[Any, ...]] = {
    "recipe": (None, *get_args(Recipe)),
    "augmentation": get_args(Augmentation),
    "dropout_placement": get_args(DropoutPlacement),
    "network_size": get_args(NetworkSize),
    "adaptive_variant": get_args(AdaptiveVariant),
}

_WHOLE = {
    "epochs": 1,
    "iterations_per_epoch": 1,
    "validation_iterations_per_epoch": 1,
    "save_every": 1,
    "seed": 0,
    "mc_samples": 2,  # one sample has no variance
}
_BEFORE = {"entropy_without_tumor": False}
"""What settings that plans of earlier releases do not name were then."""
_OF_THE_RECIPE = ("initial_learning_rate", "weight_decay")
_NUMBERS: dict[str, tuple[Callable[[float], bool], str]] = {
    "initial_learning_rate": (lambda x: x > 0, "positive, or null for the recipe's"),
    "weight_decay": (lambda x: x >= 0, "at least 0, or null for the recipe's"),
    "oversample_foreground": (lambda x: 0 <= x <= 1, "in 0…1"),
    "dropout": (lambda x: 0 < x < 1, "between 0 and 1"),
    "uncertainty_scale": (lambda x: x > 0, "positive"),
    "boundary_weight": (lambda x: x >= 0, "at least 0"),
    "focal_gamma": (lambda x: x >= 0, "at least 0"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """How a trainer of this package trains.

    Attributes:
        epochs: Number of epochs.
        iterations_per_epoch: Training steps in an epoch.
        validation_iterations_per_epoch: Validation batches after an epoch.
        save_every: Number of epochs between two checkpoints from which training can continue.
        recipe: Optimizer, schedule and gradient clipping, see `trainers/recipes.py`: nnU-Net's; AdamW, for short
            trainings of hundreds of steps; that of transformers; the paper's. None is the trainer's own: `nnunet` for
            U-Nets and other convolutional networks, `transformer` for Swin UNETR and UNETR.
        initial_learning_rate: Learning rate at the start; None is the recipe's value for the size of the network.
        weight_decay: Weight decay of the optimizer; None is the recipe's value.
        augmentation: nnU-Net's augmentation, or the paper's changes of intensity and shape, see
            `trainers/augmentation.py`.
        oversample_foreground: Share of a batch that must show foreground, 0 to 1.
        mirroring: Mirror images along every axis in augmentation. Prediction mirrors, too, and
            takes eight times as long, unless it is turned off there.
        final_validation: Whether nnU-Net predicts the fold's validation cases after training. Out-of-fold predictions
            need it. For fold "all" it is not useful, because its validation cases are its training cases.
        seed: Random seed of weights, augmentation and dropout. On a CPU, with `nnUNet_n_proc_DA=0`,
            the same seed gives the same weights.
        dropout: Dropout probability in the stochastic part, between 0 and 1. Only trainers with
            Monte-Carlo dropout use it.
        dropout_placement: Which part of a U-Net is stochastic.
        network_size: Size of networks that the plans do not describe: as published, or tiny for CPUs.
        adaptive_variant: The adaptive loss with one weight per voxel, or with one per batch as in
            the method's published code.
        uncertainty_scale: τ in α = exp(−U/τ) and in 1 + U/τ. 1 is the paper's formula. With 1/4, α
            can fall to 1/e, because a variance of probabilities is at most 1/4.
        entropy_without_tumor: Whether losses without a cross-entropy of their own (adaptive, boundary, Lovász) add that
            of crops without tumor, from which they would learn next to nothing. False is the paper's formula.
        boundary_weight: λ, the weight of the boundary loss.
        focal_gamma: γ of the focal loss.
        mc_samples: T, the number of stochastic passes that U is computed from; the pass with gradients is one of them.

    Raises:
        SettingsError: A value is out of its range.

    Source:
        docs/decisions/0003-settings.md and 0005-adaptive-loss.md.

    Example:
        >>> nnc.TrainingSettings(epochs=50).mc_samples
        4
    """

    epochs: int = 1000
    iterations_per_epoch: int = 250
    validation_iterations_per_epoch: int = 50
    save_every: int = 50
    recipe: Recipe | None = None
    initial_learning_rate: float | None = None
    weight_decay: float | None = None
    augmentation: Augmentation = "nnunet"
    oversample_foreground: float = 0.33
    mirroring: bool = True
    final_validation: bool = True
    seed: int = 0
    dropout: float = 0.1
    dropout_placement: DropoutPlacement = "bottleneck_decoder"
    network_size: NetworkSize = "paper"
    adaptive_variant: AdaptiveVariant = "voxel"
    uncertainty_scale: float = 0.25
    entropy_without_tumor: bool = True
    boundary_weight: float = 0.01
    focal_gamma: float = 2.0
    mc_samples: int = 4

    def __post_init__(self) -> None:
        for name, least in _WHOLE.items():
            value = getattr(self, name)
            fits = type(value) is int and value >= least
            require(fits, f"{name} must be a whole number of at least {least}; found {value!r}")
        require(self.seed < 2**32, f"seed must lie in 0…2³²−1; found {self.seed}")
        for name in ("mirroring", "final_validation", "entropy_without_tumor"):
            value = getattr(self, name)
            require(isinstance(value, bool), f"{name} must be true or false; found {value!r}")
        for name, (allows, what) in _NUMBERS.items():
            value = getattr(self, name)
            known = value is None and name in _OF_THE_RECIPE
            fits = (
                not isinstance(value, bool)
                and isinstance(value, (int, float))
                and math.isfinite(value)
                and allows(value)
            )
            require(known or fits, f"{name} must be {what}; found {value!r}")
        for name, allowed in _CHOICES.items():
            found = getattr(self, name)
            require(found in allowed, f"{name} must be one of {', '.join(map(str, allowed))}; found {found!r}")

    @classmethod
    def from_plans(cls, plans: Mapping[str, Any]) -> TrainingSettings:
        """Read the settings block of a plans file; one without the block gives the defaults.

        A whole block that lacks a setting was written before there was one: it means what held then.
        """
        block = plans.get(BLOCK, {})
        if {item.name for item in fields(cls)} - set(block) == set(_BEFORE):
            block = {**block, **_BEFORE}
        return from_json(cls, block, where=f"plans file, block {BLOCK!r}")
