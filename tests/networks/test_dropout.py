"""Where dropout is, and where it is not."""

import pytest
import torch
from builders.small_unets import SMALL_UNETS, UNET
from torch import nn

from nnunet_cascade.errors import DropoutError
from nnunet_cascade.networks.dropout import confine_dropout, dropout_modules, require_dropout, with_dropout
from nnunet_cascade.uncertainty.sampling import Moments, stochastic

KINDS = tuple(SMALL_UNETS.values())
for_both = pytest.mark.parametrize(("kind", "extra"), KINDS, ids=SMALL_UNETS)


def build(kind, extra, probability=0.2):
    kwargs = with_dropout({**UNET, **extra}, probability=probability, dimensions=3)
    return kind(input_channels=1, num_classes=2, **{**kwargs, "dropout_op": nn.Dropout3d})


@for_both
def test_confined_dropout_is_random_but_leaves_the_encoder_up_to_its_last_stage_deterministic(kind, extra):
    net, moments = build(kind, extra).eval(), Moments()
    before = len(dropout_modules(net))
    confine_dropout(net, "everywhere")
    assert len(dropout_modules(net)) == before
    confine_dropout(net, "bottleneck_decoder")
    image = torch.ones(1, 1, 16, 16, 16) * torch.linspace(-1, 1, 16)
    with torch.no_grad(), stochastic(net):
        first, second = net.encoder(image), net.encoder(image)
        for _ in range(6):
            moments.add(torch.softmax(net(image), 1))
    assert all(torch.equal(a, b) for a, b in zip(first[:-1], second[:-1], strict=True))
    assert not torch.equal(first[-1], second[-1]), "the bottleneck is stochastic"
    assert 0 < len(dropout_modules(net.decoder)) < before
    assert float(moments.variance().mean()) > 1e-5


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: confine_dropout(nn.Sequential(nn.Dropout3d(0.1)), "bottleneck_decoder"), "everywhere"),
        (lambda: with_dropout({"n_stages": 3}, probability=0.1, dimensions=3), "dropout_op"),
        (lambda: require_dropout(nn.Sequential(nn.Dropout3d(0.0))), ""),
    ],
    ids=["no stages to confine it to", "no dropout in the architecture", "a probability of zero"],
)
def test_a_network_without_the_dropout_that_is_needed_is_refused(act, message):
    with pytest.raises(DropoutError, match=message or None):
        act()
