"""Stochastic passes that compute once what no dropout can change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from dynamic_network_architectures.building_blocks.plain_conv_encoder import PlainConvEncoder
from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder
from dynamic_network_architectures.building_blocks.unet_decoder import UNetDecoder
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage] - their one common base

from nnunet_cascade.networks.dropout import dropout_modules

Outputs = list[torch.Tensor]
"""Logits of each resolution, finest first."""


class StochasticPasses:
    """Passes through a network, whole ones: what to do where nothing is known about it.

    `features` is what all passes over an image share; `run` begins there.

    Args:
        network: Of any kind.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def features(self, image: torch.Tensor) -> Any:
        """Return what all passes over an image (B, C, Z, Y, X) share."""
        return image

    def detached(self, features: Any) -> Any:
        """Return features without their graph, for samples that want no gradient."""
        return features.detach()

    def repeated(self, features: Any, count: int) -> Any:
        """Return the features of one image (1, …) for that many passes at once, each a sample of its own."""
        return features.expand(count, *features.shape[1:])

    def run(self, features: Any) -> Outputs:
        """Run one pass; which dropouts drop, and whether a gradient is wanted, is the caller's to switch."""
        return as_outputs(self.network(features))


@dataclass(frozen=True, slots=True)
class _UNetFeatures:
    """The deterministic part of a U-Net.

    Attributes:
        deepest: Input of the last encoder stage.
        skip_terms: For each decoder stage, coarsest first, its first convolution applied to the skip.
    """

    deepest: torch.Tensor
    skip_terms: tuple[torch.Tensor, ...]


class UNetPasses(StochasticPasses):
    """Passes through a U-Net whose dropouts lie in its last encoder stage and its decoder.

    The encoder's other stages run once for any number of passes, the one with gradient
    included. So does the skips' share of the decoder: a convolution of two inputs side by
    side is the sum of a convolution of each.

    Args:
        network: With an encoder and a decoder of dynamic-network-architectures.
        compiled: Whether to compile the two parts with torch.compile.
    """

    def __init__(self, network: nn.Module, *, compiled: bool = False) -> None:
        super().__init__(network)
        parts = cast(Any, network)
        self._encoder: Any = parts.encoder
        self._decoder: Any = parts.decoder
        self._encode: Any = torch.compile(self._deterministic_part) if compiled else self._deterministic_part
        self._decode: Any = torch.compile(self._stochastic_part) if compiled else self._stochastic_part

    def features(self, image: torch.Tensor) -> _UNetFeatures:
        """Run the encoder up to its last stage, and the decoder's first convolutions on the skips."""
        return _UNetFeatures(*self._encode(image))

    def detached(self, features: _UNetFeatures) -> _UNetFeatures:
        """Return the features without their graph."""
        return _UNetFeatures(features.deepest.detach(), tuple(term.detach() for term in features.skip_terms))

    def repeated(self, features: _UNetFeatures, count: int) -> _UNetFeatures:
        """Return the features for that many passes at once; the skips' terms are added to all of them as they are."""
        return _UNetFeatures(super().repeated(features.deepest, count), features.skip_terms)

    def run(self, features: _UNetFeatures) -> Outputs:
        """Run the last encoder stage and the decoder."""
        return self._decode(features.deepest, features.skip_terms)

    def _deterministic_part(self, image: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        x = image if getattr(self._encoder, "stem", None) is None else self._encoder.stem(image)
        skips: list[torch.Tensor] = []
        for stage in self._encoder.stages[:-1]:
            x = stage(x)
            skips.append(x)
        terms = [
            _partial_convolution(stage.convs[0].conv, skip, of_skip=True)
            for stage, skip in zip(self._decoder.stages, reversed(skips), strict=True)
        ]
        return x, tuple(terms)

    def _stochastic_part(self, deepest: torch.Tensor, skip_terms: tuple[torch.Tensor, ...]) -> Outputs:
        x = self._encoder.stages[-1](deepest)
        decoder = self._decoder
        outputs: Outputs = []
        last = len(decoder.stages) - 1
        for place, (stage, term) in enumerate(zip(decoder.stages, skip_terms, strict=True)):
            first, *others = stage.convs
            x = _partial_convolution(first.conv, decoder.transpconvs[place](x), of_skip=False) + term
            for module in (*first.all_modules[1:], *others):
                x = module(x)
            if decoder.deep_supervision:
                outputs.append(decoder.seg_layers[place](x))
            elif place == last:
                outputs.append(decoder.seg_layers[-1](x))
        return outputs[::-1]


def passes_of(network: nn.Module) -> StochasticPasses:
    """Return the cheapest passes that are right for a network, compiled if the network is.

    A U-Net of nnU-Net's plans whose dropouts lie in bottleneck and decoder shares what lies before; any other
    network runs as a whole.
    """
    plain = getattr(network, "_orig_mod", network)  # what torch.compile wraps
    encoder, decoder = getattr(plain, "encoder", None), getattr(plain, "decoder", None)
    if not isinstance(encoder, (PlainConvEncoder, ResidualEncoder)) or not isinstance(decoder, UNetDecoder):
        return StochasticPasses(network)
    stages = list(encoder.stages)
    stem = [encoder.stem] if getattr(encoder, "stem", None) is not None else []
    is_random_early = any(dropout_modules(cast(nn.Module, part)) for part in (*stem, *stages[:-1]))
    # Statistics of the batch in the gradient's pass, running ones in the samples: features would differ.
    has_batch_norm = any(isinstance(module, _BatchNorm) and module.track_running_stats for module in plain.modules())
    if is_random_early or has_batch_norm or len(stages) < 2:
        return StochasticPasses(network)
    return UNetPasses(plain, compiled=plain is not network)


def as_outputs(value: Any) -> Outputs:
    """Return the output of a network, deeply supervised or not, as a list."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _partial_convolution(convolution: Any, x: torch.Tensor, *, of_skip: bool) -> torch.Tensor:
    """Apply the part of a convolution that belongs to the skip (with the bias), or to the upsampled input.

    In the decoder the upsampled input comes first, and both have equally many channels.
    """
    half = convolution.in_channels // 2
    weight = convolution.weight[:, half:] if of_skip else convolution.weight[:, :half]
    bias = convolution.bias if of_skip else None
    apply = nn.functional.conv3d if weight.ndim == 5 else nn.functional.conv2d
    return apply(x, weight, bias, convolution.stride, convolution.padding, convolution.dilation)


def probabilities(outputs: Sequence[torch.Tensor], *, regions: bool) -> Outputs:
    """Return logits as probabilities in float32, without gradient: sigmoid of regions, else softmax."""
    logits = [output.detach().float() for output in outputs]
    return [torch.sigmoid(x) if regions else torch.softmax(x, 1) for x in logits]


def joint_probability(probabilities: torch.Tensor, channels: Sequence[int]) -> torch.Tensor:
    """Return the probability of some labels together.

    Args:
        probabilities: (C, Z, Y, X), of labels that exclude each other, or of regions.
        channels: Of the labels, at least one; of regions, exactly one.

    Returns:
        (Z, Y, X), the sum, at most 1; of one channel a view.
    """
    if len(channels) == 1:
        return probabilities[channels[0]]
    return probabilities[list(channels)].sum(0).clamp_(max=1)
