"""Several samples of a window at once."""

import numpy as np
import pytest
import torch
from builders.sampled_networks import PATCH, dropping, initialized, naive_samples
from test_passes import unet
from torch import nn

from nnunet_cascade.uncertainty.passes import passes_of
from nnunet_cascade.uncertainty.predictor import Extras, MonteCarloPredictor
from nnunet_cascade.uncertainty.sample_masks import Decision
from nnunet_cascade.uncertainty.sampling import stochastic

CPU = torch.device("cpu")


def predicted(network, image, *, batch_size, samples=7, mirroring=False):
    extras = Extras(entropy=True, decision=Decision(1, 0.5))
    made = MonteCarloPredictor(
        mc_samples=samples, device=CPU, mirroring=mirroring, extras=extras, batch_size=batch_size
    )
    initialized(made, network, axes=(0, 2))
    torch.manual_seed(5)
    return made.predict_samples(image)


@pytest.mark.parametrize(("batch_size", "mirroring"), [(2, True), (3, False), (7, True), (50, False)])
def test_where_dropout_drops_nothing_a_batch_gives_what_the_loop_gives(batch_size, mirroring):
    network, image = dropping(), torch.randn(1, 11, 9, 8)
    network[1].p = 1e-12  # drops nothing worth mentioning, but is there
    one = predicted(network, image, batch_size=1, mirroring=mirroring)
    many = predicted(network, image, batch_size=batch_size, mirroring=mirroring)
    for name in ("mean", "mean_square", "mean_entropy"):
        np.testing.assert_allclose(getattr(many, name), getattr(one, name), atol=1e-6)
    assert many.sample_masks.samples_per_member == one.sample_masks.samples_per_member
    differing = np.unpackbits((many.sample_masks.planes ^ one.sample_masks.planes).numpy()).mean()
    assert differing < 1e-3  # where a probability is one half but for rounding


def test_each_sample_of_a_batch_draws_masks_of_its_own_with_the_moments_of_the_loop():
    network, image = dropping(), torch.randn(1, *PATCH)
    many = predicted(network, image, batch_size=40, samples=400)
    torch.manual_seed(1)
    samples = naive_samples(network, image, passes=400)
    mean, variance = samples.mean(0), samples.var(0)
    error = np.sqrt(2 * variance / 400)  # of the difference of two means
    assert np.abs(many.mean.numpy() - mean).max() < 6 * error.max()
    found = (many.mean_square - many.mean**2).numpy()
    assert found.mean() == pytest.approx(variance.mean(), rel=0.15)


@pytest.mark.parametrize("make", [unet, dropping], ids=["shared encoder", "whole network"])
def test_repeated_features_give_as_many_passes_as_samples(make):
    network, image = make(), torch.randn(1, 1, 16, 16, 16)
    for module in network.modules():
        if isinstance(module, nn.Dropout3d) and module.p:
            module.p = 1e-12
    passes = passes_of(network)
    with stochastic(network), torch.inference_mode():
        features = passes.features(image)
        one = passes.run(features)
        many = passes.run(passes.repeated(features, 3))
    for alone, together in zip(one, many, strict=True):
        assert together.shape == (3, *alone.shape[1:])
        for sample in together.split(1):
            torch.testing.assert_close(sample, alone, atol=1e-5, rtol=0)
