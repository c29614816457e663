"""Downloads to convert."""

import pytest
from builders.dicom_downloads import GAPPED, ONE, THREE, convert, write_download
from builders.placed_series import as_read, axial_grid, placed_grid, series_of, write_slices  # noqa: F401 - fixtures


@pytest.fixture(scope="session")
def download(tmp_path_factory):
    """Three patients, one of them with a gap and a SEG. To be left as it is."""
    return write_download([ONE, GAPPED, THREE], tmp_path_factory.mktemp("download"))


@pytest.fixture(scope="session")
def reference(download, tmp_path_factory):
    """What comes out of it."""
    dataset = tmp_path_factory.mktemp("reference") / "Dataset501_X"
    assert convert(download, dataset).left_out == ()
    return dataset


@pytest.fixture
def dataset(tmp_path):
    """Where a test converts to; not yet there."""
    return tmp_path / "nnUNet_raw" / "Dataset501_X"
