"""Where stage 2 is to look in training: boxes around candidates, missed tumors and true tumors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_cascade.geometry import Box, Labels
from nnunet_cascade.trainers.roi_manifest import RoiKind


@dataclass(frozen=True, slots=True)
class FoundBox:
    """A box around something in a patient's image, and why it stands there."""

    patient: str
    kind: RoiKind
    box: Box


def boxes_from_candidates(patient: str, candidates: Labels, truth: Labels) -> list[FoundBox]:
    """Return a box for each candidate, and one for each true tumor that no candidate meets.

    Args:
        patient: Name of the case.
        candidates: (Z, Y, X), ids of the candidates that passed the rules.
        truth: (Z, Y, X), ids of the true tumors.
    """
    boxes: list[FoundBox] = []
    for candidate in _ids(candidates):
        mask = candidates == candidate
        boxes.append(FoundBox(patient, "candidate" if truth[mask].any() else "false_positive", Box.around(mask)))
    for tumor in _ids(truth):
        mask = truth == tumor
        if not candidates[mask].any():
            boxes.append(FoundBox(patient, "missed", Box.around(mask)))
    return boxes


def boxes_from_truth(patient: str, truth: Labels) -> list[FoundBox]:
    """Return a box for each true tumor, as the method's published code does."""
    return [FoundBox(patient, "ground_truth", Box.around(truth == tumor)) for tumor in _ids(truth)]


def limit_false_positives(found: Sequence[FoundBox], *, share: float, seed: int) -> list[FoundBox]:
    """Keep that many false positives, drawn at random, that they are at most a share of all.

    Args:
        found: All boxes.
        share: At least 0 and below 1. With no other box, none is kept.
        seed: Of the draw.

    Returns:
        The kept boxes in their order.
    """
    wrong = [index for index, box in enumerate(found) if box.kind == "false_positive"]
    allowed = int(share / (1 - share) * (len(found) - len(wrong)) + 1e-9)
    drawn = np.random.default_rng(seed).permutation(len(wrong))[:allowed]
    kept = {wrong[index] for index in drawn.tolist()}
    return [box for index, box in enumerate(found) if box.kind != "false_positive" or index in kept]


def _ids(labels: Labels) -> list[int]:
    return [value for value in np.unique(labels).tolist() if value > 0]
