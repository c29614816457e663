"""The adaptive loss: Dice where the network is sure, cross-entropy where it is not."""

from __future__ import annotations

from typing import Any

import torch

from nnunet_cascade.losses.targets import Batch, DiceTermLoss
from nnunet_cascade.settings.training import AdaptiveVariant


class AdaptiveLoss(DiceTermLoss):
    """L = mean(α)·Dice_α + mean((1 − α)·CE) with α = exp(−U/τ).

    `voxel` weighs the sums inside the soft Dice with α, `scalar` takes the plain
    Dice and the mean of α, as the method's published code does. Without
    uncertainty (U ≡ 0) both are exactly the Dice loss, for U → ∞ both tend to
    cross-entropy.

    Args:
        variant: `voxel` or `scalar`.
        uncertainty_scale: τ, positive.
        named: As of `DiceTermLoss`.

    Source:
        Isler et al., Uncertainty-Guided Coarse-to-Fine Tumor Segmentation,
        section III-D; docs/decisions/0005-adaptive-loss.md.
    """

    def __init__(self, *, variant: AdaptiveVariant = "voxel", uncertainty_scale: float = 0.25, **named: Any) -> None:
        super().__init__(**named)
        self.variant: AdaptiveVariant = variant
        self.uncertainty_scale = uncertainty_scale

    def forward(
        self, logits: torch.Tensor, target: torch.Tensor, uncertainty: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Compute the loss of a batch, as `VoxelLoss` says."""
        batch = Batch.of(logits, target, self.labels)
        if uncertainty is None:
            return (1 - self.soft_dice(batch, batch.valid)).mean()
        alpha = torch.exp(self.foreground_variance(uncertainty, batch.logits.dtype) * (-1 / self.uncertainty_scale))
        mean_alpha = batch.mean(alpha)
        if self.variant == "voxel":
            dice = self.soft_dice(batch, batch.weighted(alpha))
            uncertain = batch.mean((1 - alpha) * batch.entropy())
        else:
            dice = self.soft_dice(batch, batch.valid)
            uncertain = (1 - mean_alpha) * batch.mean(batch.entropy())
        # One weight α for all classes of a softmax, one for each region.
        return (mean_alpha * (1 - dice)).mean() + uncertain.mean()
