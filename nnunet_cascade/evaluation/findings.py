"""What a system finds in one scan: findings with a score each, and the lesions that they touch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation.disjoint_boxes import MaskPart, separate_parts
from nnunet_cascade.geometry import Box, Image, Labels, Mask, as_index
from nnunet_cascade.morphology import component_sizes, label_components

THRESHOLDS = (0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01)
"""Of a probability, the largest first, for `lowest_threshold`."""
MOST_FALSE_POSITIVES = 8.0
"""The largest number of false positives per scan at which a FROC is read."""

Scores = NDArray[np.float64]
"""(n,), finite; only their order counts."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoredFindings:
    """The findings of one scan, n of them, in no order that means anything.

    Attributes:
        scores: (n,), finite; a larger one is surer. n may be 0.
        touches: (m, 2), whole numbers: pairs of a finding and a lesion that share a voxel, both counted from 0.
            A finding without a pair is a false positive. m may be 0.
        lesions: Number of lesions; may be 0.

    Raises:
        SettingsError: A score is not finite, or a pair names a finding or a lesion that does not exist.
    """

    scores: Scores
    touches: NDArray[np.int64]
    lesions: int

    def __post_init__(self) -> None:
        if self.scores.ndim != 1 or not np.isfinite(self.scores).all():
            raise SettingsError(f"found scores {self.scores}; expected one finite number per finding")
        limits = (self.scores.size, self.lesions)
        if self.touches.ndim != 2 or self.touches.shape[1] != 2:
            raise SettingsError(f"found pairs of shape {self.touches.shape}; expected (m, 2): finding and lesion")
        if (self.touches < 0).any() or (self.touches >= limits).any():
            raise SettingsError(
                f"a pair names a finding or a lesion that does not exist; expected findings below {limits[0]} and "
                f"lesions below {limits[1]}"
            )

    @property
    def lesion_scores(self) -> Scores:
        """(lesions,), the largest score of the findings that touch each lesion; −∞ if none does."""
        scores = np.full(self.lesions, -np.inf)
        findings, lesions = self.touches.T
        np.maximum.at(scores, lesions, self.scores[findings])
        return scores

    @property
    def false_positive_scores(self) -> Scores:
        """Scores of the findings that touch no lesion."""
        return np.delete(self.scores, np.unique(self.touches[:, 0]))


def findings_of(labels: Labels, scores_by_id: Mapping[int, float], truth: Mask) -> ScoredFindings:
    """Return the findings of a map of proposals.

    A finding is a 26-connected component of what the proposals mark, whichever candidates
    it is of; its score is the largest of theirs. A finding and a lesion touch if they share a voxel.

    Args:
        labels: (Z, Y, X), the id of the candidate that each voxel was drawn for; 0 elsewhere. May be empty.
        scores_by_id: The score of each of these candidates; others may be there too.
        truth: (Z, Y, X), same grid; each 26-connected component is a lesion. May be empty.

    Raises:
        SettingsError: A candidate in the map has no score, or the truth is not a boolean volume.
        GridMismatchError: The shapes differ.
    """

    def score(part: MaskPart, numbers: Labels) -> Scores:
        ids = labels[_box_of(part).slices][part.prediction]
        findings, candidates = _distinct_pairs(numbers[part.prediction], ids)
        unknown = sorted(set(candidates.tolist()).difference(scores_by_id))
        if unknown:
            raise SettingsError(f"candidate {unknown[0]} has no score; expected one for each candidate in the map")
        scores = np.full(int(numbers.max()), -np.inf)
        np.maximum.at(scores, findings - 1, np.array([scores_by_id[each] for each in candidates.tolist()]))
        return scores

    return _collect(separate_parts(truth, labels > 0), score)


def findings_of_probability(probability: Image, threshold: float, truth: Mask) -> ScoredFindings:
    """Return the findings of a network without a score of its own, such as a plain nnU-Net.

    A finding is a 26-connected component of the voxels whose probability is at least the
    threshold; its score is the mean probability in it.

    Args:
        probability: (Z, Y, X), from 0 to 1.
        threshold: Above 0, at most 1.
        truth: (Z, Y, X), same grid; each 26-connected component is a lesion. May be empty.

    Raises:
        SettingsError: The threshold is out of range, or the truth is not a boolean volume.
        GridMismatchError: The shapes differ.
    """
    if not 0 < threshold <= 1:
        raise SettingsError(f"threshold {threshold}; expected a probability above 0 and at most 1")

    def score(part: MaskPart, numbers: Labels) -> Scores:
        # In float64 sums of a million float32 from 2⁻¹⁰ to 1 are exact: flipped arrays have the same scores.
        inside = probability[_box_of(part).slices][part.prediction].astype(np.float32)
        sums = np.bincount(numbers[part.prediction], weights=inside)[1:]
        return sums / component_sizes(numbers)[0]

    return _collect(separate_parts(truth, probability >= threshold), score)


def lowest_threshold(scans: Iterable[tuple[Image, Mask]], grid: Sequence[float] = THRESHOLDS) -> float:
    """Choose a threshold for `findings_of_probability` that lets a FROC reach 8 false positives per scan.

    Args:
        scans: Probability and truth of each, both (Z, Y, X); one at a time is in memory if it is a generator.
        grid: Thresholds, the largest first, at least one.

    Returns:
        The largest threshold at which all scans together have at least 8 false positives per scan; the last of
        the grid if there is none.

    Raises:
        SettingsError: There is no scan or no threshold, or as `findings_of_probability`.
        GridMismatchError: As `findings_of_probability`.
    """
    counts = [
        [findings_of_probability(probability, each, truth).false_positive_scores.size for each in grid]
        for probability, truth in scans
    ]
    if not counts or not grid:
        raise SettingsError(f"found {len(counts)} scans and {len(grid)} thresholds; expected at least one of each")
    enough = np.array(counts).mean(axis=0) >= MOST_FALSE_POSITIVES
    return grid[int(enough.argmax())] if enough.any() else grid[-1]


def _collect(parts: Iterable[MaskPart], score: Callable[[MaskPart, Labels], Scores]) -> ScoredFindings:
    """Number findings and lesions over all parts; `score` takes a part and the numbers of its findings, from 1 up."""
    scores, touches = [np.zeros(0)], [np.zeros((0, 2), dtype=np.int64)]
    findings = lesions = 0
    for part in parts:
        of_truth, of_prediction = label_components(part.truth), label_components(part.prediction)
        shared = part.truth & part.prediction
        found, of_lesion = _distinct_pairs(of_prediction[shared], of_truth[shared])
        touches.append(np.stack([found + findings - 1, of_lesion + lesions - 1], axis=1))
        count = int(of_prediction.max())
        scores.append(score(part, of_prediction) if count else np.zeros(0))
        findings, lesions = findings + count, lesions + int(of_truth.max())
    return ScoredFindings(scores=np.concatenate(scores), touches=np.concatenate(touches), lesions=lesions)


def _distinct_pairs(first: Labels, second: Labels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs of two arrays (n,) of whole numbers from 0 up, each once; none for n = 0."""
    step = int(second.max(initial=0)) + 1
    pairs = np.unique(first.astype(np.int64) * step + second.astype(np.int64))
    return pairs // step, pairs % step


def _box_of(part: MaskPart) -> Box:
    stop = (low + size for low, size in zip(part.start, part.truth.shape, strict=True))
    return Box(part.start, as_index(stop))
