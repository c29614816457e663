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
        self.count = 0
        self._with_entropy = with_entropy
        self._sum: torch.Tensor | None = None
        self._sum_of_squares: torch.Tensor | None = None
        self._sum_of_entropies: torch.Tensor | None = None

    def add(self, sample: torch.Tensor) -> None:
        """Take in one sample; it is read in float32 and not kept."""
        sample = sample.detach().float()
        if self._sum is None or self._sum_of_squares is None:
            self._sum, self._sum_of_squares = torch.zeros_like(sample), torch.zeros_like(sample)
        self._sum += sample
        self._sum_of_squares += sample * sample
        if self._with_entropy:
            entropy = binary_entropy(sample)
            self._sum_of_entropies = entropy if self._sum_of_entropies is None else self._sum_of_entropies + entropy
        self.count += 1

    def mean(self) -> torch.Tensor:
        """Return the mean; at least one sample is needed."""
        return self._totals()[0] / self.count

    def mean_square(self) -> torch.Tensor:
        """Return the mean of the squares; at least one sample is needed."""
        return self._totals()[1] / self.count

    def mean_entropy(self) -> torch.Tensor | None:
        """Return the mean of the binary entropies in nats, or None if they were not summed."""
        return None if self._sum_of_entropies is None else self._sum_of_entropies / self.count

    def variance(self) -> torch.Tensor:
        """Return the population variance, at least 0 and 0 for one sample."""
        return (self.mean_square() - self.mean() ** 2).clamp_min(0)

    def means(self) -> tuple[torch.Tensor, ...]:
        """Return the means of the samples, of their squares and, where summed, of their entropies."""
        entropy = self.mean_entropy()
        return (self.mean(), self.mean_square(), *(() if entropy is None else (entropy,)))

    def _totals(self) -> tuple[torch.Tensor, torch.Tensor]:
        if self._sum is None or self._sum_of_squares is None:
            raise ValueError("the moments of no sample are undefined; add one first")
        return self._sum, self._sum_of_squares
