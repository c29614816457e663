"""The Lovász loss against what Berman et al. say of it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nnunet_cascade.losses.lovasz import UncertaintyLovaszLoss, lovasz_jaccard
from nnunet_cascade.losses.targets import LabelScheme

MASKS = arrays(np.bool_, st.integers(1, 40))
LENGTHS = st.integers(1, 60)
# Few values, so that many errors are equal.
FLOATS = arrays(np.float32, LENGTHS, elements=st.floats(0, 3, width=32) | st.sampled_from([0, 0.5, 1]))


def jaccard_loss(predicted, truth):
    union = np.count_nonzero(predicted | truth)
    return 1 - np.count_nonzero(predicted & truth) / union if union else 0.0


@settings(deadline=None, max_examples=50)
@given(truth=MASKS, data=st.data(), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_hard_predictions_give_the_jaccard_loss(truth, data, dtype):
    predicted = data.draw(arrays(np.bool_, truth.shape))
    errors = torch.from_numpy(predicted ^ truth).to(dtype)
    found = lovasz_jaccard(errors, torch.from_numpy(truth)).item()
    assert found == pytest.approx(jaccard_loss(predicted, truth), abs=1e-6)


@pytest.mark.parametrize("regions", [True, False])
def test_sure_outputs_give_the_jaccard_loss_of_the_batch(regions):
    generator = torch.Generator().manual_seed(0)
    predicted, truth = torch.rand((2, 2, 1, 5, 4, 3), generator=generator) < 0.4
    logits = torch.where(predicted, 1e4, -1e4)
    if not regions:
        logits = torch.cat((-logits, logits), 1)
    found = UncertaintyLovaszLoss(labels=LabelScheme(regions=regions))(logits, truth.long()).item()
    assert found == pytest.approx(jaccard_loss(predicted.numpy(), truth.numpy()), rel=1e-6)


@settings(deadline=None, max_examples=50)
@given(errors=FLOATS, data=st.data())
def test_float32_is_sorted_as_float64_is(errors, data):
    truth = torch.from_numpy(data.draw(arrays(np.bool_, errors.shape)))
    single = torch.from_numpy(errors)
    found, exact = lovasz_jaccard(single, truth).item(), lovasz_jaccard(single.double(), truth).item()
    assert found == pytest.approx(exact, rel=1e-5, abs=1e-7)


@settings(deadline=None, max_examples=50)
@given(errors=FLOATS, data=st.data())
def test_the_slopes_of_all_voxels_add_up_to_one(errors, data):
    truth = torch.from_numpy(data.draw(arrays(np.bool_, errors.shape)))
    errors = torch.from_numpy(errors).requires_grad_()
    lovasz_jaccard(errors, truth).backward()
    assert errors.grad.sum().item() == pytest.approx(1, rel=1e-5)
    assert errors.grad.min() >= 0


@settings(deadline=None, max_examples=50)
@given(errors=FLOATS, data=st.data())
def test_the_place_of_a_voxel_does_not_matter(errors, data):
    truth = data.draw(arrays(np.bool_, errors.shape))
    order = np.array(data.draw(st.permutations(range(len(errors)))))
    first = lovasz_jaccard(torch.from_numpy(errors), torch.from_numpy(truth)).item()
    second = lovasz_jaccard(torch.from_numpy(errors[order]), torch.from_numpy(truth[order])).item()
    assert first == pytest.approx(second, rel=1e-5, abs=1e-7)


def test_an_absent_class_costs_its_largest_error():
    errors = torch.tensor([0.2, 0.7, 0.5]).requires_grad_()
    loss = lovasz_jaccard(errors, torch.zeros(3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == pytest.approx(0.7)
    assert errors.grad.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("errors", "truth", "expected"),
    [
        # Sorted: 0.9 in the class, 0.5 not, 0.1 in it. Jaccard losses 1/2, 2/3, 1.
        ([0.1, 0.9, 0.5], [True, True, False], 0.9 / 2 + 0.5 / 6 + 0.1 / 3),
        ([0.2, 0.7, 0.6], [True, True, True], 0.5),  # a class everywhere costs its mean error
        ([], [], 0),
    ],
)
def test_hand_drawn_errors(errors, truth, expected):
    found = lovasz_jaccard(torch.tensor(errors), torch.tensor(truth, dtype=torch.bool)).item()
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(("variance", "scale"), [(0.0, 0.25), (0.1, 0.25), (0.1, 1.0)])
def test_the_same_uncertainty_everywhere_scales_the_loss(variance, scale):
    logits = torch.randn((2, 3, 4, 5, 3), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    target = torch.randint(0, 3, (2, 1, 4, 5, 3), generator=torch.Generator().manual_seed(2))
    loss = UncertaintyLovaszLoss(uncertainty_scale=scale)
    found = loss(logits, target, torch.full_like(logits, variance)).item()
    assert found == pytest.approx((1 + variance / scale) * loss(logits, target).item(), rel=1e-12)
