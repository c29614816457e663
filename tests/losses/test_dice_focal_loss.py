"""The L1-weighted Dice-focal loss where its reference does not look."""

import math

import pytest
import torch
from builders.loss_references import make_problem
from torch.nn.functional import cross_entropy

from nnunet_cascade.losses.dice_focal import L1DiceFocalLoss
from nnunet_cascade.losses.targets import LabelScheme


def logit(probability):
    return torch.logit(torch.tensor(probability, dtype=torch.float64))[None, None]


def test_without_gamma_the_focal_term_is_cross_entropy():
    problem = make_problem("three classes")
    focal, plain = (L1DiceFocalLoss(gamma=gamma)(problem.logits, problem.target) for gamma in (1e9, 0.0))
    assert (plain - focal).item() == pytest.approx(cross_entropy(problem.logits, problem.target[:, 0]).item())


def test_the_first_and_the_last_bin_are_half_as_wide():
    # Errors 0.02 and 0.98 lie in half bins, 0.3 in a whole one.
    p, y = [[0.02, 0.02, 0.3]], torch.tensor([[[[0, 1, 0]]]])
    half, whole = 3 * 0.025, 3 * 0.05
    squares = half * 0.02**2 + half * (0.02**2 + 1) + whole * 0.3**2
    expected = 1 - (2 * half * 0.02 + 1e-5) / (squares + 1e-5)
    focal = -sum(error**2 * math.log(1 - error) for error in (0.02, 0.98, 0.3)) / 3
    assert L1DiceFocalLoss(labels=LabelScheme(regions=True))(logit(p), y).item() == pytest.approx(
        expected + focal, rel=1e-9
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 3.5])
@pytest.mark.parametrize("classes", [2, 3])
def test_right_and_sure_outputs_have_no_gradient_but_no_nan_either(gamma, classes):
    target = torch.randint(0, classes, (2, 1, 4, 4, 4), generator=torch.Generator().manual_seed(0))
    truth = torch.cat([target == label for label in range(classes)], 1)
    logits = torch.where(truth, 1e4, -1e4).requires_grad_()
    loss = L1DiceFocalLoss(gamma=gamma)(logits, target)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert not logits.grad.any()


@pytest.mark.parametrize("gamma", [0.5, 1.0, 3.0])
def test_other_gammas_have_the_right_gradient(gamma):
    problem = make_problem("three classes", size=(3, 2, 2))
    loss = L1DiceFocalLoss(gamma=gamma)
    assert torch.autograd.gradcheck(lambda x: loss(x, problem.target), problem.logits.requires_grad_(), fast_mode=True)


def test_outputs_that_are_nan_give_nan_and_no_crash():
    problem = make_problem("two classes, ignore")
    problem.logits[0, 0, 0] = float("nan")
    assert L1DiceFocalLoss(labels=problem.labels)(problem.logits.float(), problem.target).isnan()
