"""Headers of files that are sound, odd and broken."""

import warnings

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import config
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage
from scipy.spatial.transform import Rotation

from nnunet_cascade.dicom.ct.writing import CtStorage
from nnunet_cascade.dicom.headers import lenient, read_header, reason_of
from nnunet_cascade.errors import DicomError

PERSON = "Jane Doe 1970 Ünïcode"


@pytest.fixture
def image(write_slices, axial_grid, tmp_path):
    """The path of one CT image, whose folder names a person."""
    path = tmp_path / PERSON / f"{PERSON}.dcm"
    path.parent.mkdir()
    write_slices(axial_grid)[1].path.rename(path)
    return path


@pytest.fixture
def edited(image):
    """Change an image and read its header: `edited(tag=value)`; None removes a tag."""

    def build(**tags):
        dataset = pydicom.dcmread(image)
        with config.disable_value_validation(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for tag, value in tags.items():
                if value is None:
                    delattr(dataset, tag)
                else:
                    setattr(dataset, tag, value)
            dataset.save_as(image)
        return read_header(image)

    return build


def refused(path):
    """The message over a file, which must not tell where it lies."""
    with pytest.raises(DicomError) as caught:
        read_header(path)
    message = str(caught.value)
    assert "Jane" not in message
    assert str(path.parent) not in message
    assert "\n" not in message
    return message


def test_a_header_says_what_the_file_says(image, axial_grid, series_of):
    header = read_header(image)
    series = series_of("ct")
    assert header.path == image
    assert (header.patient_id, header.study_uid) == (series.identity.patient_id, series.identity.study_uid)
    assert (header.series_uid, header.series_description) == (series.uid, "ct")
    assert header.frame_of_reference_uid == series.identity.frame_of_reference_uid
    assert (header.modality, header.frames, header.is_localizer, header.is_whole) == ("CT", 1, False, True)
    assert header.transfer_syntax == "Explicit VR Little Endian"
    assert header.plane.position_mm == axial_grid.world_mm((1, 0, 0))
    assert (header.plane.down, header.plane.right) == axial_grid.axes[1:]
    assert (header.plane.spacing_mm, header.plane.shape) == (axial_grid.spacing_mm[1:], axial_grid.shape[1:])


@pytest.mark.parametrize("content", [b"", b"\0", b"x" * 131, b"x" * 500, b"\0" * 128 + b"DIC", b"PatientID,Series"])
def test_what_lacks_the_mark_is_no_dicom(tmp_path, content):
    (tmp_path / "file.dcm").write_bytes(content)
    assert read_header(tmp_path / "file.dcm") is None


def test_a_file_without_preamble_is_no_dicom_here_and_a_missing_one_an_error_without_its_name(image):
    image.write_bytes(image.read_bytes()[132:])
    assert read_header(image) is None
    image.unlink()
    image.symlink_to(image.with_name("nowhere"))
    assert "No such file" in refused(image)


def test_a_directory_of_files_is_no_file_of_a_patient(tmp_path):
    directory = Dataset()
    directory.file_meta = FileMetaDataset()
    directory.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    directory.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory.FileSetID, directory.DirectoryRecordSequence = "DISK", []
    directory.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    directory.save_as(tmp_path / "DICOMDIR", enforce_file_format=True)
    assert read_header(tmp_path / "DICOMDIR") is None


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6))
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_of_any_kind_is_a_dicom_error_or_none_at_all(image, damage):
    content = bytearray(image.read_bytes())
    for share, value in damage:
        content[132 + int(share * (len(content) - 133))] = value
    damaged = image.with_name("damaged.dcm")
    damaged.write_bytes(content)
    try:
        read_header(damaged)
    except DicomError:
        refused(damaged)


@pytest.mark.parametrize("tag", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
@pytest.mark.parametrize("value", ["", "../../etc", "abc"])
def test_a_file_without_its_uids_is_refused(edited, image, tag, value):
    with pytest.raises(DicomError, match=f"its {tag} is '{value}', expected digits and dots"):
        edited(**{tag: value})
    refused(image)


def test_a_patient_without_an_id_has_an_empty_one(edited):
    assert edited(PatientID="  LUNG1-001 ").patient_id == "LUNG1-001"
    assert edited(PatientID=None).patient_id == ""


@pytest.mark.parametrize(
    "tags",
    [
        {"ImagePositionPatient": None},
        {"ImageOrientationPatient": None},
        {"PixelSpacing": None},
        {"ImagePositionPatient": ["1", "2"]},
        {"ImagePositionPatient": ["1", "nan", "2"]},
        {"ImagePositionPatient": ["1", "2", "inf"]},
        {"PixelSpacing": ["0", "1"]},
        {"PixelSpacing": ["1", "-1"]},
        {"PixelSpacing": "1"},
        {"ImageOrientationPatient": ["0"] * 6},
        {"ImageOrientationPatient": ["2", "0", "0", "0", "2", "0"]},
        {"ImageOrientationPatient": ["1", "0", "0", "1", "0", "0"]},
        {"ImageOrientationPatient": ["1", "0", "0", "0.1", "1", "0"]},
    ],
)
def test_a_place_that_is_no_place_is_none(edited, tags):
    assert edited(**tags).plane is None


def test_words_for_numbers_are_refused(image):
    content = image.read_bytes()
    assert content.count(b"0.9765625\\") == 1
    image.write_bytes(content.replace(b"0.9765625\\", b"0,9765625\\"))
    assert "could not convert" in refused(image)


@pytest.mark.parametrize("angles", [(0, 0, 0), (12, -3, 7), (35, -20, 50), (90, 45, -13)])
@pytest.mark.parametrize("decimals", [3, 4, 6])
def test_rounded_cosines_give_directions_of_length_one_at_right_angles(edited, angles, decimals):
    right, down, _ = Rotation.from_euler("zyx", angles, degrees=True).as_matrix()
    plane = edited(ImageOrientationPatient=[f"{value:.{decimals}f}" for value in (*right, *down)]).plane
    frame = np.array([plane.right, plane.down, plane.normal])
    np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(frame[:2], [right, down], atol=2 * 10.0**-decimals)


def test_rows_and_columns_are_not_mixed_up_and_exact_cosines_are_kept_to_the_last_bit(edited):
    plane = edited(PixelSpacing=[2, 5], ImageOrientationPatient=[0, -1, 0, 0, 0, 1]).plane
    assert plane.spacing_mm == (2, 5)  # from row to row, then from column to column
    assert (plane.right, plane.down) == ((0.0, -1.0, 0.0), (0.0, 0.0, 1.0))  # the first along a row
    assert plane.normal == (-1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("image_type", "is_localizer"), [("LOCALIZER", True), ("AXIAL", False), ("", False), (None, False)]
)
def test_localizers_are_known_by_their_image_type(edited, image_type, is_localizer):
    whole = image_type and ["ORIGINAL", "PRIMARY", image_type, "CT_SOM5 TOP"]
    assert edited(ImageType=whole).is_localizer == is_localizer


def test_an_object_without_pixels_is_whole_if_its_last_element_is(edited, image):
    assert edited(PixelData=None, Rows=None, Columns=None, TextComments="x" * 300).is_whole
    content = image.read_bytes()
    for cut in (1, 50, 299):
        image.write_bytes(content[:-cut])
        assert not read_header(image).is_whole


def test_compressed_pixels_in_several_items_are_whole(write_slices, axial_grid):
    path = write_slices(axial_grid, storage=CtStorage(compressed=True))[0].path
    dataset = pydicom.dcmread(path)
    dataset.NumberOfFrames = 3
    dataset.PixelData = pydicom.encaps.encapsulate([b"\1" * 100, b"\2" * 70, b"\3" * 80], has_bot=False)
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    assert read_header(path).is_whole
    content = path.read_bytes()
    for cut in (1, 8, 9, 88, 100, 170):
        path.write_bytes(content[:-cut])
        assert not read_header(path).is_whole
    path.write_bytes(content[:-8] + bytes(8))
    assert not read_header(path).is_whole


def global_settings():
    return config.settings.reading_validation_mode, config.settings.writing_validation_mode, warnings.filters[:]


def test_reading_changes_no_settings_nor_does_leniency_that_ends_with_an_error(edited):
    before = global_settings()
    edited(ImagePositionPatient=["1", "2", "3.0000000000000000000000"])
    assert global_settings() == before
    with pytest.raises(ZeroDivisionError), lenient():
        raise ZeroDivisionError
    assert global_settings() == before


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(28, "No space left on device", "/home/jane"), "No space left on device"),
        (ValueError("two\n  lines"), "two lines"),
        (EOFError(), "EOFError"),
    ],
)
def test_a_reason_is_one_line_without_a_path(error, reason):
    assert reason_of(error) == reason
