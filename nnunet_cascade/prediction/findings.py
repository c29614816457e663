"""What stage 2 found, candidate by candidate."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.geometry import Box, Grid, Image, Labels, Mask, as_index
from nnunet_cascade.morphology import component_boxes, grow, label_components
from nnunet_cascade.postprocessing.anatomy import FilteredCandidates
from nnunet_cascade.postprocessing.candidates import Candidate, Stage2Finding
from nnunet_cascade.prediction.refinement import Refinement
from nnunet_cascade.prediction.roi import Roi


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """The components of what stage 2 found, and which of them belong to which candidate.

    Attributes:
        box: Smallest block of the image that holds them all.
        components: Of the block, (Z, Y, X), 26-connected and numbered from 1; 0 elsewhere.
        boxes: Of each component, in the image.
        of_candidate: Numbers of the components that come near a candidate, by the candidate's id.
    """

    box: Box
    components: NDArray[np.uint32]
    boxes: Sequence[Box]
    of_candidate: Mapping[int, tuple[int, ...]]

    def drawn_for(self, candidate: int) -> tuple[Box, Mask] | None:
        """Return what belongs to a candidate: the smallest block of the image that holds it, and the mask there."""
        numbers = self.of_candidate.get(candidate, ())
        if not numbers:
            return None
        here = reduce(Box.union, (self.boxes[number - 1] for number in numbers))
        return here, np.isin(self.components[here.relative_to(self.box).slices], numbers)

    def without(self, found: Mask, candidates: Collection[int], kept: Collection[int]) -> Mask:
        """Return what was found, less what belongs to some candidates and to none that is kept."""
        staying = {number for each in kept for number in self.of_candidate.get(each, ())}
        going = {number for each in candidates for number in self.of_candidate.get(each, ())} - staying
        if not going:
            return found
        left = found.copy()
        left[self.box.slices] &= ~np.isin(self.components, sorted(going))
        return left

    def proposals(self, shape: tuple[int, int, int], ranked: Collection[int]) -> Labels:
        """Return a label map (Z, Y, X): each component has the id of the first candidate that it belongs to."""
        ids = np.zeros(int(self.components.max(initial=0)) + 1, dtype=np.uint16)
        for candidate in reversed(list(ranked)):
            ids[list(self.of_candidate.get(candidate, ()))] = candidate
        labels = np.zeros(shape, dtype=np.uint16)
        labels[self.box.slices] = ids[self.components]
        return labels


def find_components(found: Mask, filtered: FilteredCandidates, reach_mm: float, grid: Grid) -> Findings:
    """Part what stage 2 found into components, and tell which come within reach of which candidate it was asked about.

    Args:
        found: (Z, Y, X), what stage 2 calls tumor. Left unchanged.
        filtered: The candidates; those that are kept were asked about.
        reach_mm: A component belongs to a candidate if their surfaces are at most this far apart.
        grid: Of both.

    Returns:
        Without a component the block is one voxel, and nothing belongs to any candidate.
    """
    if not found.any():
        nothing = np.zeros((1, 1, 1), np.uint32)
        return Findings(box=Box((0, 0, 0), (1, 1, 1)), components=nothing, boxes=(), of_candidate={})
    box = Box.around(found)
    components, image = label_components(found[box.slices]), Box.whole(as_index(found.shape)).relative_to(box)
    boxes = [each.relative_to(image) for each in component_boxes(components)]
    of_candidate: dict[int, tuple[int, ...]] = {}
    for candidate in filtered.kept:
        around = candidate.box.grown_mm(reach_mm + max(grid.spacing_mm), grid.spacing_mm).clipped(as_index(found.shape))
        shared = around.intersection(box)
        if shared is None:
            continue
        near = grow(filtered.labels[around.slices] == candidate.id, reach_mm, grid.spacing_mm)
        met = components[shared.relative_to(box).slices][near[shared.relative_to(around).slices]]
        of_candidate[candidate.id] = tuple(number for number in np.unique(met).tolist() if number > 0)
    return Findings(box=box, components=components, boxes=boxes, of_candidate=of_candidate)


def measure_findings(
    filtered: FilteredCandidates, findings: Findings, refinement: Refinement, rois: tuple[Roi, ...], grid: Grid
) -> FilteredCandidates:
    """Return the candidates, each of those that stage 2 was asked about with what it drew."""
    regions = {candidate: roi for roi in reversed(rois) for candidate in (roi.candidate, *roi.merged)}
    measured = tuple(
        replace(each, stage2=_finding(each, filtered.labels, findings, (refinement, regions[each.id]), grid))
        if each.kept and each.id in regions
        else each
        for each in filtered.candidates
    )
    return replace(filtered, candidates=measured)


def _finding(
    candidate: Candidate, labels: Labels, findings: Findings, asked: tuple[Refinement, Roi], grid: Grid
) -> Stage2Finding:
    refinement, region = asked
    drawn = findings.drawn_for(candidate.id)
    if drawn is None:
        return Stage2Finding(volume_mm3=0.0, mean_probability=0.0, max_probability=0.0, overlap=0.0)
    box, mask = drawn
    here, voxels = box.slices, int(np.count_nonzero(mask))
    probability: Image = refinement.probability[here][mask]
    spread = None if refinement.uncertainty is None else refinement.uncertainty[here][mask]
    shared = int(np.count_nonzero(labels[here][mask] == candidate.id))
    return Stage2Finding(
        volume_mm3=voxels * grid.voxel_volume_mm3,
        mean_probability=float(probability.mean(dtype=np.float64)),
        max_probability=float(probability.max()),
        overlap=2 * shared / (voxels + candidate.voxels),
        mean_uncertainty=None if spread is None else float(spread.mean(dtype=np.float64)),
        agreement=_agreement(mask, box, refinement, region),
    )


def _agreement(mask: Mask, block: Box, refinement: Refinement, region: Roi) -> float | None:
    """Return the mean share of a mask that a sample calls tumor, inside the candidate's region."""
    if region.id not in refinement.sample_masks:
        return None
    box, samples = refinement.sample_masks[region.id]
    chosen = np.zeros(box.shape, dtype=np.bool_)
    shared = box.intersection(block)
    if shared is not None:
        chosen[shared.relative_to(box).slices] = mask[shared.relative_to(block).slices]
    voxels = int(np.count_nonzero(chosen))
    return float(samples.counts(chosen).mean()) / voxels if voxels else 0.0
