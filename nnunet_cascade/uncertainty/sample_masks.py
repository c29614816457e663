"""Which voxels each sample calls tumor: one bit a sample and voxel, so that volumes can be counted afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

_BITS = 8


@dataclass(frozen=True, slots=True)
class Decision:
    """When a sample calls a voxel tumor.

    Attributes:
        channel: Of the tumor.
        threshold: From this probability on.
    """

    channel: int
    threshold: float


@dataclass(frozen=True, slots=True)
class PackedSampleMasks:
    """The samples' masks.

    Attributes:
        planes: (M, P, Z, Y, X), uint8: bit b of plane p of member m is sample 8·p + b of that member.
        samples_per_member: Samples of each member; further bits are 0.
        windows: Windows that the samples were put together from. Where there are
            several, a voxel has the votes of the window that weighs most there.
    """

    planes: torch.Tensor
    samples_per_member: int
    windows: int


class SampleMaskAccumulator:
    """The votes on one window, sample by sample."""

    def __init__(self, decision: Decision) -> None:
        self._decision = decision
        self._planes: list[torch.Tensor] = []
        self._count = 0

    def add(self, probability: torch.Tensor) -> None:
        """Take in one sample (1, C, Z, Y, X); it is not kept."""
        bit = self._count % _BITS
        is_tumor = (probability[0, self._decision.channel] >= self._decision.threshold).to(torch.uint8)
        if bit == 0:
            self._planes.append(is_tumor)
        else:
            self._planes[-1] |= is_tumor << bit
        self._count += 1

    def planes(self) -> torch.Tensor:
        """Return the votes (P, Z, Y, X); at least one sample is needed."""
        return torch.stack(self._planes)


class BlendedSampleMasks:
    """The votes on an image, window by window: each voxel keeps those of the window that weighs most there.

    Counts of windows that overlap could not be added; a field has every voxel once.

    Args:
        samples: Of each window; a plane holds 8.
        shape: Of the image.
        device: Where to keep them.
    """

    def __init__(self, samples: int, shape: Sequence[int], device: torch.device) -> None:
        self.planes = torch.zeros((-(-samples // _BITS), *shape), dtype=torch.uint8, device=device)
        self._weight = torch.zeros(tuple(shape), dtype=torch.float32, device=device)

    def take(self, planes: torch.Tensor, place: tuple[slice, ...], weights: torch.Tensor) -> None:
        """Take in the votes (P, …) on the window at `place`.

        Args:
            planes: The votes.
            place: Of the window.
            weights: (…), positive; where windows weigh the same, the first one's votes stand.
        """
        here, before = (slice(None), *place), self._weight[place]
        self.planes[here] = torch.where(weights > before, planes.to(self.planes.device), self.planes[here])
        self._weight[place] = torch.maximum(before, weights)
