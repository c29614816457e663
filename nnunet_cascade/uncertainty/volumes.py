"""The spread of volumes over samples: of a case, of its regions and of its lesions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnunet_cascade.case_folders.record_parts import VolumeRecord
from nnunet_cascade.geometry import MM3_PER_ML, Box, Image, Labels, Mask, Spacing

DECIMALS = 4
_TOLERANCE_MM = 1e-6
_Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RegionSampleMasks:
    """What each sample calls tumor in one region, on the image's grid.

    Attributes:
        planes: (M, P, Z, Y, X), uint8: bit b of plane p of member m is sample 8·p + b of that member.
        samples_per_member: Samples of each member.
        windows: Windows of the network that each sample was put together from.
    """

    planes: NDArray[np.uint8]
    samples_per_member: int
    windows: int

    @property
    def total_samples(self) -> int:
        """Samples of all members."""
        return len(self.planes) * self.samples_per_member

    def any(self) -> Mask:
        """Mark the voxels (Z, Y, X) that some sample calls tumor."""
        return np.asarray(self.planes.any(axis=(0, 1)))

    def counts(self, chosen: Mask) -> _Counts:
        """Count the chosen voxels that each sample calls tumor, member by member (samples,)."""
        bits = np.unpackbits(self.planes[:, :, chosen], axis=1, bitorder="little")[:, : self.samples_per_member]
        return bits.sum(axis=2, dtype=np.int64).ravel()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """What the samples of a case gave.

    Attributes:
        uncertainty: (Z, Y, X), 0 outside the regions.
        regions: (Z, Y, X), label map of the regions.
        sample_masks: By region's id, with its box.
    """

    uncertainty: Image
    regions: Labels
    sample_masks: Mapping[int, tuple[Box, RegionSampleMasks]]


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSpread:
    """A volume over the samples. It says how much the samples differ, not where the truth lies.

    Attributes:
        samples: Their number.
        mean_ml: Mean over them.
        sd_ml: Population standard deviation.
        p5_ml: 5th percentile, linear between ranks.
        p95_ml: 95th percentile.
        windows: Most windows that a sample was put together from. With more than one,
            each draws dropout of its own, which makes the spread too narrow.

    Example:
        >>> nnc.VolumeSpread.of(np.array([100, 120, 140]), voxel_ml=0.01, windows=1).mean_ml
        1.2
    """

    samples: int
    mean_ml: float
    sd_ml: float
    p5_ml: float
    p95_ml: float
    windows: int

    @classmethod
    def of(cls, counts: _Counts, *, voxel_ml: float, windows: int) -> VolumeSpread:
        """Return the spread of voxel counts (samples,); there must be a sample."""
        volumes = counts * voxel_ml
        figures = (volumes.mean(), volumes.std(), *np.percentile(volumes, (5, 95)))
        mean_ml, sd_ml, p5_ml, p95_ml = (round(float(figure), DECIMALS) for figure in figures)
        return cls(samples=len(counts), mean_ml=mean_ml, sd_ml=sd_ml, p5_ml=p5_ml, p95_ml=p95_ml, windows=windows)

    def to_record(self) -> VolumeRecord:
        """Return what the record of a case holds of it."""
        return VolumeRecord(**asdict(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSpreads:
    """Volumes over the samples: of the case, of its regions and of its lesions, by their ids.

    Example:
        >>> spread = nnc.VolumeSpread.of(np.array([100, 120, 140]), voxel_ml=0.01, windows=1)
        >>> nnc.VolumeSpreads(case=spread, regions={1: spread}, lesions={1: spread}).case.samples
        3
    """

    case: VolumeSpread
    regions: Mapping[int, VolumeSpread]
    lesions: Mapping[int, VolumeSpread]


def volume_spreads(lesions: Labels, dropped: Mask, sampled: Sampled, spacing_mm: Spacing) -> VolumeSpreads | None:
    """Share the voxels that samples call tumor out among the lesions of the final mask.

    A voxel is the nearest lesion's of its region. Where regions overlap the first one
    counts, and sample t of the case is sample t of each region. What lies nearer to a
    dropped component than to any lesion is dropped as well; in a region without any
    component it counts for region and case alone.

    Args:
        lesions: (Z, Y, X), numbered from 1.
        dropped: (Z, Y, X), components that the final mask leaves out.
        sampled: What the samples gave.
        spacing_mm: Voxel size along (Z, Y, X).

    Returns:
        None if there are no regions.
    """
    if not sampled.sample_masks:
        return None
    last, voxel_ml = int(lesions.max(initial=0)), math.prod(spacing_mm) / MM3_PER_ML
    by_region: dict[int, _Counts] = {}
    by_lesion = np.zeros((last + 1, next(iter(sampled.sample_masks.values()))[1].total_samples), dtype=np.int64)
    for region, (box, sample_masks) in sampled.sample_masks.items():
        voted = sample_masks.any() & (sampled.regions[box.slices] == region)
        nearest = _nearest(lesions[box.slices], dropped[box.slices], voted, spacing_mm)
        by_region[region] = np.zeros(sample_masks.total_samples, dtype=np.int64)
        for number in np.unique(nearest[voted & (nearest >= 0)]).tolist():
            found = sample_masks.counts(voted & (nearest == number))
            by_lesion[number] += found
            by_region[region] += found
    windows = {region: sample_masks.windows for region, (_, sample_masks) in sampled.sample_masks.items()}

    def spread(counts: _Counts, most: int) -> VolumeSpread:
        return VolumeSpread.of(counts, voxel_ml=voxel_ml, windows=most)

    return VolumeSpreads(
        case=spread(by_lesion.sum(axis=0), max(windows.values())),
        regions={region: spread(counts, windows[region]) for region, counts in by_region.items()},
        lesions={number: spread(by_lesion[number], max(windows.values())) for number in range(1, last + 1)},
    )


def _nearest(lesions: Labels, dropped: Mask, voted: Mask, spacing_mm: Spacing) -> NDArray[np.int64]:
    """Return each voted voxel (Z, Y, X) its nearest lesion: −1 where a dropped component is nearer, 0 without any."""
    numbers = np.unique(lesions[lesions > 0])
    nearest = np.full(lesions.shape, numbers[0] if len(numbers) else 0, dtype=np.int64)
    if not voted.any() or (len(numbers) <= 1 and not dropped.any()):
        return nearest
    if not len(numbers):
        return np.full(lesions.shape, -1, dtype=np.int64)
    box = Box.around(voted | dropped | (lesions > 0))
    inside, near = lesions[box.slices], nearest[box.slices]
    found: Any = ndimage.distance_transform_edt(inside == 0, sampling=spacing_mm, return_indices=True)
    distances_mm, places = found
    near[:] = inside[tuple(places)]
    if dropped.any():
        to_dropped_mm = np.asarray(ndimage.distance_transform_edt(~dropped[box.slices], sampling=spacing_mm))
        near[to_dropped_mm < distances_mm - _TOLERANCE_MM] = -1
    return nearest
