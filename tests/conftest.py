"""Builders that every folder of tests uses."""

import logging
import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from builders.oriented_grids import ORIENTATIONS, grid_towards
from builders.predicted_case import cascade, image, result, splits, truth  # noqa: F401 - fixtures of every folder
from builders.tiny_cascades import nnunet_root, tiny_cascade  # noqa: F401 - fixtures of every folder

# Before anything of nnU-Net is imported, whatever the caller exported: a worker takes longer to start than it has work
# here, one process draws, so that the same seed gives the same bits, and threads that wait leave the core to others.
os.environ.update(nnUNet_def_n_proc="1", nnUNet_n_proc_DA="0", OMP_WAIT_POLICY="passive")

# Whole modules about what an optional library writes.
collect_ignore = [] if find_spec("highdicom") else [
    "dicom/parametric_map", "dicom/seg/test_seg_reading.py", "dicom/seg/test_seg_writing.py", "dicom/sr",
    "dicom_export/test_dicom_export.py", "dicom_export/test_dicom_readers.py",
]  # fmt: skip


def pytest_collection_modifyitems(config, items):
    """Leave out the long acceptance runs unless `-m` names them, as `make test-long` does."""
    if "long" in (config.option.markexpr or ""):
        return
    left_out = [item for item in items if item.get_closest_marker("long")]
    items[:] = [item for item in items if item not in set(left_out)]
    config.hook.pytest_deselected(items=left_out)


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


@pytest.fixture
def logged(caplog, monkeypatch):
    """What the package logs, also after a command has set its own handler."""
    monkeypatch.setattr(logging.getLogger("nnunet_cascade"), "propagate", True)
    caplog.set_level(logging.INFO, logger="nnunet_cascade")
    return caplog
