"""Which slices of a case are worth a look, their planes of every map, and the part of them worth drawing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnunet_cascade.errors import InputImageError
from nnunet_cascade.geometry import Box
from nnunet_cascade.report.figures.sources import FigureLayer, FigureSources


def choose_heights(sources: FigureSources) -> tuple[int, ...]:
    """Choose slices, counted from the feet up.

    The first choice is the slice with the most tumor, without a tumor that of the largest candidate, without one the
    true tumor's, without one the middle of the lungs, at last that of the scan. Further ones are those of the other
    lesions, of the candidates by size, then slices at equal distances across all of them.

    Returns:
        Ascending, each once, as many as are asked for unless there are not so many.

    Raises:
        InputImageError: A height that is asked for lies outside the scan.
    """
    asked = sources.request.slice_mm
    if asked:
        return tuple(sorted({_nearest(sources, height_mm) for height_mm in asked}))
    return tuple(sorted(islice(_distinct(_worth_a_look(sources)), sources.request.slices)))


def _distinct(heights: Iterator[int]) -> Iterator[int]:
    seen: set[int] = set()
    for height in heights:
        if height not in seen:
            seen.add(height)
            yield height


def _worth_a_look(sources: FigureSources) -> Iterator[int]:
    """Yield heights, the best first; nothing is read for those that nobody asks for."""
    found = False
    for height in chain(_of_tumor(sources), _of_candidates(sources)):
        found = True
        yield height
    if not found:
        yield _without_findings(sources)
    yield from _spread(sources)


def _nearest(sources: FigureSources, height_mm: float) -> int:
    heights_mm = np.array([sources.height_mm(height) for height in range(sources.shape[0])])
    off_mm = np.abs(heights_mm - height_mm)
    nearest = int(off_mm.argmin())
    if off_mm[nearest] > sources.spacing_mm[0]:
        low, high = heights_mm.min(), heights_mm.max()
        raise InputImageError(
            f"the slice at {height_mm:g} mm lies outside the scan of {sources.request.case}; expected {low:.1f} to "
            f"{high:.1f} mm"
        )
    return nearest


def _of_tumor(sources: FigureSources) -> Iterator[int]:
    """Yield the slice with the most tumor, then that of each lesion."""
    lesions = None if sources.record.lesions is None else sources.turned(sources.record.lesion_boxes)
    if lesions == () or not sources.map_path("").is_file():
        return
    span = _span(lesions or [Box.whole(sources.shape)])
    tumor = sources.map_layer("", span, what="tumor mask").planes
    if tumor is None or not tumor.any():
        return
    yield span[_fullest(tumor)]
    for box in lesions or ():
        rows, columns = box.slices[1:]
        part = tumor[box.start[0] - span[0] : box.stop[0] - span[0], rows, columns]
        if part.any():
            yield box.start[0] + _fullest(part)


def _of_candidates(sources: FigureSources) -> Iterator[int]:
    """Yield the fullest slice of each candidate, the largest first."""
    for candidate in sources.record.numbered_candidates:
        for box in sources.turned([candidate.box] if candidate.box else []):
            span = _span([box])
            labels = sources.map_layer("_candidates", span, what="map of candidates").planes
            there = None if labels is None else labels == candidate.id
            yield span[(len(span) - 1) // 2] if there is None or not there.any() else span[_fullest(there)]


def _without_findings(sources: FigureSources) -> int:
    """Return the slice with the most true tumor, else the one half way up the lungs, else that of the scan."""
    every = range(sources.shape[0])
    truth = sources.truth_layer(every).planes
    if truth is not None and truth.any():
        return _fullest(truth)
    lungs = sources.map_layer("_lungs", every, what="lung mask").planes
    if lungs is not None and lungs.any():
        filled = np.flatnonzero(lungs.any(axis=(1, 2)))
        return int(filled[0] + filled[-1]) // 2
    return (sources.shape[0] - 1) // 2


def _spread(sources: FigureSources) -> Iterator[int]:
    """Yield slices at equal distances across what was found, or across all without findings; not the outermost ones."""
    record = sources.record
    found = record.lesion_boxes or tuple(each.box for each in record.numbered_candidates if each.box)
    span = _span(sources.turned(found) or [Box.whole(sources.shape)])
    wanted = sources.request.slices
    yield from (span[int(place)] for place in np.linspace(0, len(span) - 1, wanted + 2)[1:-1].round())


def _span(boxes: Sequence[Box]) -> range:
    whole = reduce(Box.union, boxes)
    return range(whole.start[0], whole.stop[0])


def _fullest(mask: NDArray[np.bool_]) -> int:
    """Return the plane with the most voxels, of equal ones the middle one."""
    counts = np.count_nonzero(mask, axis=(1, 2))
    best = np.flatnonzero(counts == counts.max())
    return int(best[(len(best) - 1) // 2])


_BODY_ABOVE_HU = -300.0
_STEP_MM = 4.0  # as fine as an outline of the body needs to be
_LARGE = 0.2  # of the largest piece
_AROUND_LUNGS_MM = 30.0
_AROUND_MM = 6.0
_LEAST_LUNGS_MM = 120.0
_LEAST_SIDE_MM = 60.0
_SHAPE = (0.55, 1.4)
"""Least and largest height of a panel for its width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureRows:
    """Planes (slices, rows, columns) of one case at the same slices, from the feet up.

    Attributes:
        heights: Of the slices.
        heights_mm: Where they lie in the patient, up (S).
        ct: In Hounsfield units.
        truth: Mask; None where no truth is asked for.
        stage1: Mask.
        candidates: Labels.
        lungs: Mask or labels.
        tumor: Mask.
        uncertainty: The measure; missing with a reason where there is none.
        regions: Boxes of stage 2 as slices, rows and columns.
    """

    heights: tuple[int, ...]
    heights_mm: tuple[float, ...]
    ct: FigureLayer
    truth: FigureLayer | None
    stage1: FigureLayer
    candidates: FigureLayer
    lungs: FigureLayer
    tumor: FigureLayer
    uncertainty: FigureLayer
    regions: tuple[Box, ...]


def read_rows(sources: FigureSources, heights: tuple[int, ...]) -> FigureRows:
    """Read every map at some slices; what cannot be read says why."""
    unsampled = sources.request.record is not None and not sources.record.measure
    return FigureRows(
        heights=heights,
        heights_mm=tuple(sources.height_mm(height) for height in heights),
        ct=sources.ct_layer(heights),
        truth=None if sources.request.truth is None else sources.truth_layer(heights),
        stage1=sources.map_layer("_stage1", heights, what="mask of stage 1"),
        candidates=sources.map_layer("_candidates", heights, what="map of candidates"),
        lungs=sources.map_layer("_lungs", heights, what="lung mask"),
        tumor=sources.map_layer("", heights, what="final mask"),
        uncertainty=FigureLayer(None, "No uncertainty: predicted without samples.")
        if unsampled
        else sources.map_layer("_uncertainty", heights, what="uncertainty map"),
        regions=sources.turned(sources.record.region_boxes),
    )


@dataclass(frozen=True, slots=True)
class PanelExtent:
    """The part of a slice that is drawn, in mm from its first pixel's outer corner; it may reach beyond the slice."""

    left_mm: float
    right_mm: float
    top_mm: float
    bottom_mm: float

    @property
    def width_mm(self) -> float:
        """From left to right."""
        return self.right_mm - self.left_mm

    @property
    def height_mm(self) -> float:
        """From top to bottom."""
        return self.bottom_mm - self.top_mm

    def grown(self, more_mm: float) -> PanelExtent:
        """Return an extent with more on every side."""
        left_mm, top_mm = self.left_mm - more_mm, self.top_mm - more_mm
        return PanelExtent(left_mm, self.right_mm + more_mm, top_mm, self.bottom_mm + more_mm)

    def within(self, other: PanelExtent) -> PanelExtent:
        """Return what lies in both."""
        left_mm, right_mm = max(self.left_mm, other.left_mm), min(self.right_mm, other.right_mm)
        return PanelExtent(left_mm, right_mm, max(self.top_mm, other.top_mm), min(self.bottom_mm, other.bottom_mm))

    def and_also(self, other: PanelExtent) -> PanelExtent:
        """Return the smallest extent that holds both."""
        left_mm, right_mm = min(self.left_mm, other.left_mm), max(self.right_mm, other.right_mm)
        return PanelExtent(left_mm, right_mm, min(self.top_mm, other.top_mm), max(self.bottom_mm, other.bottom_mm))


def panel_extent(rows: FigureRows, spacing_mm: tuple[float, float], shape: tuple[int, int]) -> PanelExtent:
    """Choose the part to draw: the lungs and what is marked, with the wall around them; else the body; else all.

    Args:
        rows: All of a figure's; they share one crop.
        spacing_mm: Distance of rows and columns.
        shape: Number of rows and columns.
    """
    whole = _extent_of((0, shape[0]), (0, shape[1]), spacing_mm)
    body = _body(rows.ct.planes, spacing_mm)
    lungs = _extent(rows.lungs.planes, spacing_mm)
    marks = [rows.stage1, rows.candidates, rows.tumor, *([rows.truth] if rows.truth else [])]
    extents = [extent for layer in marks if (extent := _extent(layer.planes, spacing_mm)) is not None]
    for box in rows.regions:
        if any(box.start[0] <= height < box.stop[0] for height in rows.heights):
            (_, top, left), (_, bottom, right) = box.start, box.stop
            extents.append(_extent_of((top, bottom), (left, right), spacing_mm))
    if lungs is not None and lungs.width_mm >= _LEAST_LUNGS_MM:
        chest = lungs.grown(_AROUND_LUNGS_MM)
        extents.append(chest if body is None else chest.within(body.and_also(lungs)))
    else:
        extents.append(body or whole)
    return _well_shaped(reduce(PanelExtent.and_also, extents).grown(_AROUND_MM).within(whole))


def _well_shaped(extent: PanelExtent) -> PanelExtent:
    """Widen an extent about its middle where it would make too flat, too thin or too small a panel."""
    height, width = max(extent.height_mm, _LEAST_SIDE_MM), max(extent.width_mm, _LEAST_SIDE_MM)
    height, width = max(height, width * _SHAPE[0]), max(width, height / _SHAPE[1])
    x, y = (extent.left_mm + extent.right_mm) / 2, (extent.top_mm + extent.bottom_mm) / 2
    return PanelExtent(x - width / 2, x + width / 2, y - height / 2, y + height / 2)


def _extent(planes: NDArray[Any] | None, spacing_mm: tuple[float, float]) -> PanelExtent | None:
    """Return where any of the planes holds something."""
    if planes is None or not planes.any():
        return None
    there = (planes != 0).any(axis=0)
    rows, columns = (np.flatnonzero(there.any(axis=axis)).tolist() for axis in (1, 0))
    return _extent_of((rows[0], rows[-1] + 1), (columns[0], columns[-1] + 1), spacing_mm)


def _extent_of(rows: tuple[int, int], columns: tuple[int, int], spacing_mm: tuple[float, float]) -> PanelExtent:
    """Return the place of rows and columns, from the first up to, not including, the last."""
    (top, bottom), (left, right), (dy, dx) = rows, columns, spacing_mm
    return PanelExtent(left * dx, right * dx, top * dy, bottom * dy)


def _body(ct: NDArray[Any] | None, spacing_mm: tuple[float, float]) -> PanelExtent | None:
    """Return where the large pieces of tissue lie; the table is thin."""
    if ct is None:
        return None
    steps = [max(1, round(_STEP_MM / size)) for size in spacing_mm]
    tissue = (ct[:, :: steps[0], :: steps[1]] > _BODY_ABOVE_HU).any(axis=0)
    opened = np.asarray(ndimage.binary_opening(tissue))
    labels, count = ndimage.label(opened)  # pyright: ignore[reportGeneralTypeIssues] - a pair where no output is given
    if count == 0:
        return None
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    large = (sizes >= _LARGE * sizes.max())[labels]
    found = _extent(large[np.newaxis], (steps[0] * spacing_mm[0], steps[1] * spacing_mm[1]))
    return None if found is None else found.grown(_AROUND_MM)
