"""What our predictors share of nnU-Net's sliding window."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from nnunetv2.inference.sliding_window_prediction import compute_gaussian


def window_weights(patch: Sequence[int], device: torch.device) -> torch.Tensor:
    """Return nnU-Net's Gaussian weights of a window, in float32."""
    size = tuple(int(length) for length in patch)
    weights: torch.Tensor = compute_gaussian(size, sigma_scale=1 / 8, value_scaling_factor=10, device=device)
    return weights.float()


def unpadded(padded: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Take back what nnU-Net pads images with that are smaller than the patch, the odd voxel at the end.

    Args:
        padded: (…, Z, Y, X).
        shape: Of the image, (Z, Y, X).
    """
    starts = [(there - here) // 2 for there, here in zip(padded.shape[-len(shape) :], shape, strict=True)]
    inside = (slice(start, start + here) for start, here in zip(starts, shape, strict=True))
    return padded[(..., *inside)]
