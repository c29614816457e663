"""Stochastic forward passes: what is random, for how long, and what is kept of it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import nn

from nnunet_cascade.networks.dropout import dropout_modules, require_dropout
from nnunet_cascade.uncertainty.measures import binary_entropy


@contextmanager
def evaluating(network: nn.Module) -> Generator[None, None, None]:
    """Let a network predict as in evaluation; every module's mode is restored at the end, also after an error."""
    modes = [(module, module.training) for module in network.modules()]
    try:
        network.eval()
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def stochastic(network: nn.Module) -> Generator[None, None, None]:
    """Switch on exactly the dropouts of a network; everything else predicts as in evaluation.

    Every module's mode is restored at the end, also after an error, so a training
    step can sample in the middle of an epoch.

    Raises:
        DropoutError: The network has no active dropout.
    """
    require_dropout(network)
    with evaluating(network):
        for module in dropout_modules(network):
            module.train()
        yield


class Moments:
    """Running mean and population variance of equally shaped tensors, in float32.

    Two tensors are kept whatever the number of samples, three with entropies.

    Args:
        with_entropy: Whether to sum the samples' binary entropies too; they must then be probabilities.
    """

    def __init__(self, *, with_entropy: bool = False) -> None:
        self._count = 0
        self._with_entropy = with_entropy
        self._sums: list[torch.Tensor] = []

    def add(self, sample: torch.Tensor) -> None:
        """Take in one sample; it is read in float32 and not kept."""
        sample = sample.detach().float()
        terms = [sample, sample * sample, *([binary_entropy(sample)] if self._with_entropy else [])]
        self._sums = self._sums or [torch.zeros_like(sample) for _ in terms]
        for total, term in zip(self._sums, terms, strict=True):
            total.add_(term)
        self._count += 1

    def means(self) -> tuple[torch.Tensor, ...]:
        """Return the means of the samples, of their squares and, where summed, of their entropies in nats.

        Raises:
            ValueError: There is no sample.
        """
        if not self._sums:
            raise ValueError("the moments of no sample are undefined; add one first")
        return tuple(total / self._count for total in self._sums)

    def variance(self) -> torch.Tensor:
        """Return the population variance, at least 0 and 0 for one sample."""
        mean, mean_square, *_ = self.means()
        return (mean_square - mean**2).clamp_min(0)
