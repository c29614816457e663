import numpy as np
import pytest
from scipy.special import expit, logit

from nnunet_cascade.evaluation.calibration.counts import count_voxels


@pytest.fixture
def calibrated(rng):
    """Draw probabilities and truth that keep them: `calibrated(n)`; with `sharpness` 2, logits that promise twice."""

    def build(n, *, sharpness=1.0, seed=None):
        source = rng if seed is None else np.random.default_rng(seed)
        probability = expit(source.normal(-1, 2.5, n))
        truth = source.random(n) < probability
        return expit(sharpness * logit(probability)), truth

    return build


@pytest.fixture
def counted(calibrated):
    """Count such voxels."""

    def build(n, **changed):
        return count_voxels(*calibrated(n, **changed))

    return build
