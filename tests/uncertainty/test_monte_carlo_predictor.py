"""Stochastic passes in nnU-Net's sliding window."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from nnunet_cascade.errors import DropoutError
from nnunet_cascade.uncertainty.predictor import MonteCarloPredictor

PATCH = (8, 8, 8)


def predictor(network, *, samples=6, regions=False, mirroring=False):
    made = MonteCarloPredictor(samples=samples, device=torch.device("cpu"), mirroring=mirroring)
    labels = SimpleNamespace(num_segmentation_heads=2, has_regions=regions)
    made.manual_initialization(
        network,
        SimpleNamespace(get_label_manager=lambda _: labels),
        SimpleNamespace(patch_size=PATCH),
        [network.state_dict()],
        {},
        "test",
        (0, 1, 2),
    )
    return made


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.Dropout3d(0.3), nn.LeakyReLU(), nn.Conv3d(8, 2, 1)).eval()


def naive_samples(network, image, count):
    network.eval()
    network[1].train()
    with torch.no_grad():
        samples = torch.stack([torch.softmax(network(image[None]), 1)[0] for _ in range(count)])
    network.eval()
    return samples.double().numpy()


def test_in_one_window_the_moments_are_those_of_naive_full_passes(network):
    image = torch.randn(1, *PATCH)
    torch.manual_seed(5)
    found = predictor(network).predict_logits_from_preprocessed_data(image).numpy()
    torch.manual_seed(5)
    samples = naive_samples(network, image, 6)
    np.testing.assert_allclose(found[:2], samples.mean(0), atol=1e-6)
    np.testing.assert_allclose(found[2:] - found[:2] ** 2, samples.var(0), atol=1e-6)
    assert (found[2:] - found[:2] ** 2).mean() > 1e-4


def test_the_same_seed_gives_the_same_bits(network):
    image = torch.randn(1, 12, 12, 12)
    torch.manual_seed(5)
    first = predictor(network).predict_logits_from_preprocessed_data(image)
    torch.manual_seed(5)
    assert torch.equal(predictor(network).predict_logits_from_preprocessed_data(image), first)


def test_windows_are_blended_in_float32_to_weighted_means(network):
    nn.init.zeros_(network[3].weight)
    network[3].bias.data = torch.tensor([0.0, 1.0])
    found = predictor(network).predict_logits_from_preprocessed_data(torch.randn(1, 13, 9, 17))
    assert found.shape == (4, 13, 9, 17)
    assert found.dtype == torch.float32
    p = 1 / (1 + np.exp(-1.0))
    np.testing.assert_allclose(found[1], p, atol=1e-6)
    np.testing.assert_allclose(found[3], p**2, atol=1e-6)


def test_an_image_smaller_than_the_patch_comes_back_in_its_own_shape(network):
    assert predictor(network).predict_logits_from_preprocessed_data(torch.randn(1, 5, 9, 3)).shape == (4, 5, 9, 3)


def test_folds_are_pooled_as_further_samples(network):
    image = torch.zeros(1, *PATCH)
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    made = predictor(network)
    sure = {**network.state_dict(), "3.bias": torch.tensor([0.0, 100.0])}
    other = {**network.state_dict(), "3.bias": torch.tensor([100.0, 0.0])}
    made.list_of_parameters = [sure, other]
    found = made.predict_logits_from_preprocessed_data(image)
    np.testing.assert_allclose(found[1], 0.5, atol=1e-6)
    np.testing.assert_allclose(found[3] - found[1] ** 2, 0.25, atol=1e-6)


def test_mirroring_draws_samples_on_mirrored_images_in_turn(network):
    assert len(predictor(network, mirroring=True)._flips(5)) == 8
    assert predictor(network)._flips(5) == [()]


def test_regions_are_sigmoids(network):
    nn.init.zeros_(network[3].weight)
    network[3].bias.data = torch.tensor([2.0, 2.0])
    found = predictor(network, regions=True).predict_logits_from_preprocessed_data(torch.randn(1, *PATCH))
    np.testing.assert_allclose(found[:2], 1 / (1 + np.exp(-2.0)), atol=1e-6)


def test_uncertainty_of_a_network_without_dropout_is_refused(network):
    network[1].p = 0.0
    with pytest.raises(DropoutError, match="no active dropout"):
        predictor(network).predict_logits_from_preprocessed_data(torch.randn(1, *PATCH))


def test_out_of_memory_starts_again_with_fresh_sums(network, monkeypatch):
    made = predictor(network)
    made.perform_everything_on_device = True
    passes = []
    original = MonteCarloPredictor._window_moments

    def once_out_of_memory(self, image, shared):
        passes.append(image)
        if len(passes) == 2:
            raise RuntimeError("out of memory")
        return original(self, image, shared)

    image = torch.randn(1, 8, 8, 12)
    nn.init.zeros_(network[3].weight)
    monkeypatch.setattr(MonteCarloPredictor, "_window_moments", once_out_of_memory)
    found = made.predict_logits_from_preprocessed_data(image)
    np.testing.assert_allclose(found[:2].sum(0), 1, atol=1e-5)
