"""Dice and the boundary loss: probability weighted by the signed distance to the true surface."""

from __future__ import annotations

import torch

from nnunet_cascade.losses.targets import Batch, LabelScheme, VoxelLoss, soft_dice


class BoundaryLoss(VoxelLoss):
    """L = (1 − Dice) + λ·mean(φ·p), φ the signed distance to the true surface.

    φ is negative inside and positive outside, so that probability far from the tumor
    costs most, and probability inside pays. φ is made where targets are made: the
    target carries one channel of it for each foreground channel behind its own.
    Targets without them (validation, coarser resolutions) leave the Dice loss.

    Args:
        boundary_weight: λ.
        batch_dice: Sum over the batch before dividing, as nnU-Net's plans say.
        smooth: As in `soft_dice`.
        labels: How the targets are written.

    Source:
        Kervadec et al. 2019, Boundary loss for highly unbalanced segmentation,
        doi:10.1016/j.media.2020.101851, equation 5; docs/design.md, "The other losses".
    """

    def __init__(
        self,
        *,
        boundary_weight: float = 0.01,
        batch_dice: bool = False,
        smooth: float = 1e-5,
        labels: LabelScheme | None = None,
    ) -> None:
        super().__init__(labels)
        self.boundary_weight = boundary_weight
        self.batch_dice = batch_dice
        self.smooth = smooth

    def forward(
        self, logits: torch.Tensor, target: torch.Tensor, uncertainty: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Compute the loss of a batch, as `VoxelLoss` says; uncertainty plays no part.

        Args:
            logits: (B, C, …).
            target: The labels' own channels, then, where there are any, the signed
                distances in the shortest edge of a voxel (B, F, …) of the foreground channels.
            uncertainty: Not used.
        """
        del uncertainty
        own = self.labels.target_channels(logits.shape[1])
        batch = Batch.of(logits, target[:, :own], self.labels)
        dice = soft_dice(batch.probability, batch.truth, batch.valid, batch_dice=self.batch_dice, smooth=self.smooth)
        loss = (1 - dice).mean()
        if target.shape[1] == own:
            return loss
        distance = target[:, own:].to(batch.probability.dtype)
        return loss + self.boundary_weight * batch.mean(distance * batch.probability).mean()
