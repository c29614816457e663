"""MONAI's networks as nnU-Net wants them: logits on the patch's grid, dropout where asked, nothing idle."""

import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.networks.backbones import BACKBONES, BackboneRequest
from nnunet_cascade.networks.dropout import dropout_modules
from nnunet_cascade.uncertainty.sampling import Moments, stochastic

NAMES = sorted(BACKBONES)


def build(name, patch_size=None, *, seed=0, **options):
    torch.manual_seed(seed)
    patch_size = patch_size or (BACKBONES[name].patch_minimum,) * 3
    asked = {"input_channels": 1, "output_channels": 2, "size": "tiny", "patch_size": patch_size, **options}
    return BACKBONES[name].build(BackboneRequest(**asked))


def image(name, seed=0):
    side = BACKBONES[name].patch_minimum
    return torch.randn(1, 1, side, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", NAMES)
def test_logits_lie_on_the_grid_of_an_anisotropic_patch(name):
    least, step = BACKBONES[name].patch_minimum, BACKBONES[name].patch_multiple
    patch = (least, least + step, least)
    network = build(name, patch, input_channels=2, output_channels=3).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 2, *patch)).shape == (1, 3, *patch)


@pytest.mark.parametrize(
    ("name", "dropouts"),
    [
        ("swin_unetr", 1 + 8 * 2),  # after the patch embedding; in each block after attention, one for the MLP
        ("unetr", 1 + 12 * 4),  # after the patch embedding; in each block attention, its output and twice the MLP
        ("segresnet", 1),  # after the first convolution
        ("attention_unet", 5 * 2 + 4),  # in each convolution down, and where levels merge
    ],
)
def test_dropouts_are_those_of_the_architecture_and_none_without_dropout(name, dropouts):
    assert len(dropout_modules(build(name, dropout=0.1))) == dropouts
    assert not dropout_modules(build(name, dropout=0.0))


@pytest.mark.parametrize("name", NAMES)
def test_every_dropout_runs_in_a_stochastic_pass_and_the_variance_is_not_near_zero(name):
    # Fast attention may skip its dropout where no gradient is wanted.
    network, seen, moments = build(name, dropout=0.1), set(), Moments()
    for module in dropout_modules(network):
        module.register_forward_hook(lambda module, _, __: seen.add(module))
    with torch.no_grad(), stochastic(network):
        for _ in range(2):
            moments.add(torch.softmax(network(image(name)), 1))
    assert seen == set(dropout_modules(network))
    assert float(moments.variance().mean()) > 5e-5


@pytest.mark.parametrize("name", NAMES)
def test_a_rebuilt_network_takes_the_weights_and_predicts_the_same_and_its_last_layer_is_linear(name):
    network, rebuilt = build(name, seed=1).eval(), build(name, seed=2, dropout=0.1).eval()
    copied = pickle.loads(pickle.dumps(network))  # noqa: S301 - our own bytes
    rebuilt.load_state_dict(copied.state_dict(), strict=True)
    last = [module for module in network.modules() if isinstance(module, nn.Conv3d)][-1]
    with torch.inference_mode():
        logits = network(image(name))
        assert torch.equal(rebuilt(image(name)), logits)
        last.weight *= 8
        last.bias *= 8
        assert torch.allclose(network(image(name)), 8 * logits, rtol=1e-4, atol=1e-5)
    assert logits.min() < 0 < logits.max()


@pytest.mark.parametrize("name", NAMES)
def test_in_training_every_weight_gets_a_gradient_at_the_smallest_patch_and_nothing_is_random(name):
    # Distributed training stops at weights without.
    network = build(name).train()
    logits = network(image(name))
    with torch.no_grad():
        assert torch.equal(network(image(name)), logits)
    logits.square().mean().backward()
    assert [key for key, weight in network.named_parameters() if weight.grad is None] == []


@pytest.mark.parametrize("name", ["attention_unet", "swin_unetr"])
def test_a_patch_below_the_minimum_would_break_a_normalization(name):
    side = BACKBONES[name].patch_minimum - BACKBONES[name].patch_multiple
    request = BackboneRequest(input_channels=1, output_channels=2, patch_size=(side,) * 3, size="tiny")
    with pytest.raises(ValueError, match="more than 1"):
        BACKBONES[name].builder(request).train()(torch.zeros(1, 1, side, side, side))


@pytest.mark.parametrize("name", NAMES)
def test_an_illegal_patch_is_refused_with_the_next_legal_one(name):
    with pytest.raises(SettingsError, match=r"found \(64, 65, 64\).*use \(64, (72|80|96), 64\)"):
        build(name, (64, 65, 64))


@pytest.mark.parametrize(
    "wrong", [{"input_channels": 0}, {"output_channels": 0}, {"size": "small"}, {"dropout": 1.0}, {"dropout": -0.1}]
)
def test_a_request_out_of_range_is_refused(wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        build("unetr", **wrong)


@pytest.mark.parametrize("name", NAMES)
def test_the_encoders_keys_are_told_from_the_decoders(name):
    keys, prefixes = list(build(name).state_dict()), BACKBONES[name].encoder_prefix
    assert all(any(key.startswith(prefix) for key in keys) for prefix in prefixes)
    encoder = [key for key in keys if key.startswith(prefixes)]
    rest = [key for key in keys if not key.startswith(prefixes)]
    foreign = ("decoder", "up_", "upconv", "merge", "attention", "conv_final", "out.")
    assert not [key for key in encoder if any(part in key for part in foreign)]
    assert rest


@pytest.mark.parametrize(
    ("name", "millions"), [("swin_unetr", 62.2), ("unetr", 92.7), ("segresnet", 18.8), ("attention_unet", 23.6)]
)
def test_paper_sized_networks_have_the_published_number_of_weights(name, millions):
    with torch.device("cpu" if name == "swin_unetr" else "meta"):  # which builds it by numbers of its tensors
        network = build(name, (64, 64, 64), size="paper")
    weights = sum(weight.numel() for weight in network.parameters())
    assert weights / 1e6 == pytest.approx(millions, abs=0.05)


def test_asking_for_the_names_does_not_import_monai():
    script = "import sys, nnunet_cascade.networks.backbones; sys.exit('monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
