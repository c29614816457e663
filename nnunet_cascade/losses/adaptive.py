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
    cross-entropy. In samples without tumor, where the Dice teaches next to nothing,
    1 counts as 1 − α: they have all of the cross-entropy, whatever U is.

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

    def weight(self, variance: torch.Tensor) -> torch.Tensor:
        """Return α of the variance U."""
        return torch.exp(variance * (-1 / self.uncertainty_scale))

    def forward(
        self, logits: torch.Tensor, target: torch.Tensor, uncertainty: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Compute the loss of a batch, as `VoxelLoss` says."""
        batch = Batch.of(logits, target, self.labels)
        empty = batch.without_tumor() if self.entropy_without_tumor else None
        if uncertainty is None:
            loss = (1 - self.soft_dice(batch, batch.valid)).mean()
            return loss if empty is None else loss + batch.mean(empty * batch.entropy()).mean()
        # One weight α for all classes of a softmax, one for each region.
        alpha = self.weight(self.foreground_variance(uncertainty, batch.logits.dtype))
        mean_alpha = batch.mean(alpha)
        dice = self.soft_dice(batch, batch.weighted(alpha) if self.variant == "voxel" else batch.valid)
        unsure = 1 - (alpha if self.variant == "voxel" else mean_alpha.view(1, -1, *[1] * (alpha.ndim - 2)))
        if empty is not None:
            unsure = torch.where(empty, 1.0, unsure)
        return (mean_alpha * (1 - dice)).mean() + batch.mean(unsure * batch.entropy()).mean()
