"""Dice and cross-entropy that counts more near the true surface."""

from __future__ import annotations

from typing import Any

import torch

from nnunet_cascade.losses.targets import Batch, DistanceTargetLoss


class DistanceWeightedLoss(DistanceTargetLoss):
    """L = (1 − Dice) + mean(w·CE) / mean(w) with w = 1 + w₀·exp(−d²/(2σ²)), d the distance to the true surface.

    Targets carry the signed distances behind their own channels, as for `BoundaryLoss`;
    where a softmax has several foreground classes the nearest surface counts. Targets without
    them, and masks without a surface, give w = 1.

    Args:
        surface_weight: w₀, at least 0; 0 is Dice-CE.
        width_voxels: σ, positive, in the shortest edge of a voxel.
        named: As of `DiceTermLoss`.

    Source:
        Ronneberger et al. 2015, U-Net, doi:10.1007/978-3-319-24574-4_28, equation 2, for one object: the paper's
        w₀ = 10 and σ = 5; docs/decisions/0006-other-losses.md.
    """

    def __init__(self, *, surface_weight: float = 10.0, width_voxels: float = 5.0, **named: Any) -> None:
        super().__init__(**named)
        self.surface_weight = surface_weight
        self.width_voxels = width_voxels

    def surface_term(self, batch: Batch, distance: torch.Tensor | None) -> torch.Tensor | float:
        """Return the weighted cross-entropy; the mean cross-entropy without distances."""
        entropy = batch.entropy()
        if distance is None:
            return batch.mean(entropy).mean()
        weight = self._weight(distance)
        return (batch.mean(weight * entropy) / batch.mean(weight).clamp_min(1e-12)).mean()

    def _weight(self, distance: torch.Tensor) -> torch.Tensor:
        """Return w of signed distances (B, F, …); 0 is not a distance, for the surface runs between voxels."""
        near = torch.exp(distance**2 * (-0.5 / self.width_voxels**2)).masked_fill(distance == 0, 0)
        if not self.labels.regions:
            near = near.amax(1, keepdim=True)
        return 1 + self.surface_weight * near
