"""What a label is made from: the regions of a structure set or a segmentation, drawn on a CT's grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nnunet_cascade.dataset_conversion.labels import Label
from nnunet_cascade.dataset_conversion.sources import Annotation, names_of_rois, names_of_segments
from nnunet_cascade.dicom.ct.geometry import Stack
from nnunet_cascade.dicom.rtstruct.rasterizing import rasterize
from nnunet_cascade.dicom.rtstruct.reading import StructureSet
from nnunet_cascade.dicom.seg.rasterizing import segment_on_stack
from nnunet_cascade.dicom.seg.reading import SegmentationFile
from nnunet_cascade.geometry import Mask


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnRegion:
    """A region, or several united, on the grid of a CT.

    Attributes:
        mask: (Z, Y, X).
        names: Of the regions it was made from; empty if there was none.
        outside: Contours, or voxels of a segment, that lie outside the CT.
        skipped_slices: Slices without it between slices with it.
        notes: What else was met, and how often: "contours", "twins", "slivers", "clipped",
            "between_slices", and contours of other kinds by their geometric type.
    """

    mask: Mask
    names: tuple[str, ...] = ()
    outside: int = 0
    skipped_slices: int = 0
    notes: Mapping[str, int] = field(default_factory=dict[str, int])


def drawn(annotation: Annotation, label: Label, stack: Stack) -> list[DrawnRegion]:
    """Draw each region that a label is made from; none if a label that may be missing is.

    Raises:
        DicomError: A region is missing, ambiguous, or cannot be drawn on this CT.
    """
    if isinstance(annotation, StructureSet):
        return _structures(annotation, label, stack)
    return _segments(annotation, label, stack)


def unite(regions: Sequence[DrawnRegion], stack: Stack) -> DrawnRegion:
    """Return regions as one; none gives an empty one."""
    if len(regions) == 1:
        return regions[0]
    mask = np.zeros(stack.grid.shape, dtype=np.bool_)
    notes: Counter[str] = Counter()
    for region in regions:
        mask |= region.mask
        notes.update(region.notes)
    return DrawnRegion(
        mask=mask,
        names=tuple(name for region in regions for name in region.names),
        outside=sum(region.outside for region in regions),
        skipped_slices=sum(region.skipped_slices for region in regions),
        notes=notes,
    )


def _structures(structure_set: StructureSet, label: Label, stack: Stack) -> list[DrawnRegion]:
    regions: list[DrawnRegion] = []
    for number in label.chosen(names_of_rois(structure_set)):
        contours = structure_set.contours(number)
        raster = rasterize(contours.closed, stack)
        met = {
            "twins": raster.twins,
            "slivers": raster.slivers,
            "clipped": raster.clipped,
            "between_slices": raster.between,
            **contours.ignored,
        }
        regions.append(
            DrawnRegion(
                mask=raster.mask,
                names=(structure_set.names[number],),
                outside=raster.outside,
                skipped_slices=raster.skipped_slices,
                notes={"contours": raster.contours, **{name: count for name, count in met.items() if count}},
            )
        )
    return regions


def _segments(file: SegmentationFile, label: Label, stack: Stack) -> list[DrawnRegion]:
    names = names_of_segments(file)
    regions: list[DrawnRegion] = []
    for number in label.chosen(names):
        raster = segment_on_stack(file, number, stack)
        regions.append(
            DrawnRegion(
                mask=raster.mask,
                names=names[number][:1],
                outside=raster.outside_voxels,
                skipped_slices=raster.skipped_slices,
            )
        )
    return regions
