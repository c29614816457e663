"""What every loss needs of a target: its classes one by one, and which voxels are annotated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from nnunet_cascade.errors import SettingsError

_SMOOTH = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelScheme:
    """How targets are written.

    Attributes:
        regions: True for sigmoid outputs with one target channel per region, False
            for a softmax with one label map.
        ignore_label: The label that is not annotated, above all others, or None. With
            regions the last target channel marks the ignored voxels, as in nnU-Net.
    """

    regions: bool = False
    ignore_label: int | None = None

    def target_channels(self, outputs: int) -> int:
        """Return how many channels the target of that many network outputs has."""
        return outputs + (self.ignore_label is not None) if self.regions else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Outputs and targets of one resolution, ready for arithmetic.

    The foreground channels F are all regions, or all classes of a softmax but the first.

    Attributes:
        logits: (B, F, …) of sigmoid outputs, or (B, C, …) of a softmax over more than two
            classes; float32 or float64.
        probability: (B, F, …).
        truth: (B, F, …), 0 and 1.
        classes: (B, …) of a softmax over more than two classes, else None.
        valid: (B, 1, …), 1 where a voxel is annotated, else 0; None if all are.
    """

    logits: torch.Tensor
    probability: torch.Tensor
    truth: torch.Tensor
    classes: torch.Tensor | None = None
    valid: torch.Tensor | None = None

    @classmethod
    def of(cls, logits: torch.Tensor, target: torch.Tensor, labels: LabelScheme) -> Batch:
        """Prepare outputs and targets.

        Args:
            logits: (B, C, Z, Y, X), or (B, C, Y, X); half precision is computed in float32.
            target: (B, 1, Z, Y, X) labels, or with regions (B, C, …) of 0 and 1,
                followed by a channel of ignored voxels where there are any.
            labels: How the target is written.
        """
        logits = logits if logits.dtype == torch.float64 else logits.float()
        valid = _valid(target, labels, logits.dtype)
        if labels.regions:
            truth = target[:, : logits.shape[1]].to(logits.dtype)
            return cls(logits=logits, probability=torch.sigmoid(logits), truth=truth, valid=valid)
        if logits.shape[1] == 2:
            # A softmax over two classes is the sigmoid of their difference, at half the arithmetic.
            margin = logits[:, 1:] - logits[:, :1]
            truth = (target == 1).to(logits.dtype)
            return cls(logits=margin, probability=torch.sigmoid(margin), truth=truth, valid=valid)
        foreground = torch.arange(1, logits.shape[1], device=target.device).view(1, -1, *[1] * (logits.ndim - 2))
        truth = (target == foreground).to(logits.dtype)
        classes = target[:, 0].long() if valid is None else torch.where(valid[:, 0] > 0, target[:, 0], 0).long()
        probability = torch.softmax(logits, 1)[:, 1:]
        return cls(logits=logits, probability=probability, truth=truth, classes=classes, valid=valid)

    def entropy(self) -> torch.Tensor:
        """Return the cross-entropy of each voxel: (B, 1, …) of a softmax, (B, F, …) of regions."""
        if self.classes is None:
            return binary_cross_entropy_with_logits(self.logits, self.truth, reduction="none")
        return cross_entropy(self.logits, self.classes, reduction="none")[:, None]

    def weighted(self, weight: torch.Tensor) -> torch.Tensor:
        """Return a weight of voxels as 0 if they are ignored."""
        return weight if self.valid is None else weight * self.valid

    def without_tumor(self) -> torch.Tensor:
        """Tell which samples have no annotated voxel of any class of a softmax, or of each region: (B, K, 1, …)."""
        truth = self.weighted(self.truth).flatten(2).amax(2) > 0
        occurs = truth if self.classes is None else truth.any(1, keepdim=True)
        return ~occurs.view(*occurs.shape, *[1] * (self.truth.ndim - 2))

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Average (B, K, …) over the annotated voxels of the batch; (K,), 0 if there are none."""
        axes = (0, *range(2, values.ndim))
        if self.valid is None:
            return values.mean(axes)
        return (values * self.valid).sum(axes) / self.valid.sum().clamp_min(1)


def _valid(target: torch.Tensor, labels: LabelScheme, dtype: torch.dtype) -> torch.Tensor | None:
    if labels.ignore_label is None:
        return None
    return 1 - target[:, -1:].to(dtype) if labels.regions else (target != labels.ignore_label).to(dtype)


class VoxelLoss(nn.Module):
    """A loss of one resolution.

    Args:
        labels: How the targets are written.
    """

    def __init__(self, labels: LabelScheme | None = None) -> None:
        super().__init__()
        self.labels = labels or LabelScheme()

    def forward(
        self, logits: torch.Tensor, target: torch.Tensor, uncertainty: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Compute the loss of a batch.

        Args:
            logits: (B, C, Z, Y, X), or (B, C, Y, X).
            target: As `Batch.of` takes it.
            uncertainty: (B, C, …), the population variance of each channel's probability over
                the stochastic passes; no gradient flows through it. None is 0 everywhere.

        Returns:
            A scalar in float32 (float64 for float64 logits). A batch in which all
            is ignored gives 0 with a zero gradient.
        """
        raise NotImplementedError

    def foreground_variance(self, uncertainty: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Return U of the foreground channels, without gradient; a softmax has one U for all classes."""
        variance = uncertainty.detach().to(dtype)
        return variance if self.labels.regions else variance.mean(1, keepdim=True)


class DiceTermLoss(VoxelLoss):
    """A loss with a Dice term. An empty target and an empty prediction have a Dice of 1.

    The Dice of a sample without tumor has next to no gradient, however large a false finding is; nor has that of a
    batch without any. A loss that is little but Dice adds the cross-entropy of such samples, unless it is told not to.

    Args:
        batch_dice: Sum over the batch before dividing, as nnU-Net's plans say.
        entropy_without_tumor: Add the cross-entropy of samples without tumor, where a loss has none of its own.
        labels: How the targets are written.

    Source:
        docs/decisions/0030-crops-without-tumor.md.
    """

    def __init__(
        self, *, batch_dice: bool = False, entropy_without_tumor: bool = True, labels: LabelScheme | None = None
    ) -> None:
        super().__init__(labels)
        self.batch_dice = batch_dice
        self.entropy_without_tumor = entropy_without_tumor

    def dice_of(self, overlap: torch.Tensor, predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
        """Sum (B, C, …) to the Dice of each channel (C,), averaged over the batch unless summed over it."""
        axes = (0, *range(2, overlap.ndim)) if self.batch_dice else tuple(range(2, overlap.ndim))
        dice = (2 * overlap.sum(axes) + _SMOOTH) / (predicted.sum(axes) + true.sum(axes) + _SMOOTH)
        return dice if self.batch_dice else dice.mean(0)

    def soft_dice(self, batch: Batch, weight: torch.Tensor | None) -> torch.Tensor:
        """Return the soft Dice of each channel (F,).

        Args:
            batch: Of one resolution.
            weight: (B, F, …) or (B, 1, …), 0 if a voxel does not count; None is 1 everywhere.
        """
        predicted, true = (values if weight is None else values * weight for values in (batch.probability, batch.truth))
        return self.dice_of(predicted * batch.truth, predicted, true)


class DistanceTargetLoss(DiceTermLoss):
    """1 − Dice and a term that depends on the signed distance to the true surface.

    The distance is made where targets are made: the target carries one channel of it for each
    foreground channel behind its own. Targets without it are those of validation and of
    coarser resolutions.
    """

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
        distance = None if target.shape[1] == own else target[:, own:].to(batch.probability.dtype)
        return (1 - self.soft_dice(batch, batch.valid)).mean() + self.surface_term(batch, distance)

    def surface_term(self, batch: Batch, distance: torch.Tensor | None) -> torch.Tensor | float:
        """Return what is added to 1 − Dice; `distance` is (B, F, …), or None if the target has none."""
        raise NotImplementedError


class DeepSupervisedLoss(nn.Module):
    """A weighted sum of one loss over the outputs of a deeply supervised network.

    Args:
        loss: Takes output, target and uncertainty of one resolution.
        weights: One per resolution, finest first; those of 0 are not computed.

    Raises:
        SettingsError: There is no weight, or all are 0.
    """

    def __init__(self, loss: VoxelLoss, weights: Sequence[float]) -> None:
        super().__init__()
        self.loss = loss
        self.weights = tuple(float(weight) for weight in weights)
        if not any(weight > 0 for weight in self.weights):
            raise SettingsError(f"weights {self.weights} of the resolutions; expected one above 0")

    def forward(
        self,
        outputs: torch.Tensor | Sequence[torch.Tensor],
        targets: torch.Tensor | Sequence[torch.Tensor],
        uncertainties: torch.Tensor | Sequence[torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Compute the sum; without uncertainties they are 0.

        A network without deep supervision may give its one output and what belongs to it bare.
        """
        outputs, targets = _listed(outputs), _listed(targets)
        known = [None] * len(outputs) if uncertainties is None else _listed(uncertainties)
        parts = zip(self.weights, outputs, targets, known, strict=True)
        terms = [weight * self.loss(output, target, sure) for weight, output, target, sure in parts if weight > 0]
        return torch.stack(terms).sum()


def _listed(tensors: torch.Tensor | Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
    return [tensors] if isinstance(tensors, torch.Tensor) else tensors
