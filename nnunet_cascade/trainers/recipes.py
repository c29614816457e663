"""How a network is trained: optimizer, schedule and clipping of gradients, by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

from nnunet_cascade.settings.training import NetworkSize, Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecipe:
    """A way of training.

    Attributes:
        optimizer: Makes the optimizer from parameters, `lr` and `weight_decay`.
        schedule: Makes nnU-Net's epoch-wise schedule from optimizer, learning rate and epochs.
        learning_rate: To begin with, or to warm up to.
        weight_decay: As the optimizer understands it.
        clip_norm: Largest norm of the gradient.
        tiny_learning_rate: That of tiny networks, which bear more and get nowhere with less;
            None is the same.
    """

    optimizer: Callable[..., torch.optim.Optimizer]
    schedule: Callable[..., EpochSchedule | PolyLRScheduler]
    learning_rate: float
    weight_decay: float
    clip_norm: float = 12.0
    tiny_learning_rate: float | None = None

    def rate_for(self, size: NetworkSize) -> float:
        """Return the initial learning rate for a network of that size."""
        tiny = self.tiny_learning_rate
        return self.learning_rate if size == "paper" or tiny is None else tiny


def warm_up_epochs(epochs: int) -> int:
    """Return the epochs of warming up: 50 of a thousand, as nnU-Net's own transformer, and never all of a short run."""
    return min(50, epochs // 20)


class EpochSchedule:
    """A rate that is a share of the initial one, by epoch.

    nnU-Net tells it each epoch at its start and stores nothing of it in checkpoints, only the
    optimizer: the rate must follow from the epoch alone, else a continued training would differ.
    torch's LambdaLR would do, but warns when it is told the epoch.

    Args:
        optimizer: Its rate is set, at once to that of epoch 0.
        rate: The initial rate.
        share: Of the rate, by epoch.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, rate: float, share: Callable[[int], float]) -> None:
        self.optimizer = optimizer
        self.rate = rate
        self.share = share
        self.epoch = 0
        self.step(0)

    def step(self, current_step: int | None = None, /) -> None:
        """Set the rate of an epoch, the next one if none is named."""
        self.epoch = self.epoch + 1 if current_step is None else current_step
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * self.share(self.epoch)

    def get_last_lr(self) -> list[float]:
        """Return the rate that was set last, once per parameter group."""
        return [group["lr"] for group in self.optimizer.param_groups]


def _warm_then_poly(optimizer: torch.optim.Optimizer, rate: float, epochs: int) -> EpochSchedule:
    warm = warm_up_epochs(epochs)

    def share(epoch: int) -> float:
        if epoch < warm:
            return (epoch + 1) / (warm + 1)
        return max(0.0, 1 - (epoch - warm) / (epochs - warm)) ** 0.9

    return EpochSchedule(optimizer, rate, share)


def _cosine(optimizer: torch.optim.Optimizer, rate: float, epochs: int) -> EpochSchedule:
    return EpochSchedule(optimizer, rate, lambda epoch: 0.5 * (1 + math.cos(math.pi * min(epoch, epochs) / epochs)))


RECIPES: dict[Recipe, TrainingRecipe] = {
    "nnunet": TrainingRecipe(
        optimizer=partial(torch.optim.SGD, momentum=0.99, nesterov=True),
        schedule=PolyLRScheduler,
        learning_rate=1e-2,
        weight_decay=3e-5,
    ),
    "adamw": TrainingRecipe(
        optimizer=torch.optim.AdamW, schedule=PolyLRScheduler, learning_rate=1e-3, weight_decay=3e-5
    ),
    "transformer": TrainingRecipe(
        optimizer=partial(torch.optim.AdamW, betas=(0.9, 0.98)),
        schedule=_warm_then_poly,
        learning_rate=1e-4,
        weight_decay=5e-2,
        clip_norm=1.0,
        tiny_learning_rate=1e-3,
    ),
    "paper": TrainingRecipe(optimizer=torch.optim.Adam, schedule=_cosine, learning_rate=1e-4, weight_decay=1e-5),
}
"""By name; docs/decisions/0008-recipes.md, gives the sources."""
