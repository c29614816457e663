"""The L1-weighted Dice-focal loss: errors that are rare in a batch count more."""

from __future__ import annotations

from typing import Any

import torch

from nnunet_cascade.losses.targets import Batch, DiceTermLoss

_INTERVALS = 20
"""Widths of a bin from an error of 0 to one of 1."""


class L1DiceFocalLoss(DiceTermLoss):
    """L = (1 − weighted Dice) + mean((1 − pₜ)^γ·CE).

    A voxel's weight is N over the density of its error |p − y| among the N voxels of
    the batch, for each foreground channel of its own; no gradient flows through it. Density is
    the count in a bin over the bin's width. Bins are centered on multiples of their width, 0.05,
    so that the first and the last are half as wide. The Dice has squared terms in its denominator.

    Args:
        gamma: γ of the focal loss.
        named: As of `DiceTermLoss`.

    Source:
        Dzikunu et al. 2025, Adaptive voxel-weighted loss using L1 norms, doi:10.48550/arXiv.2502.02756;
        Lin et al. 2017, Focal loss, doi:10.1109/ICCV.2017.324; docs/decisions/0006-other-losses.md.
    """

    def __init__(self, *, gamma: float = 2.0, **named: Any) -> None:
        super().__init__(**named)
        self.gamma = gamma

    def forward(
        self, logits: torch.Tensor, target: torch.Tensor, uncertainty: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Compute the loss of a batch, as `VoxelLoss` says; uncertainty plays no part."""
        del uncertainty
        batch = Batch.of(logits, target, self.labels)
        entropy = batch.entropy()
        # The probability of the true class is exp(−CE): no logarithm is taken of a probability that rounds to 0.
        missed = -torch.expm1(-entropy)
        # Below γ = 1 the power has no slope at 0.
        focal = missed.clamp_min(1e-12) ** self.gamma * entropy
        return (1 - self._dice(batch)).mean() + batch.mean(focal).mean()

    def _dice(self, batch: Batch) -> torch.Tensor:
        probability, truth = batch.probability, batch.truth
        weight = self._weights((probability.detach() - truth).abs(), batch.valid)
        weighted = weight * probability
        return self.dice_of(weighted * truth, weighted * probability, weight * truth)

    def _weights(self, errors: torch.Tensor, valid: torch.Tensor | None) -> torch.Tensor:
        """Return N over the density of each voxel's error, channel by channel; 0 for ignored voxels."""
        # A byte for the bin of an error: counting is bound by memory. What is NaN lands in some bin.
        places = (errors * _INTERVALS + 0.5).to(torch.uint8).clamp_max_(_INTERVALS)
        if valid is not None:
            places = places.masked_fill_(valid == 0, _INTERVALS + 1)
        weights = [self._of_bins(channel, errors.dtype) for channel in places.unbind(1)]
        return torch.stack(weights, 1)

    def _of_bins(self, places: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Look up the weight of each bin; the bin behind the last one is that of ignored voxels."""
        counts = torch.bincount(places.flatten(), minlength=_INTERVALS + 2).to(dtype)
        counts[-1] = 0
        widths = torch.full_like(counts, 1 / _INTERVALS)
        widths[0] = widths[-2] = 0.5 / _INTERVALS
        weights = torch.where(counts > 0, counts.sum() * widths / counts.clamp_min(1), 0)
        return weights.index_select(0, places.flatten().int()).view(places.shape)
