"""Images on disk, good and bad."""

import gzip
import struct

import numpy as np
import pytest
import SimpleITK as sitk
from builders.oriented_grids import grid_towards

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


def test_a_ct_of_16_bits_stays_as_its_file_holds_it(tmp_path, oriented_grid, ct):
    write_image(ct.astype(np.int16), oriented_grid, tmp_path / "a.nii.gz")
    assert read_ct(tmp_path / "a.nii.gz").array.dtype == np.int16
    assert read_volume(tmp_path / "a.nii.gz").array.dtype == np.float32
    np.testing.assert_array_equal(read_ct(tmp_path / "a.nii.gz").array, ct)


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


def test_a_byte_that_changed_on_the_way_is_found(tmp_path, oriented_grid, ct):
    path = tmp_path / "a.nii.gz"
    write_image(ct, oriented_grid, path)
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # of the checksum
    path.write_bytes(content)
    with pytest.raises(InputImageError, match=r"CRC check failed.*copy it again"):
        read_volume(path)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("kind", [np.int16, np.uint8, np.float64])
def test_voxels_and_grid_are_those_that_itk_reads(tmp_path, oriented_grid, ct, ending, kind):
    path = tmp_path / f"a{ending}"
    sitk.WriteImage(to_sitk(np.abs(ct).astype(kind), oriented_grid), str(path))
    image = sitk.ReadImage(str(path))
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(image).astype(np.float32))
    assert volume.array.dtype == np.float32
    assert volume.grid == grid_of(image)


def test_scaled_voxels_are_those_that_itk_reads(tmp_path, oriented_grid, ct):
    path = tmp_path / "a.nii.gz"
    write_image(ct.astype(np.int16), oriented_grid, path)
    header = bytearray(gzip.decompress(path.read_bytes()))
    header[112:120] = struct.pack("<ff", 1.7, -3.3)  # scl_slope and scl_inter
    path.write_bytes(gzip.compress(bytes(header)))
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(np.float32)
    np.testing.assert_array_equal(read_volume(path).array, expected)
    np.testing.assert_allclose(expected, ct * 1.7 - 3.3, atol=1e-3)


@pytest.mark.parametrize("stored", [np.uint16, np.int32, np.float32])
@pytest.mark.parametrize(("value", "kind"), [(32767, np.int16), (40000, np.int32)])
def test_large_labels_are_those_that_are_stored(tmp_path, oriented_grid, ct, stored, value, kind):
    write_image((ct > 0).astype(stored) * stored(value), oriented_grid, tmp_path / "a.nii.gz")
    labels = read_labels(tmp_path / "a.nii.gz", oriented_grid, what="label")
    assert (set(np.unique(labels)), labels.dtype) == ({0, value}, kind)


def test_labels_stored_as_fractions_are_refused(tmp_path, oriented_grid, ct):
    write_image((ct > 0) * np.float32(0.4), oriented_grid, tmp_path / "a.nii.gz")
    with pytest.raises(InputImageError, match=r"holds the value 0\.4; expected labels"):
        read_labels(tmp_path / "a.nii.gz", oriented_grid, what="lung mask")


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
