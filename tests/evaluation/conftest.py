from dataclasses import replace

import numpy as np
import pytest

from nnunet_cascade.evaluation.case import CaseScore


@pytest.fixture
def box_mask():
    """Build a mask that is True in one box: `box_mask(shape, start, stop)`, all (Z, Y, X)."""

    def build(shape, start, stop):
        mask = np.zeros(shape, dtype=bool)
        mask[tuple(slice(low, high) for low, high in zip(start, stop, strict=True))] = True
        return mask

    return build


@pytest.fixture
def drawn_mask():
    """Build a one-slice mask from a drawing: `drawn_mask("##. ..#")`, one word per row."""

    def build(drawing):
        return np.array([[[mark == "#" for mark in row] for row in drawing.split()]])

    return build


@pytest.fixture
def case_score():
    """Build a plain score with some values changed: `case_score(case="a", dice=0.5)`."""
    plain = CaseScore(
        case="plain",
        empty="none",
        dice=0.8,
        hd95_mm=5.0,
        lesions=1,
        lesions_found=1,
        false_positive_components=0,
        false_positive_ml=0.0,
        reference_ml=10.0,
        predicted_ml=12.0,
    )

    def build(**changes):
        return replace(plain, **changes)

    return build
