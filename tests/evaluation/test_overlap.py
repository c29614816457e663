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


def test_different_shapes_and_what_is_no_boolean_volume_are_refused():
    three, two = np.ones((1, 1, 3), dtype=bool), np.ones((1, 1, 2), dtype=bool)
    with pytest.raises(GridMismatchError, match="resample"):
        dice(three, two)
    for mask in (two.astype(np.int16), two[0]):
        with pytest.raises(SettingsError, match="boolean mask"):
            dice(mask, mask)


@given(mask_pairs())
def test_dice_does_not_ask_which_is_the_truth_lies_between_0_and_1_and_is_1_only_for_equal_masks(pair):
    value = dice(*pair)
    assert value == pytest.approx(dice(*reversed(pair)), nan_ok=True)
    if not math.isnan(value):
        assert 0 <= value <= 1
        assert (value == 1) == np.array_equal(*pair)
