"""nnU-Net's own training, its length, seed and learning rate taken from the plans."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, ClassVar

import numpy as np
import torch
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn

from nnunet_cascade.settings.training import Recipe, TrainingSettings
from nnunet_cascade.trainers.recipes import RECIPES
from nnunet_cascade.uncertainty.passes import as_outputs


class CascadeTrainer(nnUNetTrainer):
    """nnU-Net's default trainer with the settings of the plans' `nnunet_cascade` block.

    On plans without the block it trains as `nnUNetTrainer` does, but seeded. It
    serves as stage 1, and as the baseline of equal length beside the cascade.

    Args:
        plans: Contents of the plans file and nnU-Net's `continue_training`.
        configuration: Name of a configuration in the plans.
        fold: Number of a fold, or "all".
        dataset_json: Contents of `dataset.json`.
        device: Where to train.

    Raises:
        SettingsError: The settings block is not valid.
    """

    default_recipe: ClassVar[Recipe] = "nnunet"
    # nnU-Net fills these in initialize() and declares them None until then.
    network: Any
    optimizer: Any
    loss: Any

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net reads this signature
    ) -> None:
        self.settings = TrainingSettings.from_plans(plans)
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = self.settings.epochs
        self.num_iterations_per_epoch = self.settings.iterations_per_epoch
        self.num_val_iterations_per_epoch = self.settings.validation_iterations_per_epoch
        self.save_every = self.settings.save_every
        self.recipe = RECIPES[self.settings.recipe or self.default_recipe]
        rate, decay = self.settings.initial_learning_rate, self.settings.weight_decay
        self.initial_lr = self.recipe.learning_rate if rate is None else rate
        self.weight_decay = self.recipe.weight_decay if decay is None else decay
        self.oversample_foreground_percent = self.settings.oversample_foreground

    def initialize(self) -> None:
        """Build network, optimizer and loss with seeded weights."""
        _seed_everything(self.settings.seed)
        super().initialize()

    def configure_optimizers(self) -> tuple[Any, Any]:
        """Give optimizer and schedule of the recipe."""
        optimizer = self.recipe.optimizer(self.network.parameters(), self.initial_lr, self.weight_decay)
        return optimizer, self.recipe.schedule(optimizer, self.initial_lr, self.num_epochs)

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Take one step as nnU-Net does, with the recipe's clipping of gradients."""
        image = batch["data"].to(self.device, non_blocking=True)
        targets = [target.to(self.device, non_blocking=True) for target in as_outputs(batch["target"])]
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.training_loss(image, targets)
        self._descend(loss)
        return {"loss": loss.detach().cpu().numpy()}

    def training_loss(self, image: torch.Tensor, targets: list[torch.Tensor]) -> torch.Tensor:
        """Compute the loss of a batch.

        Args:
            image: (B, C, Z, Y, X).
            targets: One for each resolution, finest first.
        """
        with self.autocast():
            output = self.network(image)
            return self.loss(output, targets if isinstance(output, (list, tuple)) else targets[0])

    def autocast(self, *, keep_casts: bool = True) -> Any:
        """Give nnU-Net's context of mixed precision, which pays on CUDA alone.

        Args:
            keep_casts: Weights are cast once for all passes inside; weights cast where no gradient
                is wanted must not be kept for where it is.
        """
        return torch.autocast("cuda", cache_enabled=keep_casts) if self.device.type == "cuda" else nullcontext()

    def _descend(self, loss: torch.Tensor) -> None:
        if self.grad_scaler is None:
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip_norm)
            self.optimizer.step()
            return
        self.grad_scaler.scale(loss).backward()
        self.grad_scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip_norm)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple[Any, Any, Any, Any]:  # noqa: N802 - nnU-Net's name
        """Configure augmentation as nnU-Net does, without mirroring where the settings leave it out."""
        rotation, dummy_2d, initial_patch_size, mirror_axes = (
            super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        )
        if not self.settings.mirroring:
            mirror_axes = self.inference_allowed_mirroring_axes = None
        return rotation, dummy_2d, initial_patch_size, mirror_axes

    @staticmethod
    def get_training_transforms(*args: Any, **kwargs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Give nnU-Net's augmentation with one way to blur.

        nnU-Net times two ways and takes the faster one, so that the same seed gives
        other bits from run to run.
        """
        transforms = nnUNetTrainer.get_training_transforms(*args, **kwargs)
        for transform in _leaves(transforms):
            if isinstance(transform, GaussianBlurTransform):
                transform.benchmark = False
        return transforms

    def on_train_start(self) -> None:
        """Start as nnU-Net does, with seeded augmentation; a continued run and each GPU get a seed of their own."""
        if not self.was_initialized:
            self.initialize()
        _seed_everything((self.settings.seed + self.current_epoch + self.num_epochs * self.local_rank) % 2**32)
        super().on_train_start()

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:  # noqa: FBT001, FBT002 - nnU-Net's signature
        """Predict the fold's validation cases as nnU-Net does, unless the settings leave it out."""
        if self.settings.final_validation:
            super().perform_actual_validation(save_probabilities)
        else:
            self.print_to_log_file("final_validation is off in the plans' settings: no validation cases are predicted.")


def _leaves(transform: Any) -> Iterator[Any]:
    """Give the transforms inside compositions and chances."""
    inner = getattr(transform, "transforms", None) or [getattr(transform, "transform", None)]
    if inner == [None]:
        yield transform
        return
    for part in inner:
        yield from _leaves(part)


def _seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - nnU-Net's loaders draw from the global generator
    torch.manual_seed(seed)
