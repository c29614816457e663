from functools import cache

import numpy as np
import pytest

from nnunet_cascade.phantom.settings import PhantomSettings
from nnunet_cascade.phantom.thorax import make_phantom


@pytest.fixture(scope="session")
def phantom_of():
    """Make a phantom of 6 mm voxels without noise unless told otherwise: `phantom_of(seed, tumors=(1, 1))`."""

    @cache
    def build(seed, **changes):
        return make_phantom(seed, PhantomSettings(**{"spacing_mm": (6.0, 6.0, 6.0), "noise_hu": 0.0, **changes}))

    return build


@pytest.fixture(scope="session")
def as_lps():
    """Turn an array to (Z, Y, X) with indices growing to the head, the back and the left: `as_lps(array, grid)`."""

    def build(array, grid):
        found = [grid.array_axis(name) for name in ("foot-head", "front-back", "left-right")]
        turned = array.transpose([axis for axis, _ in found])
        return np.flip(turned, [target for target, (_, sign) in enumerate(found) if sign < 0])

    return build


@pytest.fixture(scope="session")
def litres_of():
    """Give the volume of a mask in litres: `litres_of(mask, grid)`."""
    return lambda mask, grid: np.count_nonzero(mask) * grid.voxel_volume_mm3 / 1e6
