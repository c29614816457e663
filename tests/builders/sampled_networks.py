"""Small networks and predictors to sample, and naive samples that keep everything in float64."""

from itertools import product
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

PATCH = (8, 8, 8)


def dropping(channels=2, seed=0):
    """An asymmetric network with one dropout."""
    torch.manual_seed(seed)
    parts = (nn.Conv3d(1, 8, 3, padding=1), nn.Dropout3d(0.3), nn.LeakyReLU(), nn.Conv3d(8, channels, 1))
    return nn.Sequential(*parts).eval()


def plain(channels=2, seed=0):
    """The same without dropout."""
    network = dropping(channels, seed)
    network[1].p = 0.0
    return network


def symmetric(channels=2):
    """One to which mirrored images are the same."""
    network = plain(channels)
    network[0].weight.data[:] = network[0].weight.data.mean((2, 3, 4), keepdim=True)
    return network


def initialized(made, network, *, regions=False, axes=(0, 1, 2), members=None):
    """A predictor with a network as nnU-Net's loading would leave it."""
    labels = SimpleNamespace(num_segmentation_heads=network[-1].out_channels, has_regions=regions)
    plans = SimpleNamespace(get_label_manager=lambda _: labels)
    states = [member.state_dict() for member in members or [network]]
    states = [{name: value.clone() for name, value in state.items()} for state in states]
    made.manual_initialization(network, plans, SimpleNamespace(patch_size=PATCH), states, {}, "test", axes)
    return made


def flips_of(axes):
    """Every subset of axes of (Z, Y, X), the last axis changing slowest."""
    return [
        tuple(axis for axis, up in zip(axes, reversed(choice), strict=True) if up)
        for choice in product((False, True), repeat=len(axes))
    ]


def naive_samples(network, image, *, flips=((),), passes=0, regions=False):
    """All samples (S, C, Z, Y, X) of one member and one window; T passes dealt out to the flips in turn."""
    network.eval()
    network[1].train(passes > 0)
    samples = []
    with torch.no_grad():
        for turn, flip in enumerate(flips):
            count = len(range(turn, passes, len(flips))) if passes else 1
            places = [axis + 2 for axis in flip]
            for _ in range(count):
                logits = torch.flip(network(torch.flip(image[None], places)), places)
                samples.append((torch.sigmoid(logits) if regions else torch.softmax(logits, 1))[0])
    network.eval()
    return torch.stack(samples).double().numpy() if samples else np.empty(0)
