"""Dice and cross-entropy that counts more near the true surface."""

from __future__ import annotations

import torch

from nnunet_cascade.losses.targets import Batch, LabelScheme, VoxelLoss, soft_dice


class DistanceWeightedLoss(VoxelLoss):
    """L = (1 − Dice) + mean(w·CE) / mean(w) with w = 1 + w₀·exp(−d²/(2σ²)), d the distance to the true surface.

    Targets carry the signed distances behind their own channels, as for `BoundaryLoss`;
    where a softmax has several foreground classes the nearest surface counts. Targets without
    them, and masks without a surface, give w = 1.

    Args:
        surface_weight: w₀, at least 0; 0 is Dice-CE.
        width_voxels: σ, positive, in the shortest edge of a voxel.
        batch_dice: Sum over the batch before dividing, as nnU-Net's plans say.
        smooth: As in `soft_dice`.
        labels: How the targets are written.

    Source:
        Ronneberger et al. 2015, U-Net, doi:10.1007/978-3-319-24574-4_28, equation 2, for one object: the paper's
        w₀ = 10 and σ = 5; docs/design.md, "The other losses".
    """

    def __init__(
        self,
        *,
        surface_weight: float = 10.0,
        width_voxels: float = 5.0,
        batch_dice: bool = False,
        smooth: float = 1e-5,
        labels: LabelScheme | None = None,
    ) -> None:
        super().__init__(labels)
        self.surface_weight = surface_weight
        self.width_voxels = width_voxels
        self.batch_dice = batch_dice
        self.smooth = smooth

    def forward(
        self, logits: torch.Tensor, target: torch.Tensor, uncertainty: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Compute the loss of a batch, as `VoxelLoss` says; uncertainty plays no part.

        Args:
            logits: (B, C, …).
            target: As `BoundaryLoss` takes it.
            uncertainty: Not used.
        """
        del uncertainty
        own = self.labels.target_channels(logits.shape[1])
        batch = Batch.of(logits, target[:, :own], self.labels)
        dice = soft_dice(batch.probability, batch.truth, batch.valid, batch_dice=self.batch_dice, smooth=self.smooth)
        loss, entropy = (1 - dice).mean(), batch.entropy()
        if target.shape[1] == own:
            return loss + batch.mean(entropy).mean()
        weight = self._weight(target[:, own:].to(entropy.dtype))
        return loss + (batch.mean(weight * entropy) / batch.mean(weight).clamp_min(1e-12)).mean()

    def _weight(self, distance: torch.Tensor) -> torch.Tensor:
        """Return w of signed distances (B, F, …); 0 is not a distance, for the surface runs between voxels."""
        near = torch.exp(distance**2 * (-0.5 / self.width_voxels**2)).masked_fill(distance == 0, 0)
        if not self.labels.regions:
            near = near.amax(1, keepdim=True)
        return 1 + self.surface_weight * near
