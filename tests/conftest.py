"""Builders that every folder of tests uses."""

import os
from pathlib import Path

import numpy as np
import pytest
from oriented_grids import ORIENTATIONS, grid_towards
from tiny_cascades import nnunet_root, tiny_cascade  # noqa: F401 - fixtures of every folder

# Before anything of nnU-Net is imported: two cores, not eight workers; whatever the caller exported.
os.environ.setdefault("nnUNet_def_n_proc", "2")
os.environ.update(nnUNet_n_proc_DA="0")  # one process draws, so that the same seed gives the same bits


@pytest.fixture(params=ORIENTATIONS)
def oriented_grid(request):
    """An anisotropic grid in one of several orientations."""
    return grid_towards(request.param, (7, 6, 5), (3.0, 1.5, 0.75))


@pytest.fixture(scope="session")
def real_data():
    """The folder of real CTs, which are no part of the project."""
    folder = os.environ.get("NNC_REAL_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("NNC_REAL_DATA names no folder of real CTs")
    return Path(folder)


@pytest.fixture
def rng():
    return np.random.default_rng(11)
