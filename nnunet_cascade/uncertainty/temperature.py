"""Temperature scaling of a tumor probability."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit

from nnunet_cascade.geometry import Image

_HALF = np.float32(0.5)


def with_temperature(probability: Image, temperature: float) -> Image:
    """Return sigmoid(logit(p) / T).

    Args:
        probability: Any shape, 0 to 1. Left unchanged.
        temperature: T, positive. Above 1 probabilities move towards one half.

    Returns:
        float32, the same shape, in the same order. 0, one half and 1 stay, and no value changes
        sides at one half, also not by rounding: a mask of threshold 0.5 is the same.

    Source:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2, for two classes.
    """
    if temperature == 1:
        return probability
    scaled = np.asarray(expit(logit(probability.astype(np.float64)) / temperature), dtype=np.float32)
    return np.where(probability < _HALF, np.minimum(scaled, np.nextafter(_HALF, np.float32(0))), scaled)


def unscaled(probability: float, temperature: float) -> float:
    """Return the probability that `with_temperature` carries to this one."""
    return probability if temperature == 1 else float(expit(temperature * logit(probability)))
