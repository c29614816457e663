"""Measures of uncertainty, from the streamed moments of samples; entropies in nats."""

from __future__ import annotations

import torch

from nnunet_cascade.uncertainty_measures import Measure


def binary_entropy(probability: torch.Tensor) -> torch.Tensor:
    """Return the entropy of a yes-or-no decision, channel by channel.

    Of a softmax this is the entropy of one class against all others together; of two
    classes it is the entropy of the softmax itself.

    Args:
        probability: Any shape, 0 to 1; beyond, where a blended mean may lie by a rounding error, counts as 0 or 1.

    Returns:
        The same shape, in nats, 0 to ln 2; 0 if the probability is 0 or 1.
    """
    inside = probability.clamp(0, 1)
    return torch.special.entr(inside) + torch.special.entr(1 - inside)


def uncertainty(
    measure: Measure, mean: torch.Tensor, *, mean_square: torch.Tensor, mean_entropy: torch.Tensor | None = None
) -> torch.Tensor:
    """Make a measure of the moments of samples.

    Args:
        measure: Which one.
        mean: Mean of the samples' probabilities, any shape.
        mean_square: Mean of their squares.
        mean_entropy: Mean of their binary entropies; needed for mutual information alone.

    Returns:
        The same shape, at least 0. Of one sample, or of equal ones, variance and mutual information are 0.

    Raises:
        ValueError: Mutual information without the mean entropy.

    Source:
        Gal, Islam, Ghahramani, Deep Bayesian Active Learning with Image Data, ICML 2017, section 4.
    """
    if measure == "variance":
        return (mean_square - mean**2).clamp_min(0)
    entropy = binary_entropy(mean)
    if measure == "predictive_entropy":
        return entropy
    if mean_entropy is None:
        raise ValueError("mutual information needs the mean of the samples' entropies; stream it with the moments")
    return (entropy - mean_entropy).clamp_min(0)
