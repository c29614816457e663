"""The adaptive loss: Dice where the network is sure, cross-entropy where it is not."""

from __future__ import annotations

import torch

from nnunet_cascade.losses.targets import Batch, LabelScheme, VoxelLoss, soft_dice
from nnunet_cascade.settings.training import AdaptiveVariant


class AdaptiveLoss(VoxelLoss):
    """L = mean(α)·Dice_α + mean((1 − α)·CE) with α = exp(−U/τ).

    `voxel` weighs the sums inside the soft Dice with α, `scalar` takes the plain
    Dice and the mean of α, as the method's published code does. Without
    uncertainty (U ≡ 0) both are exactly the Dice loss, for U → ∞ both tend to
    cross-entropy.

    Args:
        variant: `voxel` or `scalar`.
        uncertainty_scale: τ, positive.
        batch_dice: Sum over the batch before dividing, as nnU-Net's plans say.
        smooth: As in `soft_dice`.
        labels: How the targets are written.

    Source:
        Isler et al., Uncertainty-Guided Coarse-to-Fine Tumor Segmentation,
        section III-D; docs/decisions/0005-adaptive-loss.md.
    """

    def __init__(
        self,
        *,
        variant: AdaptiveVariant = "voxel",
        uncertainty_scale: float = 0.25,
        batch_dice: bool = False,
        smooth: float = 1e-5,
        labels: LabelScheme | None = None,
    ) -> None:
        super().__init__(labels)
        self.variant: AdaptiveVariant = variant
        self.uncertainty_scale = uncertainty_scale
        self.batch_dice = batch_dice
        self.smooth = smooth

    def forward(
        self, logits: torch.Tensor, target: torch.Tensor, uncertainty: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Compute the loss of a batch, as `VoxelLoss` says."""
        batch = Batch.of(logits, target, self.labels)
        if uncertainty is None:
            return (1 - self._dice(batch, batch.valid)).mean()
        alpha = self._alpha(uncertainty.to(batch.logits.dtype))
        mean_alpha = batch.mean(alpha)
        if self.variant == "voxel":
            dice = self._dice(batch, batch.weighted(alpha))
            uncertain = batch.mean((1 - alpha) * batch.entropy())
        else:
            dice = self._dice(batch, batch.valid)
            uncertain = (1 - mean_alpha) * batch.mean(batch.entropy())
        # One weight α for all classes of a softmax, one for each region.
        return (mean_alpha * (1 - dice)).mean() + uncertain.mean()

    def _alpha(self, variance: torch.Tensor) -> torch.Tensor:
        variance = variance.detach()
        if not self.labels.regions:
            variance = variance.mean(1, keepdim=True)
        return torch.exp(variance * (-1 / self.uncertainty_scale))

    def _dice(self, batch: Batch, weight: torch.Tensor | None) -> torch.Tensor:
        return soft_dice(batch.probability, batch.truth, weight, batch_dice=self.batch_dice, smooth=self.smooth)
