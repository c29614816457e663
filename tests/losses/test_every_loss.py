"""What holds for each loss, whatever the outputs mean."""

from dataclasses import replace

import pytest
import torch
from builders.loss_references import SCHEMES, SUBJECTS, make_finding, make_problem


@pytest.fixture(params=SUBJECTS)
def subject(request):
    return SUBJECTS[request.param]


@pytest.fixture(params=SCHEMES)
def scheme(request):
    return request.param


@pytest.mark.parametrize("batch_dice", [True, False])
@pytest.mark.parametrize("size", [(4, 3, 5), (6, 7)])
def test_agrees_with_a_float64_reference(subject, scheme, size, batch_dice):
    problem = make_problem(scheme, size=size)
    expected = subject.expected(problem, batch_dice=batch_dice)
    assert subject.of(problem, batch_dice=batch_dice).item() == pytest.approx(expected, rel=1e-10)


def test_gradient_matches_finite_differences(subject, scheme):
    problem = make_problem(scheme, size=(3, 2, 2))
    assert torch.autograd.gradcheck(lambda x: subject.of(problem, x), problem.logits.requires_grad_(), fast_mode=True)


def test_float32_gives_the_gradient_of_float64(subject, scheme):
    problem = make_problem(scheme, size=(8, 9, 7))
    logits = problem.logits.float()
    found, exact = subject.gradient(problem, logits), subject.gradient(problem, logits.double())
    assert found.dtype == torch.float32
    assert (found - exact).abs().max() <= 1e-4 * exact.abs().max()


def test_the_result_is_a_scalar_in_float32_whatever_the_target_is_stored_as(subject, scheme):
    problem = make_problem(scheme)
    exact = subject.of(problem).item()
    for dtype in (torch.int16, torch.float32):
        stored = replace(problem, target=problem.target.to(dtype), logits=problem.logits.float())
        found = subject.of(stored)
        assert found.shape == ()
        assert found.dtype == torch.float32
        assert found.item() == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("ignoring", [scheme for scheme in SCHEMES if scheme.endswith("ignore")])
@pytest.mark.parametrize("ignored", [0.3, 1])
def test_ignored_voxels_have_no_gradient_and_a_batch_of_them_costs_nothing(subject, ignoring, ignored):
    problem = make_problem(ignoring, ignored=ignored)
    assert not torch.where(problem.known, 0, subject.gradient(problem)).any()
    assert ignored < 1 or subject.of(problem).item() == 0


def test_an_empty_foreground_teaches_to_predict_none(subject, scheme):
    problem = make_problem(scheme, ignored=0)
    empty = replace(problem, target=torch.zeros_like(problem.target), distance=torch.zeros_like(problem.distance))
    logits = empty.logits.float()
    gradient = subject.gradient(empty, logits)
    assert subject.of(empty, logits).isfinite()
    assert gradient.isfinite().all()
    assert gradient.any()
    further = logits - 0.01 * gradient / gradient.abs().max()
    assert subject.of(empty, further.double()) < subject.of(empty, logits.double())


@pytest.fixture(params=[True, False])
def batch_dice(request):
    return request.param


def test_agrees_with_its_reference_where_one_sample_has_no_tumor(subject, scheme, batch_dice):
    problem = make_problem(scheme)
    own = problem.target[1, : problem.logits.shape[1] if problem.labels.regions else 1]
    own[problem.known[1].expand_as(own)] = 0
    assert subject.of(problem, batch_dice=batch_dice).item() == pytest.approx(
        subject.expected(problem, batch_dice=batch_dice), rel=1e-10
    )


@pytest.mark.parametrize("uncertainty", [0.0, 0.25], ids=["sure", "unsure"])
def test_a_false_finding_where_there_is_no_tumor_teaches_a_tenth_of_what_a_tumor_does(subject, batch_dice, uncertainty):
    beside = subject.gradient(make_finding((True, False), uncertainty), batch_dice=batch_dice)
    alone = subject.gradient(make_finding((False, False), uncertainty), batch_dice=batch_dice)
    tumor = beside[0].norm()
    assert beside[1].norm() >= 0.1 * tumor
    assert alone[1].norm() >= 0.1 * tumor


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(subject, scheme, dtype):
    problem = make_problem(scheme)
    half = replace(problem, logits=problem.logits.to(dtype), uncertainty=problem.uncertainty.to(dtype))
    logits = half.logits.clone().requires_grad_()
    with torch.autocast("cpu", dtype=dtype):
        found = subject.of(half, logits)
    found.backward()
    full = replace(half, logits=half.logits.float(), uncertainty=half.uncertainty.float())
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(subject.of(full).item(), rel=1e-5)
    torch.testing.assert_close(logits.grad.float(), subject.gradient(full), rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("extreme", [1e4, -1e4])
def test_extreme_outputs_give_finite_losses_and_gradients(subject, scheme, dtype, extreme):
    problem = make_problem(scheme)
    logits = (problem.logits.sign() * extreme).to(dtype).requires_grad_()
    loss = subject.of(problem, logits)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


def test_no_gradient_flows_through_the_uncertainty(subject):
    problem = make_problem("two classes")
    problem.uncertainty.requires_grad_()
    assert subject.gradient(problem).any()
    assert problem.uncertainty.grad is None


def test_inputs_are_left_as_they_are(subject, scheme):
    problem = make_problem(scheme)
    before = [tensor.clone() for tensor in (problem.logits, problem.target, problem.uncertainty, problem.distance)]
    subject.gradient(problem)
    after = (problem.logits.detach(), problem.target, problem.uncertainty, problem.distance)
    assert all(map(torch.equal, before, after))
