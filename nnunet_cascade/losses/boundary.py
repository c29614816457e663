"""Dice and the boundary loss: probability weighted by the signed distance to the true surface."""

from __future__ import annotations

from typing import Any

import torch

from nnunet_cascade.losses.targets import Batch, DistanceTargetLoss


class BoundaryLoss(DistanceTargetLoss):
    """L = (1 − Dice) + λ·mean(φ·p) + mean(e·CE), φ the signed distance to the true surface.

    φ is negative inside and positive outside, so that probability far from the tumor
    costs most, and probability inside pays. Targets without it leave the other terms. A sample without
    tumor has no surface; e is 1 there and 0 elsewhere.

    Args:
        boundary_weight: λ.
        named: As of `DiceTermLoss`.

    Source:
        Kervadec et al. 2019, Boundary loss for highly unbalanced segmentation,
        doi:10.1016/j.media.2020.101851, equation 5; docs/decisions/0006-other-losses.md.
    """

    def __init__(self, *, boundary_weight: float = 0.01, **named: Any) -> None:
        super().__init__(**named)
        self.boundary_weight = boundary_weight

    def surface_term(self, batch: Batch, distance: torch.Tensor | None) -> torch.Tensor | float:
        """Return λ·mean(φ·p), 0 without distances, and the cross-entropy of samples without tumor."""
        terms: list[torch.Tensor] = []
        if distance is not None:
            terms.append(self.boundary_weight * batch.mean(distance * batch.probability).mean())
        if self.entropy_without_tumor:
            terms.append(batch.mean(batch.without_tumor() * batch.entropy()).mean())
        return sum(terms, start=0.0)
