"""Images on disk, good and bad."""

import gzip
import struct

import numpy as np
import pytest
import SimpleITK as sitk
from builders.oriented_grids import grid_towards

from nnunet_cascade.errors import GridMismatchError, InputImageError
from nnunet_cascade.images import grid_of, read_ct, read_labels, read_volume, to_sitk, write_image

GRID = grid_towards("LPS", (7, 6, 5), (3.0, 1.5, 0.75))


@pytest.fixture
def ct(rng):
    array = rng.integers(-1000, 300, (7, 6, 5)).astype(np.float32)
    array[:3] = -1000
    array[3:] = 40
    return array


@pytest.fixture
def written(tmp_path):
    """Write an image; gives its path."""

    def build(array, grid=GRID):
        write_image(array, grid, tmp_path / "a.nii.gz")
        return tmp_path / "a.nii.gz"

    return build


@pytest.mark.parametrize("kind", [np.float32, np.int16])
def test_a_ct_comes_back_as_its_file_holds_it(tmp_path, oriented_grid, ct, written, kind):
    path = written(ct.astype(kind), oriented_grid)
    volume = read_ct(path)
    np.testing.assert_array_equal(volume.array, ct)
    assert (volume.array.dtype, read_volume(path).array.dtype) == (kind, np.float32)
    assert oriented_grid.difference(volume.grid) is None
    assert list(tmp_path.iterdir()) == [path]


def test_the_grid_says_where_simpleitk_puts_a_voxel(oriented_grid, ct):
    image = to_sitk(ct, oriented_grid)
    np.testing.assert_allclose(image.TransformIndexToPhysicalPoint((4, 2, 1)), oriented_grid.world_mm((1, 2, 4)))
    assert grid_of(image) == oriented_grid


def test_a_folder_that_is_not_there_cannot_be_written(tmp_path, ct):
    with pytest.raises(InputImageError, match="cannot be written"):
        write_image(ct, GRID, tmp_path / "nowhere" / "a.nii.gz")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: gzip.compress(gzip.decompress(content)[:400]), "truncated"),
        (lambda content: content[:-6] + bytes([content[-6] ^ 1]) + content[-5:], r"CRC check failed.*copy it again"),
        (lambda _: b"hello", "cannot be read"),
        (lambda _: None, r"a\.nii\.gz does not exist"),
    ],
    ids=["truncated", "a byte that changed", "no image", "missing"],
)
def test_a_file_that_is_not_whole_is_named(written, ct, spoil, message):
    path = written(ct)
    content = spoil(path.read_bytes())
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputImageError, match=message):
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


def test_scaled_voxels_are_those_that_itk_reads(written, ct):
    path = written(ct.astype(np.int16))
    header = bytearray(gzip.decompress(path.read_bytes()))
    header[112:120] = struct.pack("<ff", 1.7, -3.3)  # scl_slope and scl_inter
    path.write_bytes(gzip.compress(bytes(header)))
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(np.float32)
    np.testing.assert_array_equal(read_volume(path).array, expected)
    np.testing.assert_allclose(expected, ct * 1.7 - 3.3, atol=1e-3)


@pytest.mark.parametrize("stored", [np.uint16, np.int32, np.float32])
@pytest.mark.parametrize(("value", "kind"), [(32767, np.int16), (40000, np.int32)])
def test_large_labels_are_those_that_are_stored(written, ct, stored, value, kind):
    labels = read_labels(written((ct > 0).astype(stored) * stored(value)), GRID, what="label")
    assert (set(np.unique(labels)), labels.dtype) == ({0, value}, kind)


def test_four_dimensions_are_too_many(tmp_path):
    image = sitk.GetImageFromArray(np.zeros((2, 3, 4, 5), dtype=np.float32), isVector=False)
    sitk.WriteImage(image, str(tmp_path / "a.nii.gz"))
    with pytest.raises(InputImageError, match="three-dimensional"):
        read_volume(tmp_path / "a.nii.gz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ct: ct * 1e-3 + 0.5, "not a CT"),
        (lambda ct: ct * 0.0 + 40.0, "not a CT"),
        (lambda ct: ct * 100.0, "out of the range"),
        (lambda ct: np.where(np.arange(5) == 4, np.nan, ct), "42 voxels are NaN"),
    ],
)
def test_what_is_no_ct_is_refused(written, ct, change, message):
    with pytest.raises(InputImageError, match=message):
        read_ct(written(change(ct).astype(np.float32)))


def test_labels_stored_as_fractions_or_on_another_grid_are_refused(written, ct):
    with pytest.raises(InputImageError, match=r"holds the value 0\.4; expected labels"):
        read_labels(written((ct > 0) * np.float32(0.4)), GRID, what="lung mask")
    with pytest.raises(GridMismatchError, match=r"lung mask .* is not on the image's grid"):
        read_labels(written(ct > 0, grid_towards("RAS", ct.shape)), GRID, what="lung mask")
