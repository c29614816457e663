import math
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
    """Build a plain score with some values changed: `case_score(case="a", dice=0.5)`; empty="both" undefines it."""
    plain = CaseScore(
        case="plain",
        empty="none",
        dice=0.8,
        hd95_mm=5.0,
        hd95_pooled_mm=4.0,
        hd_mm=9.0,
        assd_mm=1.0,
        nsd_1mm=0.5,
        nsd_2mm=0.6,
        nsd_3mm=0.7,
        lesions=1,
        lesions_found=1,
        predicted_components=1,
        predicted_components_true=1,
        false_positive_components=0,
        false_positive_ml=0.0,
        reference_ml=10.0,
        predicted_ml=12.0,
        volume_error_ml=2.0,
        lesion_spread_mm=0.0,
        predicted_spread_mm=0.0,
    )
    measures = ("dice", "hd95_mm", "hd95_pooled_mm", "hd_mm", "assd_mm", "nsd_1mm", "nsd_2mm", "nsd_3mm")
    nothing = dict.fromkeys((*measures, "lesion_spread_mm", "predicted_spread_mm"), math.nan)
    counts = ("lesions", "lesions_found", "predicted_components", "predicted_components_true")
    volumes = ("reference_ml", "predicted_ml", "volume_error_ml")
    undefined = {**nothing, **dict.fromkeys(counts, 0), **dict.fromkeys(volumes, 0.0)}

    def build(**changes):
        return replace(plain, **(undefined | changes if changes.get("empty") == "both" else changes))

    return build
