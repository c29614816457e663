"""Stage 1's mask is that of full interpolation, though most of the image is never looked at."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from nnunet_cascade.errors import BundleError
from nnunet_cascade.geometry import AxisTurn, Box
from nnunet_cascade.prediction.interpolation import Interpolation
from nnunet_cascade.prediction.preprocessing import Prepared
from nnunet_cascade.prediction.stage_model import StageModel

STORED = AxisTurn((0, 1, 2), (False, False, False))
TURNED = AxisTurn((2, 0, 1), (True, False, True))
GRIDS = [((9, 14, 11), (17, 40, 33)), ((40, 37, 5), (33, 90, 5)), ((7, 70, 8), (5, 71, 31)), ((1, 3, 4), (6, 1, 4))]


def smooth(rng, shape):
    """Logits with a few hills."""
    values = torch.from_numpy(rng.normal(size=(1, 1, *shape)).astype(np.float32))
    return torch.nn.functional.conv3d(values, torch.full((1, 1, 3, 3, 3), 1 / 9), padding=1)[0, 0] - 1.5


def full(channels, shape):
    return interpolate(channels[None], size=shape, mode="trilinear", align_corners=False)[0].numpy()


@pytest.mark.parametrize(("coarse", "fine"), GRIDS)
def test_values_in_a_box_are_pytorchs(rng, coarse, fine):
    channels = torch.from_numpy(rng.random((2, *coarse), dtype=np.float32))
    grid, expected = Interpolation(coarse, fine), full(channels, fine)
    whole = grid.values(channels.numpy(), Box.whole(fine))
    np.testing.assert_allclose(whole, expected, atol=3e-7)
    box = Box(tuple(size // 2 for size in fine), fine)
    np.testing.assert_array_equal(grid.values(channels.numpy(), box), whole[(slice(None), *box.slices)])


def stage(logits, *, regions=False, threshold=0.5, forward=(0, 1, 2), channels=(1,)):
    """A stage whose network gives these logits."""
    model = StageModel.__new__(StageModel)
    backward = [forward.index(axis) for axis in range(3)]
    model._predictor = SimpleNamespace(
        label_manager=SimpleNamespace(has_regions=regions),
        plans_manager=SimpleNamespace(transpose_forward=forward, transpose_backward=backward),
        predict_logits_from_preprocessed_data=lambda _: logits,
        averages_probabilities=False,
        moved_results=False,
    )
    model._threshold, model._tumor_channels, model._folder, model.sampling = threshold, channels, "stage1", None
    return model


def expected_mask(logits, fine, *, regions, threshold, channels=(1,)):
    probabilities = torch.sigmoid(logits) if regions else torch.softmax(logits, 0)
    tumor = sum(probabilities[channel] for channel in channels)
    others = [place for place in range(len(logits)) if place not in channels]
    if regions or len(others) == 1:
        return full(tumor[None], fine)[0] > threshold
    tumor, rival = full(torch.stack((tumor, probabilities[others].amax(0))), fine)
    return tumor > threshold * (tumor + rival)


@pytest.mark.parametrize(("coarse", "fine"), GRIDS)
@pytest.mark.parametrize(("labels", "regions"), [(2, False), (4, False), (3, True)])
@pytest.mark.parametrize("threshold", [0.5, 0.2, 0.9])
def test_the_mask_is_that_of_full_interpolation(rng, coarse, fine, labels, regions, threshold):
    logits = torch.stack([smooth(rng, coarse) for _ in range(labels)])
    model = stage(logits, regions=regions, threshold=threshold)
    found = model.predict_coarse(Prepared(np.zeros((1, *coarse), np.float32), fine, Box.whole(fine)))
    expected = expected_mask(logits, fine, regions=regions, threshold=threshold)
    np.testing.assert_array_equal(found.mask, expected)
    probabilities = torch.sigmoid(logits) if regions else torch.softmax(logits, 0)
    np.testing.assert_allclose(found.probability[expected], full(probabilities, fine)[1][expected], atol=3e-7)


@pytest.mark.parametrize(("labels", "channels"), [(4, (1, 3)), (4, (1, 2, 3)), (3, (1, 2))])
def test_several_labels_are_one_tumor_of_their_joint_probability(rng, labels, channels):
    coarse, fine = (6, 7, 8), (11, 9, 15)
    logits = torch.stack([smooth(rng, coarse) for _ in range(labels)])
    prepared = Prepared(np.zeros((1, *coarse), np.float32), fine, Box.whole(fine))
    found = stage(logits, channels=channels).predict_coarse(prepared)
    expected = expected_mask(logits, fine, regions=False, threshold=0.5, channels=channels)
    np.testing.assert_array_equal(found.mask, expected)
    joint = full(torch.softmax(logits, 0)[list(channels)].sum(0)[None], fine)[0]
    np.testing.assert_allclose(found.probability[expected], joint[expected], atol=4e-7)
    assert found.probability.max() <= 1
    assert 0 < expected.sum() < expected.size


def test_what_nnunet_calls_one_of_several_labels_is_in_their_joint_mask(rng):
    shape = (6, 7, 8)
    logits = torch.stack([smooth(rng, shape) for _ in range(4)])
    prepared = Prepared(np.zeros((1, *shape), np.float32), shape, Box.whole(shape))
    found = stage(logits, channels=(1, 3)).predict_coarse(prepared)
    nnunets = np.isin(logits.argmax(0), (1, 3))
    assert found.mask[nnunets].all()
    assert nnunets.sum() < found.mask.sum() < found.mask.size


def test_a_turned_cropped_and_transposed_image_gets_its_mask_where_it_belongs(rng):
    logits = torch.stack([smooth(rng, (6, 7, 8)) for _ in range(2)])
    inside = Box((1, 2, 0), (14, 17, 20))
    mask = np.zeros((15, 18, 21), dtype=bool)  # as the network's axes run
    mask[inside.slices] = expected_mask(logits, inside.shape, regions=False, threshold=0.4)
    forward = (1, 2, 0)
    expected = TURNED.undo(mask.transpose([forward.index(axis) for axis in range(3)]))
    model = stage(logits, threshold=0.4, forward=forward)
    found = model.predict_coarse(Prepared(np.zeros((1, 6, 7, 8), np.float32), mask.shape, inside), TURNED)
    np.testing.assert_array_equal(found.mask, expected)
    assert expected.any()
    assert found.mask.flags.c_contiguous


def test_a_tumor_that_fills_the_image_or_none_of_it_is_right():
    for value, filled in ((4.0, True), (-4.0, False)):
        logits = torch.stack((torch.zeros(5, 5, 5), torch.full((5, 5, 5), value)))
        found = stage(logits).predict_coarse(
            Prepared(np.zeros((1, 5, 5, 5), np.float32), (9, 8, 7), Box.whole((9, 8, 7)))
        )
        assert found.mask.all() == found.mask.any() == filled


def test_nan_is_an_error_also_where_nobody_would_look():
    logits = torch.full((2, 3, 3, 3), -9.0)
    logits[0] = 9.0
    logits[1, 0, 0, 0] = torch.nan
    with pytest.raises(BundleError, match="predicts NaN"):
        stage(logits).predict_coarse(Prepared(np.zeros((1, 3, 3, 3), np.float32), (3, 3, 3), Box.whole((3, 3, 3))))
