"""The lesions of a final mask and how sure the samples are of each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnunet_cascade.case_folders.record_parts import LesionRecord
from nnunet_cascade.geometry import MM3_PER_ML, Box, Labels, Mask, Spacing, as_index
from nnunet_cascade.morphology import component_boxes, label_components, surface
from nnunet_cascade.uncertainty.volumes import DECIMALS, Sampled, VolumeSpread

BOUNDARY_MM = 3.0
"""How far from a lesion's surface its boundary reaches, inwards and outwards."""
_TOLERANCE_MM = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesion:
    """A 26-connected component of the final mask.

    Attributes:
        id: 1 for the largest.
        voxels: Its size.
        volume_ml: Its size.
        box: Smallest block of the array that holds it.
        mean_uncertainty: Mean over its voxels; this and what follows is None without samples.
        boundary_uncertainty: Mean over the voxels within 3 mm of its surface, inside
            and outside of it, as far as stage 2 looked.
        max_uncertainty: Highest in it.
        volume: What the samples make of its volume.

    Example:
        >>> nnc.Lesion(id=1, voxels=8, volume_ml=0.216, box=nnc.Box((0, 0, 0), (2, 2, 2))).mean_uncertainty is None
        True
    """

    id: int
    voxels: int
    volume_ml: float
    box: Box
    mean_uncertainty: float | None = None
    boundary_uncertainty: float | None = None
    max_uncertainty: float | None = None
    volume: VolumeSpread | None = None

    def to_record(self) -> LesionRecord:
        """Return what the record of a case holds of it."""
        values: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        values["volume"] = None if self.volume is None else self.volume.to_record()
        return LesionRecord(**values)


def label_lesions(mask: Mask) -> NDArray[np.int32]:
    """Number the 26-connected components of a mask (Z, Y, X) by size, 1 for the largest; ties in array order."""
    labels = np.zeros(mask.shape, dtype=np.int32)
    if not mask.any():
        return labels
    box = Box.around(mask)
    found = label_components(mask[box.slices])
    sizes = np.bincount(found.ravel())
    ranks = np.zeros(len(sizes), dtype=np.int32)
    ranks[np.argsort(-sizes[1:], kind="stable") + 1] = np.arange(1, len(sizes))
    labels[box.slices] = ranks[found]
    return labels


def describe_lesions(
    labels: Labels,
    spacing_mm: Spacing,
    sampled: Sampled | None = None,
    volumes: Mapping[int, VolumeSpread] | None = None,
) -> tuple[Lesion, ...]:
    """Describe lesions one by one.

    Args:
        labels: (Z, Y, X), as `label_lesions` gives them.
        spacing_mm: Voxel size along (Z, Y, X).
        sampled: What the samples gave, or None without samples.
        volumes: What they make of each lesion's volume.

    Returns:
        The lesions in order of id; none if there is none.
    """
    voxel_ml = math.prod(spacing_mm) / MM3_PER_ML
    lesions: list[Lesion] = []
    for number, box in enumerate(component_boxes(labels), start=1):
        voxels = int(np.count_nonzero(labels[box.slices] == number))
        figures = {} if sampled is None else _figures(labels, number, box, sampled, spacing_mm)
        volume_ml, volume = round(voxels * voxel_ml, DECIMALS), None if volumes is None else volumes.get(number)
        lesions.append(Lesion(id=number, voxels=voxels, volume_ml=volume_ml, box=box, volume=volume, **figures))
    return tuple(lesions)


def _figures(labels: Labels, number: int, box: Box, sampled: Sampled, spacing_mm: Spacing) -> dict[str, float]:
    around = box.grown_mm(BOUNDARY_MM, spacing_mm).clipped(as_index(labels.shape))
    lesion, values = labels[around.slices] == number, sampled.uncertainty[around.slices]
    distances_mm = np.asarray(ndimage.distance_transform_edt(~surface(lesion), sampling=spacing_mm))
    boundary = (distances_mm <= BOUNDARY_MM + _TOLERANCE_MM) & (sampled.regions[around.slices] > 0)
    return {
        "mean_uncertainty": float(values[lesion].mean(dtype=np.float64)),
        "boundary_uncertainty": float(values[boundary].mean(dtype=np.float64)),
        "max_uncertainty": float(values[lesion].max()),
    }
