"""Where dropout is, and where it is not."""

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import nn

from nnunet_cascade.errors import DropoutError
from nnunet_cascade.networks.dropout import confine_dropout, dropout_modules, require_dropout, with_dropout
from nnunet_cascade.uncertainty.sampling import Moments, stochastic

COMMON = {
    "n_stages": 3,
    "features_per_stage": [4, 8, 16],
    "conv_op": nn.Conv3d,
    "kernel_sizes": 3,
    "strides": [1, 2, 2],
    "n_conv_per_stage_decoder": [2, 2],
    "conv_bias": True,
    "norm_op": nn.InstanceNorm3d,
    "norm_op_kwargs": {"affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": nn.LeakyReLU,
}
KINDS = [(PlainConvUNet, {"n_conv_per_stage": [2, 2, 2]}), (ResidualEncoderUNet, {"n_blocks_per_stage": [1, 1, 1]})]


def build(kind, extra, probability=0.2):
    kwargs = with_dropout({**COMMON, **extra}, probability=probability, dimensions=3)
    return kind(input_channels=1, num_classes=2, **{**kwargs, "dropout_op": nn.Dropout3d})


@pytest.mark.parametrize(("kind", "extra"), KINDS)
def test_dropout_adds_no_weights(kind, extra):
    plain, stochastic_one = kind(input_channels=1, num_classes=2, **COMMON, **extra), build(kind, extra)
    assert [p.shape for p in plain.parameters()] == [p.shape for p in stochastic_one.parameters()]


@pytest.mark.parametrize(("kind", "extra"), KINDS)
def test_confined_dropout_leaves_the_encoder_but_its_last_stage_deterministic(kind, extra):
    net = build(kind, extra).eval()
    confine_dropout(net, "bottleneck_decoder")
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad(), stochastic(net):
        first, second = net.encoder(image), net.encoder(image)
    assert all(torch.equal(a, b) for a, b in zip(first[:-1], second[:-1], strict=True))
    assert dropout_modules(net.decoder)


@pytest.mark.parametrize(("kind", "extra"), KINDS)
def test_the_variance_of_a_network_with_dropout_is_not_near_zero(kind, extra):
    net = build(kind, extra).eval()
    confine_dropout(net, "bottleneck_decoder")
    moments = Moments()
    with torch.no_grad(), stochastic(net):
        for _ in range(20):
            moments.add(torch.softmax(net(torch.ones(1, 1, 16, 16, 16) * torch.linspace(-1, 1, 16)), 1))
    assert float(moments.variance().mean()) > 1e-5


def test_placement_everywhere_changes_nothing():
    net = build(*KINDS[0])
    before = len(dropout_modules(net))
    confine_dropout(net, "everywhere")
    assert len(dropout_modules(net)) == before > 0


def test_a_network_without_stages_cannot_be_confined():
    with pytest.raises(DropoutError, match="everywhere"):
        confine_dropout(nn.Sequential(nn.Dropout3d(0.1)), "bottleneck_decoder")


def test_an_architecture_without_dropout_is_refused():
    with pytest.raises(DropoutError, match="dropout_op"):
        with_dropout({"n_stages": 3}, probability=0.1, dimensions=3)


def test_a_dropout_of_probability_zero_is_none():
    with pytest.raises(DropoutError):
        require_dropout(nn.Sequential(nn.Dropout3d(0.0)))
