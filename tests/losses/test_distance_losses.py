"""The losses of distances where their references do not look."""

import pytest
import torch
from builders.loss_references import SCHEMES, SUBJECTS, make_problem

from nnunet_cascade.losses.boundary import BoundaryLoss
from nnunet_cascade.losses.distance_weighted import DistanceWeightedLoss
from nnunet_cascade.losses.distances import SignedDistanceTransform
from nnunet_cascade.losses.targets import LabelScheme


@pytest.mark.parametrize("scheme", SCHEMES)
def test_targets_without_distances_leave_the_dice_loss(scheme):
    problem = make_problem(scheme)
    problem.distance[:] = 0
    alone = BoundaryLoss(labels=problem.labels)(problem.logits, problem.target).item()
    assert alone == pytest.approx(SUBJECTS["boundary"].of(problem).item(), rel=1e-12)


def test_the_weight_scales_the_boundary_term_alone():
    problem = make_problem("two classes")
    target = torch.cat((problem.target, problem.distance), 1)
    found = [BoundaryLoss(boundary_weight=weight)(problem.logits, target).item() for weight in (0, 1, 2)]
    assert found[2] - found[0] == pytest.approx(2 * (found[1] - found[0]), rel=1e-10)
    assert found[0] == pytest.approx(BoundaryLoss()(problem.logits, problem.target).item(), rel=1e-12)


def test_it_pulls_probability_to_where_the_tumor_is():
    label = torch.zeros(1, 9, 9, dtype=torch.int16)
    label[0, 3:6, 3:6] = 1
    target = SignedDistanceTransform(LabelScheme(), 1)(segmentation=label)["segmentation"][None]
    logits = torch.zeros(1, 2, 9, 9, requires_grad=True)
    # So heavy that the Dice term does not count.
    BoundaryLoss(boundary_weight=1e6)(logits, target).backward()
    pull = -logits.grad[0, 1]
    assert (pull[label[0] == 1] > 0).all()
    assert (pull[label[0] == 0] < 0).all()
    # Farther from the surface, more.
    assert pull[0, 0] < pull[2, 2] < 0 < pull[3, 3] < pull[4, 4]


def test_without_surfaces_or_weight_the_distance_weighted_loss_is_dice_and_cross_entropy():
    problem = make_problem("two classes")
    target = torch.cat((problem.target, problem.distance), 1)
    plain = DistanceWeightedLoss(surface_weight=0)(problem.logits, target).item()
    assert DistanceWeightedLoss()(problem.logits, problem.target).item() == pytest.approx(plain, rel=1e-12)
    flat = torch.cat((problem.target, torch.zeros_like(problem.distance)), 1)
    assert DistanceWeightedLoss()(problem.logits, flat).item() == pytest.approx(plain, rel=1e-12)


def test_an_error_at_the_surface_costs_more_than_one_far_away():
    label = torch.zeros(1, 40, 40, dtype=torch.int16)
    label[0, 3:6, 3:6] = 1
    target = SignedDistanceTransform(LabelScheme(), 1)(segmentation=label)["segmentation"][None]
    logits = torch.zeros(1, 2, 40, 40)
    near, far = logits.clone(), logits.clone()
    near[0, 1, 6, 6] = far[0, 1, 39, 39] = 5
    assert DistanceWeightedLoss()(near, target) > DistanceWeightedLoss()(far, target)
