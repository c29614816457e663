"""The adaptive loss: Dice where the network is sure, cross-entropy where it is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from nnunet_cascade.settings.training import AdaptiveVariant


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelScheme:
    """How targets are written.

    Attributes:
        regions: True for sigmoid outputs with one target channel per region, False
            for a softmax with one label map.
        ignore_label: The label that is not annotated, or None. With regions the
            last target channel marks the ignored voxels, as in nnU-Net.
    """

    regions: bool = False
    ignore_label: int | None = None


class AdaptiveLoss(nn.Module):
    """L = mean(α)·Dice_α + mean((1 − α)·CE) with α = exp(−U/τ).

    `voxel` weighs the sums inside the soft Dice with α, `scalar` takes the plain
    Dice and the mean of α, as the method's published code does. Without
    uncertainty (U ≡ 0) both are exactly the Dice loss, for U → ∞ both tend to
    cross-entropy.

    Args:
        variant: `voxel` or `scalar`.
        uncertainty_scale: τ, positive.
        batch_dice: Sum over the batch before dividing, as nnU-Net's plans say.
        smooth: Added to numerator and denominator of the Dice; it makes the Dice
            of an empty target and an empty prediction 1.
        labels: How the targets are written.

    Source:
        Isler et al., Uncertainty-Guided Coarse-to-Fine Tumor Segmentation,
        section III-D; docs/design.md, "The adaptive loss".
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
        super().__init__()
        self.variant: AdaptiveVariant = variant
        self.uncertainty_scale = uncertainty_scale
        self.batch_dice = batch_dice
        self.smooth = smooth
        self.labels = labels or LabelScheme()

    def forward(self, logits: torch.Tensor, target: torch.Tensor, uncertainty: torch.Tensor) -> torch.Tensor:
        """Compute the loss of a batch.

        Args:
            logits: (B, C, Z, Y, X), or (B, C, Y, X).
            target: (B, 1, Z, Y, X) labels, or with regions (B, C, …) of 0 and 1,
                followed by a channel of ignored voxels where there are any.
            uncertainty: (B, C, …), the population variance of each channel's
                probability over the stochastic passes; no gradient flows through it.

        Returns:
            A scalar in float32 (float64 for float64 logits). A batch in which all
            is ignored gives 0 with a zero gradient.
        """
        logits = logits if logits.dtype == torch.float64 else logits.float()
        variance = uncertainty.detach().to(logits.dtype)
        truth, valid = self._truth(logits, target)
        if self.labels.regions:
            probability, entropy = (
                torch.sigmoid(logits),
                binary_cross_entropy_with_logits(logits, truth, reduction="none"),
            )
            alpha, foreground = torch.exp(-variance / self.uncertainty_scale), slice(None)
        else:
            probability, entropy = torch.softmax(logits, 1), cross_entropy(logits, truth, reduction="none")[:, None]
            alpha = torch.exp(-variance.mean(1, keepdim=True) / self.uncertainty_scale)
            foreground = slice(1, None)
        mean_alpha = _mean_per_channel(alpha, valid)
        weight = alpha * valid if self.variant == "voxel" else valid.expand_as(alpha)
        overlap = self._dice(probability[:, foreground], truth[:, foreground], weight)
        if self.variant == "voxel":
            uncertain = _mean_per_channel((1 - alpha) * entropy, valid)
        else:
            uncertain = (1 - mean_alpha) * _mean_per_channel(entropy, valid)
        # One weight α for all classes of a softmax, one for each region.
        return (mean_alpha * (1 - overlap)).mean() + uncertain.mean()

    def _truth(self, logits: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Give the target as one-hot (B, C, …) and the mask of annotated voxels (B, 1, …), both as weights."""
        ignore, dtype = self.labels.ignore_label, logits.dtype
        if self.labels.regions:
            known = torch.ones_like(logits[:, :1]) if ignore is None else 1 - target[:, -1:].to(dtype)
            return target[:, : logits.shape[1]].to(dtype), known
        known = torch.ones_like(target, dtype=torch.bool) if ignore is None else target != ignore
        index = torch.where(known, target, torch.zeros_like(target)).long()
        return torch.zeros_like(logits).scatter_(1, index, 1), known.to(dtype)

    def _dice(self, probability: torch.Tensor, truth: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Give the weighted soft Dice of each channel (C,), averaged over the batch unless summed over it."""
        axes = (0, *range(2, probability.ndim)) if self.batch_dice else tuple(range(2, probability.ndim))
        intersection = (probability * truth * weight).sum(axes)
        total = (probability * weight).sum(axes) + (truth * weight).sum(axes)
        dice = (2 * intersection + self.smooth) / (total + self.smooth)
        return dice if self.batch_dice else dice.mean(0)


class DeepSupervisedLoss(nn.Module):
    """A weighted sum of one loss over the outputs of a deeply supervised network.

    Args:
        loss: Takes output, target and uncertainty of one resolution.
        weights: One per resolution, finest first; those of 0 are not computed.
    """

    def __init__(self, loss: AdaptiveLoss, weights: Sequence[float]) -> None:
        super().__init__()
        self.loss = loss
        self.weights = tuple(float(weight) for weight in weights)

    def forward(
        self,
        outputs: torch.Tensor | Sequence[torch.Tensor],
        targets: torch.Tensor | Sequence[torch.Tensor],
        uncertainties: Sequence[torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Compute the sum; without uncertainties they are 0, which leaves the Dice loss.

        A network without deep supervision may give its one output and target bare.
        """
        if isinstance(outputs, torch.Tensor) or isinstance(targets, torch.Tensor):
            outputs, targets = [torch.as_tensor(outputs)], [torch.as_tensor(targets)]
        known = uncertainties if uncertainties is not None else [torch.zeros_like(output) for output in outputs]
        parts = zip(self.weights, outputs, targets, known, strict=True)
        terms = [weight * self.loss(output, target, sure) for weight, output, target, sure in parts if weight > 0]
        return torch.stack(terms).sum()


def _mean_per_channel(values: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Average (B, C, …) over the annotated voxels of the batch; (C,), 0 where there are none."""
    axes = (0, *range(2, values.ndim))
    return (values * valid).sum(axes) / valid.sum(axes).clamp_min(1)
