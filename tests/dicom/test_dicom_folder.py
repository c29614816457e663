"""Folders of files in any layout."""

import os
import shutil
import warnings

import numpy as np
import pydicom
import pytest
from pydicom import config

from nnunet_cascade.dicom.ct.reading import read_ct_series, stack_files
from nnunet_cascade.dicom.ct.writing import write_ct_series
from nnunet_cascade.dicom.folder import index_folder
from nnunet_cascade.dicom.headers import read_header
from nnunet_cascade.dicom.writing import Identity, Series, uid_from
from nnunet_cascade.errors import DicomError


@pytest.fixture
def voxels(rng, axial_grid):
    return rng.integers(-1000, 1000, axial_grid.shape, dtype=np.int16)


@pytest.fixture
def download(tmp_path):
    folder = tmp_path / "download"
    folder.mkdir()
    return folder


@pytest.fixture
def put(axial_grid, voxels):
    """Write a CT of somebody: `put(folder, "P1", study="s")`."""

    def build(folder, patient_id, *, study="study", series="ct"):
        study_uid, frame_uid = uid_from(patient_id, study), uid_from(patient_id, "frame")
        identity = Identity(patient_id=patient_id, study_uid=study_uid, frame_of_reference_uid=frame_uid)
        uid = uid_from(patient_id, study, series)
        return write_ct_series(voxels, axial_grid, folder, series=Series(identity=identity, uid=uid))

    return build


def names(scan):
    return [patient.patient_id for patient in scan.patients]


def test_names_and_folders_of_files_mean_nothing(download, put, rng):
    paths = [*put(download / "a", "P2"), *put(download / "b", "P1", series="one"), *put(download / "c", "P1")]
    endings = ["", ".dcm", ".IMA", ".1", ".jpg", " with blanks.dcm", " ünïcode 肺.dcm"]
    for place, path in enumerate(rng.permutation(np.array(paths))):
        folder = download / ["x", "y y/ü", "."][place % 3]
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(folder / f"{rng.integers(1e9)}{endings[place % len(endings)]}")
    scan = index_folder(download)
    assert names(scan) == ["P1", "P2"]
    assert [len(patient.headers) for patient in scan.patients] == [10, 5]
    assert (scan.stray, scan.others) == ((), 0)
    uids = [header.sop_uid for header in scan.patients[0].headers]
    assert uids == sorted(uids)


def test_other_files_are_counted_and_left_alone(download, put):
    put(download / "ct", "P1")
    for name in ("metadata.csv", "LICENSE", "empty", "ct/notes.txt", "ct/.DS_Store", "ct/._1-001.dcm"):
        (download / name).write_bytes(b"" if name == "empty" else b"\x00\x05\x16\x07" * 200)
    scan = index_folder(download)
    assert scan.others == 6
    assert scan.stray == scan.patients[0].broken == ()


@pytest.mark.parametrize("content", [b"", b"Not Found", b"<html>" * 100])
def test_what_is_named_dicom_and_is_not_counts_as_broken(download, put, content):
    put(download / "ct", "P1")
    (download / "ct" / "1-777.dcm").write_bytes(content)
    (download / "elsewhere.DCM").write_bytes(content)
    scan = index_folder(download)
    (broken,) = scan.patients[0].broken
    assert broken.path == download / "ct" / "1-777.dcm"
    assert "in spite of its name" in broken.reason
    assert [file.path.name for file in scan.stray] == ["elsewhere.DCM"]
    assert str(download) not in broken.reason


def test_a_broken_file_is_of_the_patient_whose_files_alone_lie_beside_it(download, put):
    for patient in ("P1", "P2"):
        put(download / "mixed", patient, series=patient)
        paths = put(download / patient, patient)
        paths[2].write_bytes(paths[2].read_bytes()[:250])
    shutil.rmtree(download / "mixed")
    put(download / "mixed", "P1", series="more")
    for number, path in enumerate(put(download / "other", "P2", series="more")):
        path.rename(download / "mixed" / f"{number}")
    (download / "mixed" / "broken.dcm").write_bytes(bytes(128) + b"DICM" + bytes(100))
    scan = index_folder(download)
    assert [[file.path.parent.name for file in patient.broken] for patient in scan.patients] == [["P1"], ["P2"]]
    assert [file.path.name for file in scan.stray] == ["broken.dcm"]


@pytest.mark.parametrize(("patient_id", "by_study"), [("P1", True), ("", False)])
def test_studies_can_be_told_apart_and_are_without_a_patient_id(download, put, patient_id, by_study):
    for study in ("one", "two"):
        put(download / study, patient_id, study=study)
    (download / "two" / "x.dcm").write_bytes(b"")
    scan = index_folder(download, by_study=by_study)
    assert names(scan) == [patient_id] * 2
    assert [(len(p.headers), len({header.study_uid for header in p.headers})) for p in scan.patients] == [(5, 1)] * 2
    assert sorted(len(patient.broken) for patient in scan.patients) == [0, 1]


def test_studies_of_one_patient_are_one_unless_asked_for(download, put):
    for study in ("one", "two"):
        put(download / study, "P1", study=study)
    (download / "two" / "x.dcm").write_bytes(b"")
    (patient,) = index_folder(download).patients
    assert (len(patient.headers), len(patient.broken)) == (10, 1)


def test_copies_of_a_file_count_once(download, put, voxels):
    for path in put(download / "a", "P1"):
        for copy in ("b", "c"):
            (download / copy).mkdir(exist_ok=True)
            shutil.copy(path, download / copy / f"{copy}{path.name}")
    (patient,) = index_folder(download).patients
    assert len(patient.of_modality("CT")) == len(patient.headers) == 5
    assert patient.of_modality("RTSTRUCT") == []
    np.testing.assert_array_equal(read_ct_series(stack_files(patient.headers)).voxels, voxels)


@pytest.mark.parametrize("first", ["a", "z"])
def test_of_a_whole_and_a_truncated_copy_the_whole_one_counts(download, put, voxels, first):
    for path in put(download / "m", "P1"):
        (download / first).mkdir(exist_ok=True)
        (download / first / path.name).write_bytes(path.read_bytes()[:-1])
    (patient,) = index_folder(download).patients
    assert {header.path.parent.name for header in patient.headers} == {"m"}
    np.testing.assert_array_equal(read_ct_series(stack_files(patient.headers)).voxels, voxels)


def test_a_truncated_file_without_a_whole_copy_and_files_that_differ_under_one_uid_are_there(download, put):
    paths = put(download, "P1")
    paths[1].write_bytes(paths[1].read_bytes()[:-1])
    dataset = pydicom.dcmread(paths[0])
    dataset.SeriesDescription = "edited"
    dataset.save_as(download / "edited.dcm")
    (patient,) = index_folder(download).patients
    assert [header.is_whole for header in patient.headers].count(False) == 1
    assert len(patient.headers) == 6
    assert len({header.sop_uid for header in patient.headers}) == 5


def test_links_to_files_are_followed_links_to_folders_are_not_and_one_to_nowhere_is_broken(download, put, tmp_path):
    for path in put(tmp_path / "outside", "P1"):
        (download / path.name).symlink_to(path)
    (download / "loop").symlink_to(download, target_is_directory=True)
    (download / "outside").symlink_to(tmp_path / "outside", target_is_directory=True)
    (download / "1-006.dcm").symlink_to(tmp_path / "not fetched")
    (patient,) = index_folder(download).patients
    assert {header.path.parent for header in patient.headers} == {download}
    (broken,) = patient.broken
    assert "No such file" in broken.reason
    assert "not fetched" not in broken.reason


def test_a_folder_that_cannot_be_opened_is_told(download, put, monkeypatch):
    put(download / "open", "P1")
    put(download / "shut", "P2")
    scandir = os.scandir

    def guarded(path):
        if os.fspath(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    scan = index_folder(download)
    assert names(scan) == ["P1"]
    assert [(file.path.name, file.reason) for file in scan.stray] == [
        ("shut", "is a folder that cannot be opened (Permission denied)")
    ]


def test_a_folder_without_dicom_is_refused(download, tmp_path):
    with pytest.raises(DicomError, match="holds 0 file"):
        index_folder(download)
    (download / "table.csv").write_text("x")
    (download / "1-001.dcm").write_text("x")
    with pytest.raises(DicomError, match=r"holds 2 file\(s\), none of them DICOM that can be read \(the first: is not"):
        index_folder(download)
    with pytest.raises(DicomError, match="is not a folder"):
        index_folder(tmp_path / "nowhere")
    with pytest.raises(DicomError, match="is not a folder"):
        index_folder(download / "table.csv")


def test_reading_side_by_side_reads_the_same_and_leaves_settings_and_warnings_as_they_were(download, put):
    for patient in ("P1", "P2", "P3", "P4"):
        put(download / patient, patient)
    modes = config.settings.reading_validation_mode, config.settings.writing_validation_mode
    before = (*modes, warnings.filters[:])
    found = index_folder(download, threads=8)
    modes = config.settings.reading_validation_mode, config.settings.writing_validation_mode
    assert (*modes, warnings.filters) == before
    assert found == index_folder(download, threads=1)
    uids = {header.sop_uid for patient in found.patients for header in patient.headers}
    assert uids == {read_header(path).sop_uid for path in download.rglob("*.dcm")}
