"""The adaptive loss where its reference does not look, and sums over resolutions."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, softmax

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.losses.adaptive import AdaptiveLoss
from nnunet_cascade.losses.targets import DeepSupervisedLoss

SHAPE = (2, 2, 4, 5, 3)
SMOOTH = 1e-5
both_variants = pytest.mark.parametrize("variant", ["voxel", "scalar"])


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(7)


@pytest.fixture
def logits(generator):
    return torch.randn(SHAPE, generator=generator, dtype=torch.float64)


@pytest.fixture
def target(generator):
    return torch.randint(0, 2, (2, 1, *SHAPE[2:]), generator=generator)


@pytest.fixture
def variance(generator):
    return torch.rand(SHAPE, generator=generator, dtype=torch.float64) / 4


@both_variants
def test_without_uncertainty_it_is_exactly_the_dice_loss(logits, target, variant):
    p, y = softmax(logits, 1)[:, 1], target[:, 0].double()
    axes = (1, 2, 3)
    dice = (2 * (p * y).sum(axes) + SMOOTH) / ((p + y).sum(axes) + SMOOTH)
    found = AdaptiveLoss(variant=variant)(logits, target, torch.zeros(SHAPE, dtype=torch.float64))
    assert found.item() == pytest.approx(1 - dice.mean().item(), rel=1e-14)


@both_variants
def test_with_endless_uncertainty_it_tends_to_cross_entropy(logits, target, variant):
    found = AdaptiveLoss(variant=variant)(logits, target, torch.full(SHAPE, 1e3, dtype=torch.float64))
    assert found.item() == pytest.approx(cross_entropy(logits, target[:, 0]).item(), rel=1e-12)


@both_variants
def test_its_scale_divides_the_uncertainty(logits, target, variance, variant):
    found = AdaptiveLoss(variant=variant, uncertainty_scale=1.0)(logits, target, 4 * variance)
    assert found.item() == AdaptiveLoss(variant=variant)(logits, target, variance).item()


def test_an_empty_foreground_predicted_empty_costs_almost_nothing(target):
    logits = torch.zeros(SHAPE)
    logits[:, 0] = 40
    assert AdaptiveLoss()(logits, torch.zeros_like(target), torch.zeros(SHAPE)).item() == pytest.approx(0, abs=1e-6)


def test_deep_supervision_sums_resolutions_by_weight_and_skips_those_of_zero(logits, target, variance):
    loss = AdaptiveLoss()
    coarse = (logits[..., ::2, ::2, :], target[..., ::2, ::2, :], variance[..., ::2, ::2, :])
    both = DeepSupervisedLoss(loss, (0.75, 0.25))([logits, coarse[0]], [target, coarse[1]], [variance, coarse[2]])
    expected = 0.75 * loss(logits, target, variance) + 0.25 * loss(*coarse)
    assert both.item() == pytest.approx(expected.item(), rel=1e-12)
    broken = torch.full_like(coarse[0], math.nan)
    finest = DeepSupervisedLoss(loss, (1.0, 0.0))([logits, broken], [target, coarse[1]], [variance, coarse[2]])
    assert finest.item() == pytest.approx(loss(logits, target, variance).item(), rel=1e-12)


@pytest.mark.parametrize(
    "loss", [AdaptiveLoss(), DeepSupervisedLoss(AdaptiveLoss(), (1.0,))], ids=["plain", "supervised"]
)
def test_bare_outputs_are_taken_and_no_uncertainty_is_none_anywhere(loss, logits, target, variance):
    none = AdaptiveLoss()(logits, target, torch.zeros(SHAPE)).item()
    assert loss(logits, target).item() == pytest.approx(none, rel=1e-12)
    assert loss(logits, target, variance).item() == AdaptiveLoss()(logits, target, variance).item()


def test_outputs_and_weights_must_be_as_many(logits, target):
    with pytest.raises(ValueError, match="argument"):
        DeepSupervisedLoss(AdaptiveLoss(), (0.5, 0.5))([logits], [target])


@pytest.mark.parametrize("weights", [(), (0.0, 0.0)])
def test_deep_supervision_needs_a_weight(weights):
    with pytest.raises(SettingsError, match="above 0"):
        DeepSupervisedLoss(AdaptiveLoss(), weights)
