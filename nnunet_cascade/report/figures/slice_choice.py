"""Which slices of a case are worth a look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.errors import InputImageError
from nnunet_cascade.geometry import Box
from nnunet_cascade.report.figures.sources import FigureSources

_LESION = "tumor mask"


def choose_heights(sources: FigureSources) -> tuple[int, ...]:
    """Choose slices, counted from the feet up.

    The first choice is the slice with the most tumor, without a tumor that of the largest
    candidate, without one the true tumor's, without one the middle of the lungs, at last
    that of the scan. Further ones are those of the other lesions, of the candidates by size,
    then slices at equal distances across all of them.

    Returns:
        Ascending, each once, as many as are asked for unless there are not so many.

    Raises:
        InputImageError: A height that is asked for lies outside the scan.
    """
    asked = sources.request.slice_mm
    if asked:
        return tuple(sorted({_nearest(sources, height_mm) for height_mm in asked}))
    worth = dict.fromkeys(islice(_distinct(_worth_a_look(sources)), sources.request.slices))
    return tuple(sorted(worth))


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
    lesions = None if sources.facts.lesions is None else sources.turned(sources.facts.lesions)
    if lesions == () or not sources.map_path("").is_file():
        return
    span = _span(lesions or [Box.whole(sources.shape)])
    tumor = sources.map_layer("", span, what=_LESION).planes
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
    for candidate in sources.facts.candidates:
        for box in sources.turned([candidate.box] if candidate.box else []):
            span = _span([box])
            labels = sources.map_layer("_candidates", span, what="map of candidates").planes
            there = None if labels is None else labels == candidate.id
            yield span[(len(span) - 1) // 2] if there is None or not there.any() else span[_fullest(there)]


def _without_findings(sources: FigureSources) -> int:
    """Return the truth's slice, else the middle of the lungs, else that of the scan."""
    for found in (_of_truth, _of_lungs):
        height = found(sources)
        if height is not None:
            return height
    return (sources.shape[0] - 1) // 2


def _of_truth(sources: FigureSources) -> int | None:
    """Return the slice with the most true tumor."""
    if sources.request.truth is None:
        return None
    truth = sources.truth_layer(range(sources.shape[0])).planes
    return _fullest(truth) if truth is not None and truth.any() else None


def _of_lungs(sources: FigureSources) -> int | None:
    """Return the slice half way up the lungs."""
    lungs = sources.map_layer("_lungs", range(sources.shape[0]), what="lung mask").planes
    if lungs is None or not lungs.any():
        return None
    filled = np.flatnonzero(lungs.any(axis=(1, 2)))
    return int(filled[0] + filled[-1]) // 2


def _spread(sources: FigureSources) -> Iterator[int]:
    """Yield slices at equal distances across what was found, or across all without findings; not the outermost ones."""
    facts = sources.facts
    found = facts.lesions or tuple(candidate.box for candidate in facts.candidates if candidate.box)
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
