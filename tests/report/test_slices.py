"""Chosen slices of volumes: what they hold, and what is not read for them."""

import gzip
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from builders.dicom_downloads import ONE, write_subject
from builders.oriented_grids import ORIENTATIONS, grid_towards

from nnunet_cascade.dicom.ct import reading
from nnunet_cascade.errors import GridMismatchError, InputImageError
from nnunet_cascade.geometry import Grid
from nnunet_cascade.images import read_volume, write_image
from nnunet_cascade.report.figures.sources import read_grid, read_planes, read_scan_planes
from nnunet_cascade.scans.scans import Scan
from nnunet_cascade.scans.search import find_scans

SHAPE = (7, 6, 5)
PLACES = {0: [0, 2, 3, 6], 1: [1, 5], 2: [4]}


def written(path, dtype, code="LPS", seed=3):
    array = np.random.default_rng(seed).integers(0, 200, SHAPE).astype(dtype)
    write_image(array, grid_towards(code, SHAPE, (3.0, 1.5, 0.75)), path)
    return array


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32])
@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd"])
def test_planes_are_those_of_the_whole_array_in_its_own_type(tmp_path, axis, dtype, ending):
    path = tmp_path / f"map{ending}"
    array = written(path, dtype)
    planes = read_planes(path, axis, PLACES[axis])
    assert np.array_equal(planes, array.take(PLACES[axis], axis=axis))
    assert planes.dtype == (np.float32 if ending == ".nrrd" else dtype)


@pytest.mark.parametrize("code", ORIENTATIONS)
def test_the_grid_is_that_of_the_whole_reader(tmp_path, code):
    path = tmp_path / "map.nii.gz"
    written(path, np.uint8, code)
    assert read_volume(path).grid.difference(read_grid(path)) is None


def test_values_stored_scaled_are_scaled(tmp_path):
    path = tmp_path / "scaled.nii.gz"
    stored = np.arange(24, dtype=np.int16).reshape(4, 3, 2)
    image = nib.Nifti1Image(stored, np.eye(4))
    image.header.set_slope_inter(2.0, -1024.0)
    nib.save(image, path)
    assert np.array_equal(read_planes(path, 0, [1])[0], stored[..., 1].T * 2.0 - 1024.0)


def test_what_lies_behind_the_last_plane_is_not_read(tmp_path):
    path = tmp_path / "map.nii.gz"
    content = np.random.default_rng(0).integers(0, 255, (40, 64, 64), dtype=np.uint8)
    write_image(content, Grid(shape=content.shape, spacing_mm=(1.0, 1.0, 1.0)), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert np.array_equal(read_planes(path, 0, [3])[0], content[3])
    with pytest.raises(InputImageError, match="truncated"):
        read_planes(path, 0, [39])


def test_a_file_of_garbage_is_one_line_without_its_folder(tmp_path):
    path = tmp_path / "map.nii.gz"
    path.write_bytes(gzip.compress(b"no image at all"))
    for act in (lambda: read_grid(path), lambda: read_planes(path, 0, [0])):
        with pytest.raises(InputImageError) as raised:
            act()
        assert "map.nii.gz" in str(raised.value)
        assert str(tmp_path) not in str(raised.value)
        assert "\n" not in str(raised.value)


def test_values_that_are_not_finite_are_refused_where_they_are_read(tmp_path):
    path = tmp_path / "map.nii.gz"
    array = np.zeros((3, 4, 5), dtype=np.float32)
    array[2, 1, 1] = np.inf
    nib.save(nib.Nifti1Image(array.T, np.eye(4)), path)
    assert not read_planes(path, 0, [0, 1]).any()
    with pytest.raises(InputImageError, match="NaN or infinite"):
        read_planes(path, 0, [2])


def test_missing_files_and_four_dimensions_are_named(tmp_path):
    with pytest.raises(InputImageError, match=r"nothing\.nii\.gz does not exist"):
        read_planes(tmp_path / "nothing.nii.gz", 0, [0])
    path = tmp_path / "series.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3, 2), np.uint8), np.eye(4)), path)
    with pytest.raises(InputImageError, match="three-dimensional"):
        read_grid(path)


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """A regular DICOM series."""
    (scan,) = find_scans(write_subject(ONE.but(rois=()), tmp_path_factory.mktemp("series"))).values()
    return scan


@pytest.mark.parametrize("axis", [0, 1])
def test_planes_of_a_dicom_series_are_those_of_its_volume(series, axis):
    whole = series.read()
    planes = read_scan_planes(series, axis, [1, 4], grid=whole.grid)
    assert np.array_equal(planes, whole.array.take([1, 4], axis=axis))


def test_across_a_regular_series_only_the_files_of_the_planes_are_decoded(series, monkeypatch):
    decoded, read_slice = [], reading.read_slice
    monkeypatch.setattr(reading, "read_slice", lambda header: decoded.append(header) or read_slice(header))
    read_scan_planes(series, 0, [2, 5], grid=series.stacked().stack.grid)
    assert len(decoded) == 2


def test_planes_between_the_slices_of_a_gapped_series_are_interpolated(series):
    left_out = series.stacked().headers[4].path
    gapped = replace(series, slices=tuple(path for path in series.slices if path != left_out))
    whole = gapped.read()
    assert np.array_equal(read_scan_planes(gapped, 0, [4], grid=whole.grid)[0], whole.array[4])


def test_a_ct_on_another_grid_is_refused(series, tmp_path):
    elsewhere = Grid(shape=(8, 24, 24), spacing_mm=(3.0, 2.0, 2.0))
    path = tmp_path / "ct.nii.gz"
    write_image(np.zeros((8, 24, 23), np.int16), Grid(shape=(8, 24, 23), spacing_mm=(3.0, 2.0, 2.0)), path)
    for scan in (series, Scan(case="case", path=path)):
        with pytest.raises(GridMismatchError, match="the CT is not on the image's grid"):
            read_scan_planes(scan, 0, [0], grid=elsewhere)
