"""The distance to the true surface, made where targets are made: in the workers that augment, not in the step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import SegOnlyTransform
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, find_objects

from nnunet_cascade.losses.targets import LabelScheme


class SignedDistanceTransform(SegOnlyTransform):
    """Append the signed distance to the true surface to the finest target, one channel per foreground channel.

    It stands last among nnU-Net's training transforms: behind the regions and the
    targets of coarser resolutions, which are left as they are. Ignored voxels lie outside
    of everything.

    Args:
        labels: How the targets are written.
        foreground_channels: Number of regions, or of classes of a softmax without the background.
        spacing: Voxel size along the axes of the patch, in any unit; None is the same along all.
    """

    def __init__(
        self, labels: LabelScheme, foreground_channels: int, *, spacing: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        self.labels = labels
        self.foreground_channels = foreground_channels
        self.spacing = spacing

    def _apply_to_segmentation(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, segmentation: torch.Tensor | list[torch.Tensor], **params: Any
    ) -> torch.Tensor | list[torch.Tensor]:
        del params
        if isinstance(segmentation, torch.Tensor):
            return self._append(segmentation)
        return [self._append(segmentation[0]), *segmentation[1:]]

    def _append(self, target: torch.Tensor) -> torch.Tensor:
        """Return a target (C, …) with distances behind its own channels, in float32."""
        if self.labels.regions:
            masks = [target[channel] > 0 for channel in range(self.foreground_channels)]
        else:
            masks = [target[0] == label for label in range(1, self.foreground_channels + 1)]
        distances = [torch.from_numpy(signed_distance(mask.numpy(), spacing=self.spacing)) for mask in masks]
        return torch.cat((target.float(), torch.stack(distances)))


def signed_distance(mask: NDArray[np.bool_], *, spacing: Sequence[float] | None = None) -> NDArray[np.float32]:
    """Measure how far each voxel lies from the surface of a mask, in its shortest edges, negative inside.

    It is the distance to the nearest voxel of the other kind, center to center, less half the shortest
    edge: the surface runs halfway between cubic voxels, and those next to it lie at ±0.5. What
    lies beyond the edge of the array is unknown and has no surface.

    Args:
        mask: (Z, Y, X) or (Y, X).
        spacing: Voxel size along its axes, in any unit; None is the same along all.

    Returns:
        Of the mask's shape; 0 everywhere if the mask is empty or full.
    """
    if not mask.any() or mask.all():
        return np.zeros(mask.shape, np.float32)
    edges = np.ones(mask.ndim) if spacing is None else np.asarray(spacing) / min(spacing)
    distance = _distance(~mask, edges) - np.float32(0.5)
    # No voxel outside is nearer to one inside than the nearest one within one voxel around all that is inside.
    extent = find_objects(mask.view(np.uint8))[0]
    around = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in extent)
    depth = np.float32(0.5) - _distance(mask[around], edges)
    distance[around] = np.where(mask[around], depth, distance[around])
    return distance


def _distance(mask: NDArray[np.bool_], edges: NDArray[np.float64]) -> NDArray[np.float32]:
    return cast(NDArray[np.float64], distance_transform_edt(mask, sampling=edges)).astype(np.float32)
