"""Stage 2 with losses that adapt to the network's own uncertainty."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import torch

from nnunet_cascade.losses.adaptive import AdaptiveLoss
from nnunet_cascade.losses.lovasz import UncertaintyLovaszLoss
from nnunet_cascade.losses.targets import VoxelLoss
from nnunet_cascade.trainers.roi_trainer import ROITrainer
from nnunet_cascade.uncertainty.passes import StochasticPasses, passes_of, probabilities
from nnunet_cascade.uncertainty.sampling import Moments, stochastic


class SampledROITrainer(ROITrainer):
    """Train on ROI crops with a loss that wants the variance of stochastic passes.

    T − 1 passes run without gradient, one with, which counts as the T-th. What no
    dropout can change is computed once for all of them. The log tells the mean variance
    of each epoch, and how much it weighs in the loss.
    """

    weight_name: ClassVar[str]
    """What the uncertainty U becomes in the loss."""

    @cached_property
    def _seen(self) -> list[torch.Tensor]:
        """Of each step of this epoch: mean U and mean weight, at the finest resolution."""
        return []

    def on_train_epoch_end(self, train_outputs: list[dict[str, Any]]) -> None:
        """End an epoch as nnU-Net does, and tell the mean uncertainty of its patches."""
        super().on_train_epoch_end(train_outputs)
        if self._seen:
            variance, weight = torch.stack(self._seen).mean(0).tolist()
            self.print_to_log_file(f"mean uncertainty U: {variance:.3g}; mean weight {self.weight_name}: {weight:.4f}")
            self._seen.clear()

    @cached_property
    def passes(self) -> StochasticPasses:
        """The network's passes."""
        return passes_of(self.network)

    def training_loss(self, image: torch.Tensor, targets: list[torch.Tensor]) -> torch.Tensor:
        """Compute the loss of a batch with the variance of its own stochastic passes."""
        with self.autocast():
            features = self.passes.features(image)
        moments = self._sampled_moments(features)
        with self.autocast():
            outputs = self.passes.run(features)
            del features
            self._add(outputs, moments)
            variances = [moment.variance() for moment in moments]
            self._note(variances[0])
            return self.loss(outputs, targets, variances)

    def _note(self, variance: torch.Tensor) -> None:
        variance = self.loss.loss.foreground_variance(variance, torch.float32)
        self._seen.append(torch.stack([variance.mean(), self.loss.loss.weight(variance).mean()]))

    def _sampled_moments(self, features: Any) -> list[Moments]:
        """Run T − 1 passes; the moments of the probabilities at each resolution."""
        moments = [Moments() for _ in self.resolution_weights()]
        with torch.no_grad(), stochastic(self.network), self.autocast():
            features = self.passes.detached(features)
            for _ in range(self.settings.mc_samples - 1):
                self._add(self.passes.run(features), moments)
        return moments

    def _add(self, outputs: list[torch.Tensor], moments: list[Moments]) -> None:
        sampled = probabilities(outputs, regions=self.label_manager.has_regions)
        for moment, probability in zip(moments, sampled, strict=True):
            moment.add(probability)


class AdaptiveLossTrainer(SampledROITrainer):
    """The adaptive loss: Dice where the network is sure, cross-entropy where it is not."""

    weight_name = "α = exp(−U/τ)"

    def voxel_loss(self) -> VoxelLoss:
        """Return the loss of one resolution."""
        return AdaptiveLoss(
            variant=self.settings.adaptive_variant,
            uncertainty_scale=self.settings.uncertainty_scale,
            entropy_without_tumor=self.settings.entropy_without_tumor,
            batch_dice=self.configuration_manager.batch_dice,
            labels=self.label_scheme,
        )


class UncertaintyLovaszLossTrainer(SampledROITrainer):
    """The Lovász loss, its errors weighted by uncertainty."""

    weight_name = "1 + U/τ"

    def voxel_loss(self) -> VoxelLoss:
        """Return the loss of one resolution."""
        return UncertaintyLovaszLoss(
            uncertainty_scale=self.settings.uncertainty_scale,
            entropy_without_tumor=self.settings.entropy_without_tumor,
            labels=self.label_scheme,
        )
