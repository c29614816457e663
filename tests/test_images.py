"""Images on disk, good and bad."""

import gzip

import numpy as np
import pytest
import SimpleITK as sitk
from oriented_grids import grid_towards

from nnunet_cascade.errors import GridMismatchError, InputImageError
from nnunet_cascade.images import grid_of, read_ct, read_labels, read_volume, to_sitk, write_image


@pytest.fixture
def ct(rng):
    array = rng.integers(-1000, 300, (7, 6, 5)).astype(np.float32)
    array[:3] = -1000
    array[3:] = 40
    return array


def test_an_image_comes_back_with_its_grid(tmp_path, oriented_grid, ct):
    write_image(ct, oriented_grid, tmp_path / "a.nii.gz")
    volume = read_ct(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(volume.array, ct)
    assert oriented_grid.difference(volume.grid) is None


def test_the_grid_says_where_simpleitk_puts_a_voxel(oriented_grid, ct):
    image = to_sitk(ct, oriented_grid)
    np.testing.assert_allclose(image.TransformIndexToPhysicalPoint((4, 2, 1)), oriented_grid.world_mm((1, 2, 4)))
    assert grid_of(image) == oriented_grid


def test_nothing_is_left_beside_a_written_image(tmp_path, oriented_grid, ct):
    write_image(ct, oriented_grid, tmp_path / "a.nii.gz")
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii.gz"]


def test_a_folder_that_is_not_there_cannot_be_written(tmp_path, oriented_grid, ct):
    with pytest.raises(InputImageError, match="cannot be written"):
        write_image(ct, oriented_grid, tmp_path / "nowhere" / "a.nii.gz")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputImageError, match=r"a\.nii\.gz does not exist"):
        read_volume(tmp_path / "a.nii.gz")


def test_a_truncated_file_is_named(tmp_path, oriented_grid, ct):
    path = tmp_path / "a.nii.gz"
    write_image(ct, oriented_grid, path)
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:400]))
    with pytest.raises(InputImageError, match="truncated"):
        read_volume(path)


def test_a_file_that_is_no_image_is_named(tmp_path):
    path = tmp_path / "a.nii.gz"
    path.write_text("hello")
    with pytest.raises(InputImageError, match="cannot be read"):
        read_volume(path)


def test_four_dimensions_are_too_many(tmp_path):
    image = sitk.GetImageFromArray(np.zeros((2, 3, 4, 5), dtype=np.float32), isVector=False)
    sitk.WriteImage(image, str(tmp_path / "a.nii.gz"))
    with pytest.raises(InputImageError, match="three-dimensional"):
        read_volume(tmp_path / "a.nii.gz")


def test_nan_is_counted(tmp_path, oriented_grid, ct):
    ct[0, 0, :2] = np.nan
    write_image(ct, oriented_grid, tmp_path / "a.nii.gz")
    with pytest.raises(InputImageError, match="2 voxels are NaN"):
        read_volume(tmp_path / "a.nii.gz")


@pytest.mark.parametrize(
    ("scale", "shift", "word"), [(1e-3, 0.5, "not a CT"), (0.0, 40.0, "not a CT"), (100.0, 0.0, "out of the range")]
)
def test_what_is_no_ct_is_refused(tmp_path, oriented_grid, ct, scale, shift, word):
    write_image((ct * scale + shift).astype(np.float32), oriented_grid, tmp_path / "a.nii.gz")
    with pytest.raises(InputImageError, match=word):
        read_ct(tmp_path / "a.nii.gz")


def test_a_mask_on_another_grid_is_refused(tmp_path, ct):
    here, there = grid_towards("LPS", ct.shape), grid_towards("RAS", ct.shape)
    write_image(ct > 0, there, tmp_path / "a.nii.gz")
    with pytest.raises(GridMismatchError, match=r"lung mask .* is not on the image's grid"):
        read_labels(tmp_path / "a.nii.gz", here, what="lung mask")
