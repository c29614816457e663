"""Samples in nnU-Net's sliding window."""

from itertools import combinations, permutations, product

import numpy as np
import pytest
import torch
from builders.sampled_networks import PATCH, dropping, flips_of, initialized, naive_samples, plain
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
from test_measures import MEASURES, of_kept_samples
from torch import nn

from nnunet_cascade.errors import DropoutError
from nnunet_cascade.uncertainty.measures import uncertainty
from nnunet_cascade.uncertainty.predictor import Extras, MonteCarloPredictor
from nnunet_cascade.uncertainty.sliding_window import unpadded

CPU = torch.device("cpu")


def predictor(network, *, samples=6, mirroring=False, extras=None, **rest):
    made = MonteCarloPredictor(mc_samples=samples, device=CPU, mirroring=mirroring, extras=extras)
    return initialized(made, network, **rest)


@pytest.fixture
def network():
    return dropping()


SOURCES = [each for each in product((0, 11), (False, True), (1, 3)) if each != (0, False, 1)]  # which is one sample


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize(("passes", "mirroring", "members"), SOURCES)
def test_every_measure_of_every_combination_of_sources_is_that_of_all_samples_kept(regions, passes, mirroring, members):
    kind = dropping if passes else plain
    networks = [kind(3, seed) for seed in range(members)]
    flips, image = flips_of((0, 2)) if mirroring else [()], torch.randn(1, *PATCH)
    torch.manual_seed(5)
    samples = np.concatenate(
        [naive_samples(member, image, flips=flips, passes=passes, regions=regions) for member in networks]
    )
    assert len(samples) == members * (passes or len(flips))
    options = {"mirroring": mirroring, "regions": regions, "axes": (0, 2), "members": networks}
    made = predictor(kind(3), samples=passes, extras=Extras(entropy=True), **options)
    torch.manual_seed(5)
    found = made.predict_samples(image)
    np.testing.assert_allclose(found.mean, samples.mean(0), atol=1e-6)
    for measure in MEASURES:
        expected = of_kept_samples(measure, samples)
        mine = uncertainty(measure, found.mean, mean_square=found.mean_square, mean_entropy=found.mean_entropy)
        np.testing.assert_allclose(mine, expected, atol=2e-6)
        assert expected.mean() > 1e-5


def reference_in_float32(network, image, samples, axes):
    """What this predictor has given since it knew dropout alone, sum by sum in its order."""
    missing = (torch.tensor(PATCH) - torch.tensor(image.shape[1:])).clamp_min(0)
    padding = [int(n) for low, lack in reversed([(m // 2, m) for m in missing]) for n in (low, lack - low)]
    data = nn.functional.pad(image, padding)
    steps = compute_steps_for_sliding_window(tuple(data.shape[1:]), PATCH, 0.5)
    weights = compute_gaussian(PATCH, sigma_scale=1 / 8, value_scaling_factor=10, device=CPU).float()
    blended, total = torch.zeros(4, *data.shape[1:]), torch.zeros(data.shape[1:])
    flips = [tuple(axis + 2 for axis in flip) for flip in flips_of(axes)]
    network[1].train()
    with torch.inference_mode():
        for z, y, x in product(*steps):
            place = (slice(None), slice(z, z + 8), slice(y, y + 8), slice(x, x + 8))
            sums = torch.zeros(4, *PATCH)
            for turn, flip in enumerate(flips[:samples]):
                for _ in range(turn, samples, len(flips)):
                    p = torch.flip(torch.softmax(network(torch.flip(data[place][None], flip)), 1), flip)[0]
                    sums += torch.cat((p, p * p))
            blended[place] += sums / samples * weights
            total[place[1:]] += weights
    network.eval()
    return unpadded(blended / total, image.shape[1:])


@pytest.mark.parametrize("shape", [PATCH, (13, 9, 17), (5, 9, 3)])
@pytest.mark.parametrize(("samples", "mirroring"), [(4, False), (11, True), (3, True)])
@pytest.mark.parametrize("entropy", [False, True])
def test_dropout_gives_the_bits_it_always_gave(network, shape, samples, mirroring, entropy):
    image = torch.randn(1, *shape)
    torch.manual_seed(5)
    expected = reference_in_float32(network, image, samples, (0, 1, 2) if mirroring else ())
    made = predictor(network, samples=samples, mirroring=mirroring, extras=Extras(entropy=entropy))
    torch.manual_seed(5)
    assert torch.equal(made.predict_logits_from_preprocessed_data(image)[:4], expected)


def test_windows_are_blended_in_float32_to_weighted_means(network):
    nn.init.zeros_(network[3].weight)
    network[3].bias.data = torch.tensor([0.0, 1.0])
    found = predictor(network, extras=Extras(entropy=True)).predict_samples(torch.randn(1, 13, 9, 17))
    assert found.mean.shape == (2, 13, 9, 17)
    assert found.mean.dtype == torch.float32
    p = 1 / (1 + np.exp(-1.0))
    np.testing.assert_allclose(found.mean[1], p, atol=1e-6)
    np.testing.assert_allclose(found.mean_square[1], p**2, atol=1e-6)
    np.testing.assert_allclose(found.mean_entropy[1], -p * np.log(p) - (1 - p) * np.log(1 - p), atol=1e-6)


@pytest.mark.parametrize("axes", [axes for count in range(4) for axes in permutations(range(3), count)])
def test_sorted_by_their_number_mirrored_axes_are_in_nnunets_order(network, axes):
    nnunets = [chosen for count in range(len(axes) + 1) for chosen in combinations([axis + 2 for axis in axes], count)]
    assert sorted(predictor(network, mirroring=True, axes=axes).flips(), key=len) == nnunets
    assert predictor(network, mirroring=False, axes=axes).flips() == [()]


def test_dropout_asked_of_a_network_without_it_is_refused():
    with pytest.raises(DropoutError, match="no active dropout"):
        predictor(plain()).predict_logits_from_preprocessed_data(torch.randn(1, *PATCH))


def test_without_dropout_as_a_source_the_dropouts_of_a_network_are_off(network):
    image = torch.randn(1, *PATCH)
    torch.manual_seed(1)
    first = predictor(network, samples=0, mirroring=True).predict_samples(image)
    torch.manual_seed(2)
    assert torch.equal(predictor(network, samples=0, mirroring=True).predict_samples(image).mean, first.mean)


@pytest.mark.parametrize("samples", [0, 3])
def test_every_mode_is_restored(network, samples):
    predictor(network, samples=samples, mirroring=True).predict_samples(torch.randn(1, *PATCH))
    assert not any(module.training for module in network.modules())
