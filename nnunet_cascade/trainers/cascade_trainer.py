"""nnU-Net's own training, its length, seed and learning rate taken from the plans."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, ClassVar, cast

import numpy as np
import torch
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunet_cascade.errors import SettingsError, WeightsError, one_line
from nnunet_cascade.machine import take_threads
from nnunet_cascade.settings.training import BLOCK, NetworkSize, Recipe, TrainingSettings
from nnunet_cascade.trainers.augmentation import paper_augmentation
from nnunet_cascade.trainers.recipes import RECIPES
from nnunet_cascade.uncertainty.passes import as_outputs


class CascadeTrainer(nnUNetTrainer):
    """nnU-Net's default trainer with the settings of the plans' `nnunet_cascade` block.

    On plans without the block it trains as `nnUNetTrainer` does, but seeded. It
    serves as stage 1, and as the baseline of equal length next to the cascade.

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
    has_dropout: ClassVar[bool] = False  # whether networks of MONAI's get the settings' dropout
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
        optimization = self._optimization(self.settings)
        self.initial_lr, self.weight_decay = optimization["initial_learning_rate"], optimization["weight_decay"]
        self.oversample_foreground_percent = self.settings.oversample_foreground

    def _optimization(self, settings: TrainingSettings) -> dict[str, Any]:
        """Return recipe, rate and decay that settings mean for this trainer, said or not."""
        name = settings.recipe or self.default_recipe
        rate, decay, recipe = settings.initial_learning_rate, settings.weight_decay, RECIPES[name]
        return {
            "recipe": name,
            "initial_learning_rate": recipe.rate_for(self.network_size) if rate is None else rate,
            "weight_decay": recipe.weight_decay if decay is None else decay,
        }

    @property
    def network_size(self) -> NetworkSize:
        """The size of the network; that of the plan's own is none of the settings'."""
        return "paper"

    @classmethod
    def build_network_architecture(  # pyright: ignore[reportIncompatibleMethodOverride] - nnU-Net accepts this signature
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,  # noqa: FBT001, FBT002 - nnU-Net's signature
    ) -> nn.Module:
        """Build the plan's network."""
        del cls
        return nnUNetTrainer.build_network_architecture(
            plans_manager, configuration_manager, num_input_channels, num_output_channels, enable_deep_supervision
        )

    @classmethod
    def legal_plans(cls, plans: dict[str, Any], configuration: str) -> dict[str, Any]:
        """Return plans that the trainer's network can be built from; unchanged if the network is the plan's own."""
        del configuration
        return plans

    def initialize(self) -> None:
        """Build network, optimizer and loss with weights that depend on the seed and on the fold."""
        if BLOCK not in self.plans_manager.plans:
            self.print_to_log_file(
                f"The plans have no block {BLOCK!r}: {self.num_epochs} epochs and all other "
                "defaults hold; nnc-plan writes one."
            )
        _seed_everything(seed_of(self.settings.seed, self.fold))
        super().initialize()
        if self.device.type == "cpu":
            take_threads()  # nnU-Net takes all of the machine, whatever OMP_NUM_THREADS and the container say
            self.network = self.network.to(memory_format=torch.channels_last_3d)  # same results, sooner

    def _build_loss(self) -> Any:
        """Return nnU-Net's loss; where its network has one resolution alone, nnU-Net would weigh that by 0 / 0."""
        with np.errstate(invalid="ignore"):
            loss: Any = super()._build_loss()
        if self.enable_deep_supervision and len(self._get_deep_supervision_scales() or ()) == 1:
            loss.weight_factors = (1.0,)
        return loss

    def load_checkpoint(self, filename_or_checkpoint: Any) -> None:
        """Load weights and state as nnU-Net does.

        Raises:
            WeightsError: The weights are not those of the network of these plans and settings.
            SettingsError: The plans ask for another recipe than the checkpoint was trained with.
        """
        try:
            super().load_checkpoint(filename_or_checkpoint)
        except RuntimeError as error:
            if "state_dict" not in str(error):
                raise
            what = one_line(error, longest=300)
            raise WeightsError(
                f"the checkpoint does not fit the network that {type(self).__name__} builds from these plans ({what}); "
                "continue with the plans and settings it was trained with, or train in another folder"
            ) from error
        self._require_the_same_recipe(TrainingSettings.from_plans(self.my_init_kwargs["plans"]))

    def _require_the_same_recipe(self, before: TrainingSettings) -> None:
        """Refuse to go on with an optimizer whose state a checkpoint of other settings has replaced."""
        then, now = self._optimization(before), self._optimization(self.settings)
        changed = [name for name, value in then.items() if value != now[name]]
        if changed:
            was = ", ".join(f"{name} was {then[name]}" for name in changed)
            raise SettingsError(
                f"the checkpoint was trained with other settings ({was}), which --c cannot change; "
                "set them back in the plans, or train in another folder"
            )

    def configure_optimizers(self) -> tuple[Any, Any]:
        """Return optimizer and schedule of the recipe."""
        optimizer = self.recipe.optimizer(self.network.parameters(), lr=self.initial_lr, weight_decay=self.weight_decay)
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

    def autocast(self) -> Any:
        """Return nnU-Net's context of mixed precision, which pays on CUDA alone."""
        return torch.autocast("cuda") if self.device.type == "cuda" else nullcontext()

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

    def get_training_transforms(self, *args: Any, **kwargs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the augmentation of the settings; nnU-Net's own with one way to blur.

        nnU-Net times two ways and takes the faster one, so that the same seed gives
        other bits from run to run.
        """
        transforms = nnUNetTrainer.get_training_transforms(*args, **kwargs)
        for transform in _leaves(transforms):
            if isinstance(transform, GaussianBlurTransform):
                transform.benchmark = False
        if self.settings.augmentation == "paper":
            return paper_augmentation(cast(ComposeTransforms, transforms), spacing=self.configuration_manager.spacing)
        return transforms

    def on_train_start(self) -> None:
        """Start as nnU-Net does, with seeded augmentation; each fold, GPU and continued run has a seed of its own."""
        if not self.was_initialized:
            self.initialize()
        _seed_everything(seed_of(self.settings.seed, self.fold, self.local_rank, self.current_epoch))
        super().on_train_start()

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:  # noqa: FBT001, FBT002 - nnU-Net's signature
        """Predict the fold's validation cases as nnU-Net does, unless the settings leave it out."""
        if self.settings.final_validation:
            super().perform_actual_validation(save_probabilities)
        else:
            self.print_to_log_file("final_validation is off in the plans' settings: no validation cases are predicted.")


def seed_of(seed: int, fold: int | str, *what: int) -> int:
    """Return the seed that a fold, a number or "all", has for its weights, or for `what`.

    Folds that began alike would be no ensemble.
    """
    number = int(fold) + 1 if str(fold).isdecimal() else 0
    return int(np.random.SeedSequence([seed, number, *what]).generate_state(1)[0])


def _leaves(transform: Any) -> Iterator[Any]:
    """Return the transforms inside compositions and chances."""
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
