"""nnU-Net's own bits, and what its mirrored images and folds make of the tumor on the side."""

import numpy as np
import pytest
import torch
from builders.sampled_networks import PATCH, dropping, flips_of, initialized, naive_samples, plain, symmetric
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from test_measures import MEASURES, of_kept_samples

from nnunet_cascade.uncertainty.deterministic import DeterministicUncertaintyPredictor
from nnunet_cascade.uncertainty.measures import uncertainty

CPU = torch.device("cpu")


def observed(network, *, mirroring=True, entropy=False, **rest):
    return initialized(
        DeterministicUncertaintyPredictor(device=CPU, mirroring=mirroring, entropy=entropy), network, **rest
    )


@pytest.mark.parametrize("shape", [PATCH, (13, 9, 17), (5, 9, 3)])
@pytest.mark.parametrize(("mirroring", "axes"), [(False, None), (True, (0, 1, 2)), (True, (1,)), (True, None)])
@pytest.mark.parametrize("count", [1, 2])
def test_the_logits_are_nnunets_bit_for_bit(shape, mirroring, axes, count):
    image, members = torch.randn(1, *shape), [plain(3, seed) for seed in range(count)]
    stock = nnUNetPredictor(device=CPU, use_mirroring=mirroring, allow_tqdm=False)
    expected = initialized(stock, plain(3), axes=axes, members=members).predict_logits_from_preprocessed_data(image)
    made = observed(plain(3), mirroring=mirroring, axes=axes, members=members)
    logits, moments = made.predict_with_uncertainty(image, channels=(1,))
    assert torch.equal(logits, expected)
    assert moments.shape == (2, *shape)


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize(("axes", "count"), [((0, 2), 1), ((), 3), ((0, 2), 3)])
def test_every_measure_is_that_of_all_samples_kept(regions, axes, count):
    image, members = torch.randn(1, *PATCH), [plain(3, seed) for seed in range(count)]
    samples = np.concatenate(
        [naive_samples(member, image, flips=flips_of(axes), regions=regions)[:, 2] for member in members]
    )
    made = observed(plain(3), entropy=True, axes=axes, regions=regions, members=members)
    mean, mean_square, mean_entropy = made.predict_with_uncertainty(image, channels=(2,))[1]
    for measure in MEASURES:
        found = uncertainty(measure, mean, mean_square=mean_square, mean_entropy=mean_entropy)
        expected = of_kept_samples(measure, samples)
        np.testing.assert_allclose(found, expected, atol=2e-6)
        assert expected.mean() > 1e-5


@pytest.mark.parametrize("channels", [(1, 2), (0, 2)])
def test_several_channels_are_sampled_as_one_probability(channels):
    image, members = torch.randn(1, *PATCH), [plain(3, seed) for seed in range(2)]
    samples = np.concatenate(
        [naive_samples(member, image, flips=flips_of((0, 2)), regions=False) for member in members]
    )[:, list(channels)].sum(1)
    made = observed(plain(3), entropy=True, axes=(0, 2), regions=False, members=members)
    mean, mean_square, mean_entropy = made.predict_with_uncertainty(image, channels=channels)[1]
    for measure in MEASURES:
        found = uncertainty(measure, mean, mean_square=mean_square, mean_entropy=mean_entropy)
        np.testing.assert_allclose(found, of_kept_samples(measure, samples), atol=2e-6)


def test_mirrored_images_do_not_differ_to_a_symmetric_network():
    mean, mean_square = observed(symmetric()).predict_with_uncertainty(torch.randn(1, *PATCH), channels=(1,))[1]
    assert (mean_square - mean**2).abs().max() < 1e-6


def test_dropouts_stay_off():
    network, image = dropping(), torch.randn(1, *PATCH)
    first = observed(network).predict_with_uncertainty(image, channels=(1,))
    second = observed(network).predict_with_uncertainty(image, channels=(1,))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
