"""CT series: every slice by its own rescale, at its own place."""

import dataclasses
import re

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless

from nnunet_cascade.dicom.ct.reading import read_ct_series, read_slice, stack_files
from nnunet_cascade.dicom.ct.writing import CtStorage
from nnunet_cascade.dicom.headers import read_header
from nnunet_cascade.dicom.writing import uid_from
from nnunet_cascade.errors import DicomError

HTJ2K = "1.2.840.10008.1.2.4.201"


@pytest.fixture
def voxels(rng, axial_grid):
    return rng.integers(-1024, 3000, axial_grid.shape, dtype=np.int16)


@pytest.fixture
def edited():
    """Change a file's header and read it again: `edited(header, function)`."""

    def build(header, change):
        dataset = pydicom.dcmread(header.path)
        change(dataset)
        dataset.save_as(header.path)
        return read_header(header.path)

    return build


def read(headers):
    return read_ct_series(stack_files(headers))


def test_the_order_of_the_files_does_not_matter(write_slices, as_read, placed_grid, rng):
    voxels = rng.integers(-1000, 1000, placed_grid.shape, dtype=np.int16)
    headers = write_slices(placed_grid, voxels)
    ct = read([headers[place] for place in (3, 0, 4, 1, 2)])
    np.testing.assert_array_equal(ct.voxels, as_read(voxels, placed_grid))
    assert [header.sop_uid for header in ct.headers] == [header.sop_uid for header in as_read(headers, placed_grid)]


@pytest.mark.parametrize("signed", [False, True])
def test_each_slice_has_its_own_rescale(write_slices, axial_grid, voxels, signed):
    rescale = ((1.0, -1024.0), (1.0, -2000.0), (0.5, -1024.0), (1.0, -1500.0), (0.125, -1024.0))
    if signed:
        rescale = tuple((slope, intercept + 1024) for slope, intercept in rescale)
    ct = read(write_slices(axial_grid, voxels, storage=CtStorage(signed=signed, rescale=rescale)))
    assert ct.voxels.dtype == np.int16
    np.testing.assert_array_equal(ct.voxels, voxels)


def test_fractions_are_kept_as_they_are(write_slices, axial_grid, rng):
    steps = rng.integers(0, 4000, axial_grid.shape)
    values = steps * 0.1 - 200.5
    values[0] = steps[0] - 1024  # the first slices read are whole numbers: the type is found slice by slice
    storage = CtStorage(rescale=((1.0, -1024.0), *[(0.1, -200.5)] * 4))
    ct = read(write_slices(axial_grid, values, storage=storage))
    assert ct.voxels.dtype == np.float32
    np.testing.assert_allclose(ct.voxels, values, atol=1e-4)


def test_numbers_beyond_sixteen_bits_are_kept(write_slices, axial_grid, voxels):
    large = voxels.astype(np.int32)
    large[2] += 40000
    rescale = tuple((1.0, 30000.0 if plane == 2 else -1024.0) for plane in range(5))
    ct = read(write_slices(axial_grid, large, storage=CtStorage(rescale=rescale)))
    assert ct.voxels.dtype == np.float32
    np.testing.assert_array_equal(ct.voxels, large)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_other_native_transfer_syntaxes_are_read(write_slices, axial_grid, voxels, edited, syntax):
    def change(dataset):
        dataset.file_meta.TransferSyntaxUID = syntax

    headers = [edited(header, change) for header in write_slices(axial_grid, voxels)]
    np.testing.assert_array_equal(read(headers).voxels, voxels)


@pytest.mark.parametrize("signed", [False, True])
def test_bits_beyond_those_stored_are_no_pixels(write_slices, axial_grid, rng, edited, signed):
    """Older scanners keep overlays in the upper four bits."""
    voxels = rng.integers(-1024, 1000, axial_grid.shape, dtype=np.int16)
    headers = write_slices(axial_grid, voxels, storage=CtStorage(signed=signed))

    def change(dataset):
        pixels = np.frombuffer(dataset.PixelData, dtype=np.uint16) & 0x0FFF
        dataset.PixelData = (pixels | rng.integers(0, 16, pixels.shape).astype(np.uint16) << 12).tobytes()
        dataset.BitsStored, dataset.HighBit = 12, 11

    np.testing.assert_array_equal(read([edited(header, change) for header in headers]).voxels, voxels)


def test_a_truncated_file_is_refused_wherever_it_ends(write_slices, axial_grid, voxels):
    header = write_slices(axial_grid, voxels)[2]
    whole = header.path.read_bytes()
    pixels = whole.index(b"\xe0\x7f\x10\x00")
    for end in [*range(pixels + 12, pixels + 40), *range(len(whole) - 20, len(whole))]:
        header.path.write_bytes(whole[:end])
        assert not read_header(header.path).is_whole, f"{end} of {len(whole)} bytes"
    with pytest.raises(DicomError, match=f"image {header.sop_uid} is truncated: it holds fewer bytes"):
        stack_files([read_header(header.path)])


def test_marks_of_the_end_in_the_header_are_not_those_of_the_pixels(write_slices, axial_grid, voxels, edited):
    def change(dataset):
        dataset.RequestAttributesSequence = [pydicom.Dataset()]
        dataset["RequestAttributesSequence"].is_undefined_length = True

    headers = write_slices(axial_grid, voxels, storage=CtStorage(compressed=True))
    header = edited(headers[0], change)
    assert header.is_whole
    header.path.write_bytes(header.path.read_bytes()[:-30])
    assert not read_header(header.path).is_whole


@pytest.mark.parametrize(
    ("syntax", "name"), [(HTJ2K, "High-Throughput JPEG 2000"), (JPEGLSLossless, "JPEG-LS Lossless")]
)
def test_what_nothing_here_decodes_is_refused_by_name(write_slices, axial_grid, edited, syntax, name, capfd):
    def change(dataset):
        dataset.PixelData = encapsulate([b"\xff\x4f" + b"no image" * 40])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = syntax

    headers = write_slices(axial_grid)
    headers[1] = edited(headers[1], change)
    files = stack_files(headers)
    with pytest.raises(DicomError, match=rf"image {headers[1].sop_uid} cannot be decoded \(transfer syntax {name}"):
        read_ct_series(files)
    capfd.readouterr()


def two_frames(dataset):
    dataset.NumberOfFrames = 2
    dataset.PixelData *= 2


def colors(dataset):
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelData = bytes(3 * dataset.Rows * dataset.Columns)


def test_many_frames_and_colors_are_no_slice(write_slices, axial_grid, edited):
    one, other = write_slices(axial_grid)[:2]
    with pytest.raises(DicomError, match="holds 2 frames; expected one image a file"):
        stack_files([edited(one, two_frames)])
    with pytest.raises(DicomError, match="expected one plane of one channel"):
        read_slice(edited(other, colors))


def test_a_slice_that_says_not_where_it_lies_is_refused(write_slices, axial_grid, edited):
    headers = write_slices(axial_grid)
    headers[3] = edited(headers[3], lambda dataset: delattr(dataset, "PixelSpacing"))
    with pytest.raises(DicomError, match=f"image {headers[3].sop_uid} does not say where it lies"):
        stack_files(headers)


def test_an_image_given_twice_counts_once(write_slices, axial_grid, voxels):
    headers = write_slices(axial_grid, voxels)
    again = write_slices(axial_grid, voxels, name="again", storage=CtStorage(compressed=True))
    files = stack_files([*headers, again[1], again[4]])
    assert [left_out.sop_uid for left_out, _ in files.duplicates] == [again[1].sop_uid, again[4].sop_uid]
    np.testing.assert_array_equal(read_ct_series(files).voxels, voxels)


def test_different_images_at_one_place_are_refused(write_slices, axial_grid, voxels):
    headers = write_slices(axial_grid, voxels)
    other = write_slices(axial_grid, voxels + (voxels == voxels[1, 2, 3]), name="other")
    with pytest.raises(DicomError, match=f"different images at one place \\({other[1].sop_uid}"):
        read([*headers, other[1]])


def test_overviews_and_slices_of_another_direction_are_left_out(write_slices, axial_grid, voxels):
    grid = dataclasses.replace(axial_grid, axes=((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0)))
    storage = CtStorage(image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    overviews = write_slices(grid, name="overview", storage=storage)
    aside = write_slices(grid, name="aside")[0]
    ct = read([*overviews, aside, *write_slices(axial_grid, voxels)])
    assert (ct.localizers, ct.stack.set_aside) == (5, (0,))
    np.testing.assert_array_equal(ct.voxels, voxels)
    with pytest.raises(DicomError, match="found no slice"):
        stack_files(overviews)


def test_a_missing_slice_is_interpolated_and_the_others_stay(write_slices, axial_grid, voxels):
    headers = write_slices(axial_grid, voxels)
    ct = read([*headers[:2], *headers[3:]])
    assert ct.stack.interpolated == (2,)
    np.testing.assert_array_equal(np.delete(ct.voxels, 2, axis=0), np.delete(voxels, 2, axis=0))
    np.testing.assert_array_equal(ct.voxels[2], np.rint((voxels[1].astype(float) + voxels[3]) / 2))


def test_the_hash_is_of_the_voxels_whatever_the_uids(write_slices, axial_grid, voxels):
    one = read(write_slices(axial_grid, voxels, name="one"))
    other = read(write_slices(axial_grid, voxels, name="other", storage=CtStorage(compressed=True, signed=True)))
    assert one.headers[0].series_uid == uid_from("one") != other.headers[0].series_uid
    assert one.sha256() == other.sha256()
    assert re.fullmatch("[0-9a-f]{64}", one.sha256())
    changed = voxels.copy()
    changed[2, 3, 4] += 1
    assert read(write_slices(axial_grid, changed, name="changed")).sha256() != one.sha256()
