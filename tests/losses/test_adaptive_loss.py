"""The adaptive loss against its definition."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, softmax

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.losses.adaptive import AdaptiveLoss
from nnunet_cascade.losses.targets import DeepSupervisedLoss, LabelScheme

SHAPE = (2, 2, 4, 5, 3)
SMOOTH = 1e-5
VARIANTS = ("voxel", "scalar")


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


def reference(logits, target, variance, *, variant, scale, batch_dice, known=None):
    """Voxel by voxel in plain Python, as docs/decisions/0005-adaptive-loss.md writes it down."""
    known = torch.ones_like(target, dtype=torch.bool) if known is None else known
    probability = softmax(logits, 1)[:, 1]
    alpha = torch.exp(-variance.mean(1) / scale)
    sums = [[0.0, 0.0] for _ in range(len(logits))]
    total_alpha = entropy = weighted_entropy = count = 0.0
    for index in torch.cartesian_prod(*(torch.arange(n) for n in probability.shape)).tolist():
        sample, *place = index
        if not known[(sample, 0, *place)]:
            continue
        p, a = float(probability[tuple(index)]), float(alpha[tuple(index)])
        y = float(target[(sample, 0, *place)])
        weight = a if variant == "voxel" else 1.0
        sums[sample][0] += weight * p * y
        sums[sample][1] += weight * (p + y)
        ce = -math.log(p if y else 1 - p)
        total_alpha, entropy, weighted_entropy = total_alpha + a, entropy + ce, weighted_entropy + (1 - a) * ce
        count += 1
    if batch_dice:
        sums = [[sum(s[0] for s in sums), sum(s[1] for s in sums)]]
    dice = sum((2 * overlap + SMOOTH) / (size + SMOOTH) for overlap, size in sums) / len(sums)
    mean_alpha = total_alpha / count
    uncertain = weighted_entropy / count if variant == "voxel" else (1 - mean_alpha) * entropy / count
    return mean_alpha * (1 - dice) + uncertain


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("batch_dice", [True, False])
@pytest.mark.parametrize("scale", [0.25, 1.0])
def test_agrees_with_a_float64_reference(logits, target, variance, variant, batch_dice, scale):
    loss = AdaptiveLoss(variant=variant, uncertainty_scale=scale, batch_dice=batch_dice)
    expected = reference(logits, target, variance, variant=variant, scale=scale, batch_dice=batch_dice)
    assert loss(logits, target, variance).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_without_uncertainty_it_is_exactly_the_dice_loss(logits, target, variant):
    p, y = softmax(logits, 1)[:, 1], target[:, 0].double()
    axes = (1, 2, 3)
    dice = (2 * (p * y).sum(axes) + SMOOTH) / ((p + y).sum(axes) + SMOOTH)
    found = AdaptiveLoss(variant=variant)(logits, target, torch.zeros(SHAPE, dtype=torch.float64))
    assert found.item() == pytest.approx(1 - dice.mean().item(), rel=1e-14)


@pytest.mark.parametrize("variant", VARIANTS)
def test_with_endless_uncertainty_it_tends_to_cross_entropy(logits, target, variant):
    found = AdaptiveLoss(variant=variant)(logits, target, torch.full(SHAPE, 1e3, dtype=torch.float64))
    assert found.item() == pytest.approx(cross_entropy(logits, target[:, 0]).item(), rel=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradient_matches_finite_differences(logits, target, variance, variant):
    loss = AdaptiveLoss(variant=variant)
    assert torch.autograd.gradcheck(lambda x: loss(x, target, variance), logits.requires_grad_())


def test_no_gradient_flows_through_the_uncertainty(logits, target, variance):
    variance.requires_grad_()
    AdaptiveLoss()(logits.requires_grad_(), target, variance).backward()
    assert variance.grad is None
    assert logits.grad is not None


@pytest.mark.parametrize("variant", VARIANTS)
def test_ignored_voxels_do_not_count(logits, target, variance, variant):
    known = torch.rand(target.shape, generator=torch.Generator().manual_seed(1)) > 0.3
    marked = torch.where(known, target, 2)
    loss = AdaptiveLoss(variant=variant, labels=LabelScheme(ignore_label=2))
    expected = reference(logits, target, variance, variant=variant, scale=0.25, batch_dice=False, known=known)
    assert loss(logits, marked, variance).item() == pytest.approx(expected, rel=1e-12)


def test_a_batch_that_is_all_ignored_gives_zero_and_a_zero_gradient(logits, target, variance):
    loss = AdaptiveLoss(labels=LabelScheme(ignore_label=2))(
        logits.requires_grad_(), torch.full_like(target, 2), variance
    )
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_regions_have_a_weight_of_their_own_each(logits, variance):
    generator = torch.Generator().manual_seed(3)
    target = torch.randint(0, 2, SHAPE, generator=generator)
    loss = AdaptiveLoss(labels=LabelScheme(regions=True))
    alone = [loss(logits[:, c : c + 1], target[:, c : c + 1], variance[:, c : c + 1]).item() for c in range(2)]
    assert loss(logits, target, variance).item() == pytest.approx(sum(alone) / 2, rel=1e-12)


def test_the_last_channel_of_regions_marks_ignored_voxels(logits, variance):
    generator = torch.Generator().manual_seed(3)
    target = torch.randint(0, 2, SHAPE, generator=generator)
    marks = torch.zeros(2, 1, *SHAPE[2:], dtype=torch.long)
    loss = AdaptiveLoss(labels=LabelScheme(regions=True, ignore_label=3))
    plain = AdaptiveLoss(labels=LabelScheme(regions=True))(logits, target, variance)
    assert loss(logits, torch.cat((target, marks), 1), variance).item() == pytest.approx(plain.item(), rel=1e-12)
    everywhere = loss(logits, torch.cat((target, torch.ones_like(marks)), 1), variance)
    assert everywhere.item() == 0


def test_an_empty_foreground_predicted_empty_costs_almost_nothing(target):
    logits = torch.zeros(SHAPE)
    logits[:, 0] = 40
    assert AdaptiveLoss()(logits, torch.zeros_like(target), torch.zeros(SHAPE)).item() == pytest.approx(0, abs=1e-6)


def test_half_precision_logits_are_summed_in_float32(logits, target, variance):
    found = AdaptiveLoss()(logits.half(), target, variance.half())
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(AdaptiveLoss()(logits, target, variance).item(), rel=1e-2)


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
