"""CT series, written, and what every DICOM object that is written shares."""

import dataclasses
import math

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from nnunet_cascade.dicom.ct.reading import read_ct_series, stack_files
from nnunet_cascade.dicom.ct.writing import CtStorage, write_ct_series
from nnunet_cascade.dicom.writing import decimal_string, uid_from
from nnunet_cascade.errors import DicomError
from nnunet_cascade.images import grid_of

LOWEST_HU, HIGHEST_HU = -1024, 3071
NEEDED_BY_THE_STANDARD = """
    ImageType SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID Modality PixelSpacing
    ImageOrientationPatient ImagePositionPatient SamplesPerPixel PhotometricInterpretation Rows Columns BitsAllocated
    BitsStored HighBit PixelRepresentation RescaleIntercept RescaleSlope PixelData
"""
ALLOWED_TO_BE_EMPTY = """
    PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime StudyID AccessionNumber SeriesNumber KVP
    ReferringPhysicianName Manufacturer PositionReferenceIndicator AcquisitionNumber SliceThickness InstanceNumber
"""


@pytest.fixture
def voxels(rng, axial_grid):
    array = rng.integers(LOWEST_HU, HIGHEST_HU, axial_grid.shape, endpoint=True, dtype=np.int16)
    array[0, 0, :2] = LOWEST_HU, HIGHEST_HU
    return array


def corners_mm(grid):
    return np.array([grid.world_mm(tuple(np.array(at) * (np.array(grid.shape) - 1))) for at in np.ndindex(2, 2, 2)])


def as_read_corners(grid, as_read):
    return as_read(corners_mm(grid).reshape(2, 4, 3), grid).reshape(8, 3)


def test_a_volume_comes_back_on_its_grid(write_slices, as_read, placed_grid, voxels):
    ct = read_ct_series(stack_files(write_slices(placed_grid, voxels)[::-1]))
    assert ct.voxels.dtype == np.int16
    np.testing.assert_array_equal(ct.voxels, as_read(voxels, placed_grid))
    assert ct.stack.irregularities == ()
    np.testing.assert_allclose(corners_mm(ct.stack.grid), as_read_corners(placed_grid, as_read), atol=1e-8)


def test_itk_puts_the_volume_where_we_do(write_slices, as_read, placed_grid, voxels):
    paths = [str(header.path) for header in as_read(np.array(write_slices(placed_grid, voxels)), placed_grid)]
    image = sitk.ReadImage(paths)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), as_read(voxels, placed_grid))
    np.testing.assert_allclose(corners_mm(grid_of(image)), as_read_corners(placed_grid, as_read), atol=1e-6)


@pytest.mark.parametrize(
    "storage",
    [
        CtStorage(signed=True),
        CtStorage(rescale=((1.0, -2048.0),)),
        CtStorage(rescale=((1.0, -1024.0), (0.5, -1024.0), (-1.0, 4000.0), (0.25, -1500.0), (1.0, -3000.0))),
        CtStorage(signed=True, rescale=((1.0, 20000.0),)),
        CtStorage(compressed=True),
        CtStorage(compressed=True, signed=True),
        CtStorage(image_type=("DERIVED", "SECONDARY", "AXIAL")),
    ],
)
def test_the_voxels_come_back_however_they_are_stored(write_slices, axial_grid, voxels, storage):
    headers = write_slices(axial_grid, voxels, storage=storage)
    np.testing.assert_array_equal(read_ct_series(stack_files(headers)).voxels, voxels)
    assert all(header.is_whole for header in headers)


def test_storage_is_what_was_asked_for(write_slices, axial_grid, voxels):
    storage = CtStorage(signed=True, compressed=True, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    header = write_slices(axial_grid, voxels, storage=storage)[0]
    dataset = pydicom.dcmread(header.path)
    assert (dataset.PixelRepresentation, dataset.RescaleIntercept) == (1, 0)
    assert (header.transfer_syntax, header.is_localizer) == ("RLE Lossless", True)


@pytest.mark.parametrize(
    ("value", "storage"),
    [
        (-1025, CtStorage()),
        (0.5, CtStorage()),
        (1, CtStorage(rescale=((2.0, 0.0),))),
        (-1, CtStorage(rescale=((1.0, 0.0),))),
        (40000, CtStorage(signed=True)),
    ],
)
def test_what_the_pixels_cannot_hold_is_refused(write_slices, axial_grid, value, storage):
    with pytest.raises(DicomError, match="on plane 0; expected"):
        write_slices(axial_grid, np.full(axial_grid.shape, value), storage=storage)


@pytest.mark.parametrize(
    ("rescale", "word"), [(((0.0, 1.0),), "slope of 0"), (((1.0, 0.0),) * 2, "2 rescale pairs for 5 planes")]
)
def test_storage_that_cannot_be_is_refused(write_slices, axial_grid, rescale, word):
    with pytest.raises(DicomError, match=word):
        write_slices(axial_grid, storage=CtStorage(rescale=rescale))


def test_each_file_holds_what_the_standard_needs(write_slices, axial_grid):
    dataset = pydicom.dcmread(write_slices(axial_grid)[2].path)
    assert [name for name in NEEDED_BY_THE_STANDARD.split() if dataset.get(name) in (None, "")] == []
    assert [name for name in ALLOWED_TO_BE_EMPTY.split() if name not in dataset] == []
    assert dataset.InstanceNumber == 3


def test_each_plane_has_a_file_and_a_uid_of_its_own(write_slices, axial_grid):
    headers = write_slices(axial_grid)
    assert len({h.sop_uid for h in headers}) == 5
    assert [header.path.name for header in headers] == [f"1-00{n}.dcm" for n in (1, 2, 3, 4, 5)]


def test_the_same_series_has_the_same_bytes_and_nothing_else_is_there_or_changed(
    write_slices, axial_grid, voxels, tmp_path, series_of
):
    before = voxels.copy()
    headers = write_slices(axial_grid, voxels)
    again = write_ct_series(voxels, axial_grid, tmp_path / "again", series=series_of("ct"))
    assert [path.read_bytes() for path in again] == [header.path.read_bytes() for header in headers]
    assert {path.name for path in headers[0].path.parent.iterdir()} == {header.path.name for header in headers}
    np.testing.assert_array_equal(voxels, before)


def test_other_shapes_and_a_file_where_a_folder_should_be_are_refused(tmp_path, axial_grid, voxels, series_of):
    (tmp_path / "file").write_text("")
    for array, message in ((voxels, r"1-001\.dcm cannot be written"), (voxels[1:], "expected the same")):
        with pytest.raises(DicomError, match=message):
            write_ct_series(array, axial_grid, tmp_path / "file" / "ct", series=series_of("ct"))


@given(st.one_of(st.floats(-9999, 9999), st.floats(-1e300, 1e300)))
def test_numbers_keep_the_digits_that_fit(value):
    text = decimal_string(value)
    assert len(text) <= 16
    assert math.isclose(float(text), value, rel_tol=1e-8, abs_tol=1e-13)
    assert abs(value) > 9999 or abs(float(text) - value) <= 1e-10


@pytest.mark.parametrize(
    ("value", "text"),
    [(-0.0, "0"), (-183.0, "-183"), (0.1 + 0.2, "0.3"), (-1 / 3, "-0.3333333333333"), (1e-20, "1e-20")],
)
def test_numbers_are_as_short_as_they_can_be(value, text):
    assert decimal_string(value) == text


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(DicomError, match="expected finite"):
        decimal_string(value)


def test_a_uid_follows_from_its_parts():
    assert uid_from("a", "b") == uid_from("a", "b")
    assert len({uid_from("a", "b"), uid_from("ab"), uid_from("b", "a"), uid_from("a", "b", "")}) == 4
    assert pydicom.uid.UID(uid_from("a")).is_valid


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"study_uid": "1.2.x"}, "study_uid"),
        ({"patient_name": "two\\values"}, "patient_name"),
        ({"patient_id": "x" * 65}, "patient_id"),
        ({"sex": "male"}, "sex"),
        ({"date": "2000-01-01"}, "date"),
        ({"time": "noon"}, "time"),
    ],
)
def test_an_identity_is_valid_from_birth(series_of, changes, word):
    with pytest.raises(DicomError, match=word):
        dataclasses.replace(series_of("ct").identity, **changes)
