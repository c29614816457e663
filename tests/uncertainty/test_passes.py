"""Passes that compute the deterministic part once are the passes of the whole network."""

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import nn

from nnunet_cascade.networks.dropout import confine_dropout
from nnunet_cascade.uncertainty.passes import StochasticPasses, UNetPasses, as_outputs, passes_of, probabilities
from nnunet_cascade.uncertainty.sampling import Moments, stochastic

SAMPLES = 5


def unet(
    kind=PlainConvUNet, *, placement="bottleneck_decoder", deep_supervision=True, convolution=nn.Conv3d, bias=True
):
    torch.manual_seed(3)
    three = convolution is nn.Conv3d
    counts = {"n_blocks_per_stage": [1, 2, 1]} if kind is ResidualEncoderUNet else {"n_conv_per_stage": [1, 2, 2]}
    network = kind(
        input_channels=1,
        n_stages=3,
        features_per_stage=[4, 8, 8],
        conv_op=convolution,
        kernel_sizes=[3, 3, 3],
        strides=[1, 2, 2],
        n_conv_per_stage_decoder=[2, 1],
        num_classes=2,
        conv_bias=bias,
        norm_op=nn.InstanceNorm3d if three else nn.InstanceNorm2d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        dropout_op=nn.Dropout3d if three else nn.Dropout2d,
        dropout_op_kwargs={"p": 0.3},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=deep_supervision,
        **counts,
    )
    confine_dropout(network, placement)
    return network


def image(dimensions=3):
    return torch.randn((2, 1, *(16,) * dimensions), generator=torch.Generator().manual_seed(1))


def variances(network, passes, x):
    torch.manual_seed(11)
    moments = None
    with torch.no_grad(), stochastic(network):
        prepared = passes.detached(passes.features(x))
        for _ in range(SAMPLES):
            sampled = probabilities(passes.run(prepared), regions=False)
            moments = moments or [Moments() for _ in sampled]
            for moment, probability in zip(moments, sampled, strict=True):
                moment.add(probability)
    return [moment.variance() for moment in moments]


CASES = [
    {"kind": PlainConvUNet},
    {"kind": ResidualEncoderUNet},
    {"kind": PlainConvUNet, "deep_supervision": False},
    {"kind": PlainConvUNet, "convolution": nn.Conv2d},
    {"kind": PlainConvUNet, "bias": False},
]


@pytest.mark.parametrize("case", CASES)
def test_with_the_same_seed_the_variance_is_that_of_whole_passes(case):
    network = unet(**case)
    x = image(2 if case.get("convolution") is nn.Conv2d else 3)
    assert isinstance(passes_of(network), UNetPasses)
    shared, whole = variances(network, passes_of(network), x), variances(network, StochasticPasses(network), x)
    assert len(shared) == len(whole) == (1 if case.get("deep_supervision") is False else 2)
    for one, other in zip(shared, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)  # float32 keeps 1e-7 of each moment
        assert other.mean() > 1e-4


@pytest.mark.parametrize("case", CASES)
def test_a_pass_with_gradient_gives_the_networks_own_outputs_and_gradients(case):
    network = unet(**case).train()
    x = image(2 if case.get("convolution") is nn.Conv2d else 3)

    def gradients(outputs_of):
        network.zero_grad()
        torch.manual_seed(5)
        outputs = outputs_of()
        sum(output.square().sum() for output in outputs).backward()
        return outputs, {name: value.grad for name, value in network.named_parameters() if value.grad is not None}

    passes = passes_of(network)
    mine, my_gradients = gradients(lambda: passes.run(passes.features(x)))
    theirs, their_gradients = gradients(lambda: as_outputs(network(x)))
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert my_gradients.keys() == their_gradients.keys()
    for name, value in my_gradients.items():
        scale = float(their_gradients[name].abs().max())
        # of a bias before a normalization there is nothing but rounding
        torch.testing.assert_close(value, their_gradients[name], rtol=1e-3, atol=1e-4 * scale + 5e-3)


def test_preparing_and_sampling_keep_no_graph():
    network = unet()
    passes = passes_of(network)
    features = passes.features(image())
    with torch.no_grad(), stochastic(network):
        outputs = passes.run(passes.detached(features))
    assert not any(output.requires_grad for output in outputs)
    assert features.skip_terms[0].requires_grad


@pytest.mark.parametrize(
    "network", [unet(placement="everywhere"), nn.Sequential(nn.Conv3d(1, 2, 1), nn.Dropout3d(0.5))]
)
def test_a_network_that_is_random_from_the_start_runs_whole(network):
    assert type(passes_of(network)) is StochasticPasses
