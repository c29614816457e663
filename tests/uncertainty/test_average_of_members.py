"""Folds are averaged as logits, as nnU-Net does, or as probabilities, so that none overrules the others."""

import pytest
import torch
from builders.sampled_networks import PATCH, initialized, plain

from nnunet_cascade.uncertainty.deterministic import DeterministicUncertaintyPredictor
from nnunet_cascade.uncertainty.sliding_window import SlidingWindowPredictor

CPU = torch.device("cpu")


def as_probabilities(logits, *, regions):
    return torch.sigmoid(logits.float()) if regions else torch.softmax(logits.float(), 0)


def predictor(kind, members, *, regions):
    return initialized(kind(device=CPU, step_size=0.5, mirroring=False), members[0], regions=regions, members=members)


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("kind", [SlidingWindowPredictor, DeterministicUncertaintyPredictor])
def test_probabilities_of_members_are_averaged_where_that_is_asked(kind, regions):
    torch.manual_seed(5)
    image = 20 * torch.randn(1, 12, *PATCH[1:])
    members = [plain(seed=1), plain(seed=2)]
    alone = [
        predictor(kind, [member], regions=regions).predict_logits_from_preprocessed_data(image) for member in members
    ]
    both = predictor(kind, members, regions=regions)
    assert torch.allclose(both.predict_logits_from_preprocessed_data(image), sum(alone) / 2, atol=1e-4)
    both.averages_probabilities = True
    expected = sum(as_probabilities(logits, regions=regions) for logits in alone) / 2
    found = both.predict_logits_from_preprocessed_data(image)
    assert torch.allclose(found, expected, atol=1e-5)
    overruled = (expected >= 0.3) & (as_probabilities(sum(alone) / 2, regions=regions) < 0.3)
    assert overruled.any()
