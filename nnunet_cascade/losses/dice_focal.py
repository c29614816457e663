"""The L1-weighted Dice-focal loss: errors that are rare in a batch count more."""

from __future__ import annotations

import torch

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.losses.targets import Batch, LabelScheme, VoxelLoss


class L1DiceFocalLoss(VoxelLoss):
    """L = (1 − weighted Dice) + mean((1 − pₜ)^γ·CE).

    A voxel's weight is N over the density of its error |p − y| among the N voxels of
    the batch, for each foreground channel of its own; no gradient flows through it. Density is
    the count in a bin over the bin's width. Bins are centered on multiples of their width,
    so that the first and the last are half as wide. The Dice has squared terms in its denominator.

    Args:
        bin_width: Of the errors, 0.005 to 1; it divides 1.
        gamma: γ of the focal loss.
        batch_dice: Sum over the batch before dividing, as nnU-Net's plans say.
        smooth: Added to numerator and denominator of the Dice.
        labels: How the targets are written.

    Raises:
        SettingsError: `bin_width` is out of its range.

    Source:
        Dzikunu et al. 2025, Adaptive voxel-weighted loss using L1 norms, doi:10.48550/arXiv.2502.02756;
        Lin et al. 2017, Focal loss, doi:10.1109/ICCV.2017.324; docs/decisions/0006-other-losses.md.
    """

    def __init__(
        self,
        *,
        bin_width: float = 0.05,
        gamma: float = 2.0,
        batch_dice: bool = False,
        smooth: float = 1e-5,
        labels: LabelScheme | None = None,
    ) -> None:
        super().__init__(labels)
        if not 0.005 <= bin_width <= 1 or abs(1 / bin_width - round(1 / bin_width)) > 1e-6:
            raise SettingsError(f"bin_width must lie in 0.005…1 and divide 1, as 0.05 does; found {bin_width}")
        self.intervals = round(1 / bin_width)
        self.gamma = gamma
        self.batch_dice = batch_dice
        self.smooth = smooth

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
        axes = (0, *range(2, probability.ndim)) if self.batch_dice else tuple(range(2, probability.ndim))
        weighted = weight * probability
        intersection = (weighted * truth).sum(axes)
        squares = (weighted * probability).sum(axes) + (weight * truth).sum(axes)
        dice = (2 * intersection + self.smooth) / (squares + self.smooth)
        return dice if self.batch_dice else dice.mean(0)

    def _weights(self, errors: torch.Tensor, valid: torch.Tensor | None) -> torch.Tensor:
        """Return N over the density of each voxel's error, channel by channel; 0 for ignored voxels."""
        # A byte for the bin of an error: counting is bound by memory. What is NaN lands in some bin.
        places = (errors * self.intervals + 0.5).to(torch.uint8).clamp_max_(self.intervals)
        if valid is not None:
            places = places.masked_fill_(valid == 0, self.intervals + 1)
        weights = [self._of_bins(channel, errors.dtype) for channel in places.unbind(1)]
        return torch.stack(weights, 1)

    def _of_bins(self, places: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Look up the weight of each bin; the bin behind the last one is that of ignored voxels."""
        counts = torch.bincount(places.flatten(), minlength=self.intervals + 2).to(dtype)
        counts[-1] = 0
        widths = torch.full_like(counts, 1 / self.intervals)
        widths[0] = widths[-2] = 0.5 / self.intervals
        weights = torch.where(counts > 0, counts.sum() * widths / counts.clamp_min(1), 0)
        return weights.index_select(0, places.flatten().int()).view(places.shape)
