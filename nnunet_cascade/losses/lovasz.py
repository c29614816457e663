"""The Lovász extension of the Jaccard loss, its errors weighted by uncertainty."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from nnunet_cascade.losses.targets import Batch, LabelScheme, VoxelLoss

_PLACE_BITS = 31


class UncertaintyLovaszLoss(VoxelLoss):
    """The mean over the foreground classes of the Lovász extension of the Jaccard loss.

    The error |y − p| of each voxel is weighted by 1 + U/τ. Without uncertainty
    (U ≡ 0) it is Berman's loss; on hard predictions that is the Jaccard loss,
    1 − |Y ∩ P| / |Y ∪ P|. The voxels of the whole batch are sorted together, so
    that crops without a tumor teach too. Where a class is absent from the whole batch that
    is the largest error, of a single voxel; the cross-entropy is added there.

    Args:
        uncertainty_scale: τ, positive.
        entropy_without_tumor: Add the cross-entropy of batches without tumor.
        labels: How the targets are written.

    Source:
        Berman et al. 2018, The Lovász-Softmax loss, doi:10.1109/CVPR.2018.00464, equations 5 to 9;
        docs/decisions/0006-other-losses.md.
    """

    def __init__(
        self, *, uncertainty_scale: float = 0.25, entropy_without_tumor: bool = True, labels: LabelScheme | None = None
    ) -> None:
        super().__init__(labels)
        self.uncertainty_scale = uncertainty_scale
        self.entropy_without_tumor = entropy_without_tumor

    def weight(self, variance: torch.Tensor) -> torch.Tensor:
        """Return the weight of an error where the variance is U."""
        return 1 + variance / self.uncertainty_scale

    def forward(
        self, logits: torch.Tensor, target: torch.Tensor, uncertainty: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Compute the loss of a batch, as `VoxelLoss` says."""
        batch = Batch.of(logits, target, self.labels)
        errors = (batch.truth - batch.probability).abs()
        if uncertainty is not None:
            errors = errors * self.weight(self.foreground_variance(uncertainty, errors.dtype))
        errors, truth = batch.weighted(errors), batch.weighted(batch.truth).bool()
        pairs = zip(errors.unbind(1), truth.unbind(1), strict=True)
        loss = torch.stack([lovasz_jaccard(error.flatten(), true.flatten()) for error, true in pairs]).mean()
        if not self.entropy_without_tumor:
            return loss
        absent = batch.without_tumor().all(0, keepdim=True)
        return loss + batch.mean(absent * batch.entropy()).mean()


def lovasz_jaccard(errors: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return the Lovász extension of the Jaccard loss.

    Args:
        errors: (N,), at least 0.
        truth: (N,), True in the class.

    Returns:
        A scalar, differentiable in `errors`; 0 for no voxel.
    """
    # The extension is linear as long as the order of the errors stays: the slopes are its gradient.
    return (errors * _slopes(errors.detach(), truth)).sum()


def _slopes(errors: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return how much the Jaccard loss grows when, the worst error first, a voxel is wrong as well."""
    if errors.numel() == 0:
        return errors
    order, truth = _descending(errors, truth)
    found = truth.cumsum(0, dtype=torch.int32)
    missing = (found[-1] - found).to(errors.dtype)
    union = missing + torch.arange(1, len(order) + 1, dtype=torch.int32, device=errors.device)
    # A voxel of the class takes 1 from the intersection; any other adds 1 to the union.
    steps = torch.where(truth, 1, missing / (union - 1)) / union
    steps[0] = 1 / union[0]
    return torch.empty_like(errors).scatter_(0, order, steps)


def _descending(errors: torch.Tensor, truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the places of errors from the largest to the smallest, and what is true there."""
    if errors.device.type == "cpu" and errors.dtype == torch.float32 and errors.numel() < 1 << _PLACE_BITS:
        keys = _sorted_keys(errors.numpy(), truth.numpy())
        places = ((keys >> np.uint64(1)) & np.uint64((1 << _PLACE_BITS) - 1)).astype(np.int64)
        return torch.from_numpy(places), torch.from_numpy((keys & np.uint64(1)).astype(np.bool_))
    order = torch.argsort(errors, descending=True)
    return order, truth[order]


def _sorted_keys(errors: NDArray[np.float32], truth: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Sort error, place and truth as one whole number each: NumPy sorts numbers several times faster than places.

    The bits of floats of at least 0 sort as the floats do; they are turned round to begin with the largest.
    """
    keys = (~np.ascontiguousarray(errors).view(np.uint32)).astype(np.uint64)
    keys <<= np.uint64(_PLACE_BITS)
    keys |= np.arange(errors.size, dtype=np.uint64)
    keys <<= np.uint64(1)
    keys |= truth
    keys.sort()
    return keys
