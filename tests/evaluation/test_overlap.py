import math

import numpy as np
import pytest
from builders.evaluation_strategies import mask_pairs
from hypothesis import given

from nnunet_cascade.errors import GridMismatchError, SettingsError
from nnunet_cascade.evaluation.overlap import dice


@pytest.mark.parametrize(
    ("truth", "prediction", "expected"),
    [
        ("##.", "##.", 1.0),
        ("##.", ".##", 0.5),  # 2·1 / (2 + 2)
        ("##.", "#..", 2 / 3),  # 2·1 / (2 + 1)
        ("##.", "..#", 0.0),
        ("##.", "...", 0.0),
        ("...", "##.", 0.0),
        ("...", "...", math.nan),
    ],
)
def test_dice_is_twice_the_overlap_over_both_sizes(truth, prediction, expected, drawn_mask):
    assert dice(drawn_mask(truth), drawn_mask(prediction)) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("truth", "prediction", "error", "message"),
    [
        (np.ones((1, 1, 3), dtype=bool), np.ones((1, 1, 2), dtype=bool), GridMismatchError, "resample"),
        *[
            (a, a, SettingsError, "boolean mask")
            for a in (np.ones((1, 1, 2), dtype=np.int16), np.ones((1, 2), dtype=bool))
        ],
    ],
)
def test_different_shapes_and_what_is_no_boolean_volume_are_refused(truth, prediction, error, message):
    with pytest.raises(error, match=message):
        dice(truth, prediction)


@given(mask_pairs())
def test_dice_does_not_ask_which_is_the_truth(pair):
    assert dice(*pair) == pytest.approx(dice(*reversed(pair)), nan_ok=True)


@given(mask_pairs())
def test_dice_lies_between_0_and_1_and_is_1_only_for_equal_masks(pair):
    value = dice(*pair)
    if not math.isnan(value):
        assert 0 <= value <= 1
        assert (value == 1) == np.array_equal(*pair)
