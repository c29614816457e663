"""Trouble with a patient costs that patient, says why, and leaves nothing half done."""

import errno
import shutil
from dataclasses import replace

import numpy as np
import pytest
from builders.dicom_downloads import (
    LUNG,
    SETTINGS,
    TUMOR,
    Ct,
    Seg,
    Subject,
    contents,
    convert,
    ct_voxels,
    edit_all,
    run_python,
    square,
    truncate,
    write_download,
    write_subject,
)

from nnunet_cascade.dataset_conversion import writing
from nnunet_cascade.dataset_conversion.writing import case_files
from nnunet_cascade.errors import DicomError, InputImageError
from nnunet_cascade.images import read_volume

GOOD = Subject(patient_id="GOOD", cts=(Ct(seed=5),))
BAD = Subject(patient_id="BAD")


def contours(*drawn):
    return BAD.but(rois=({"GTV-1": drawn, "Lung-Left": LUNG},))


def slices(folder):
    return sorted((folder / "CT").iterdir())


NOTHING = lambda folder: None  # noqa: E731, ARG005 - the subject itself is the trouble
BAD_PATIENTS = {
    "no CT": (
        BAD.but(cts=(Ct(without_slices=tuple(range(8))),)),
        NOTHING,
        r"found no CT \(there are: RTSTRUCT\); expected a CT series",
    ),
    "a region without contours": (contours(), NOTHING, "found region GTV-1 without a voxel"),
    "a region between voxels": (contours(square((12.5, 12.5), 0.4)), NOTHING, "found region GTV-1 without a voxel"),
    "contours above the CT": (
        contours(square((12, 12), 5.0), square((12, 12), 5.0, plane=9)),
        NOTHING,
        r"found 1 contour\(s\) or voxel\(s\) of 'tumor' outside the CT; expected all inside",
    ),
    "a truncated slice": (BAD, lambda f: truncate(slices(f)[3], 0.8), r"image 2\.25\.\d+ is truncated"),
    "an unreadable slice": (
        BAD,
        lambda f: slices(f)[3].write_bytes(b""),
        r"1 file\(s\) beside the others are broken; one is not DICOM in spite of its name",
    ),
}


@pytest.fixture(scope="module")
def templates(tmp_path_factory):
    """The two usual patients, to be copied."""
    return write_download([GOOD, BAD], tmp_path_factory.mktemp("templates"))


@pytest.fixture
def download(tmp_path, templates):
    """A patient in trouble beside a good one: `download(bad, trouble)` gives the folder."""

    def build(bad=BAD, trouble=NOTHING):
        good, other = tmp_path / "download" / "good", tmp_path / "download" / "bad"
        shutil.copytree(templates / "000", good)
        if bad is BAD:
            shutil.copytree(templates / "001", other)
        else:
            write_subject(bad, other)
        trouble(other)
        return tmp_path / "download"

    return build


def require_only_the_good_one(dataset):
    image, labels = case_files(dataset, "GOOD", "Tr")
    np.testing.assert_array_equal(read_volume(image).array, ct_voxels(5))
    np.testing.assert_array_equal(read_volume(labels).array, TUMOR)
    names = {"imagesTr/GOOD_0000.nii.gz", "labelsTr/GOOD.nii.gz", "conversion/GOOD.json"}
    assert set(contents(dataset)) == {*names, "dataset.json", "conversion.json"}


@pytest.mark.parametrize(("subject", "change", "reason"), BAD_PATIENTS.values(), ids=BAD_PATIENTS)
def test_a_bad_patient_is_left_out_with_the_reason_in_one_line(subject, change, reason, download, dataset):
    ((record),) = convert(download(subject, change), dataset).left_out
    assert (record["case"], record["reason"].count("\n")) == ("BAD", 0)
    with pytest.raises(ValueError, match=reason):
        raise ValueError(record["reason"])
    require_only_the_good_one(dataset)


@pytest.mark.parametrize("kind", ["RTSTRUCT", "SEG"])
def test_a_file_cut_anywhere_never_gives_other_labels(kind, download, dataset):
    source = download(BAD.but(segs=(Seg(),)))
    shutil.rmtree(source / "good")
    path = source / "bad" / kind / "1-1.dcm"
    whole = path.read_bytes()
    settings = replace(SETTINGS, source="seg" if kind == "SEG" else "rtstruct", cross_check=False)
    left_out = 0
    for cut in np.linspace(140, len(whole) - 2, 20, dtype=int).tolist():
        path.write_bytes(whole[:cut])
        left_out += len(convert(source, dataset, settings).left_out)
        for labels in dataset.glob("labelsTr/*"):
            np.testing.assert_array_equal(read_volume(labels).array, TUMOR, err_msg=f"cut at {cut} of {len(whole)}")
    assert left_out > 14


def test_an_unreadable_file_that_may_be_anybodys_is_counted_and_costs_nobody_nor_do_other_files(download, dataset):
    source = download()
    for name in ("stray.dcm", "LICENSE", "bad/CT/._1-001.dcm"):
        (source / name).write_bytes(b"\0\5\26\7" * 100)
    result = convert(source, dataset)
    assert (len(result.converted), result.left_out, result.stray) == (2, (), 1)


def test_a_source_without_dicom_is_refused_before_anything_is_written(tmp_path, dataset):
    with pytest.raises(DicomError, match=r"holds 0 file\(s\)"):
        convert(tmp_path, dataset)
    assert not dataset.exists()


class TestFullDisk:
    def test_an_image_that_cannot_be_written_costs_its_patient(self, download, dataset, monkeypatch):
        def full(array, grid, path):
            if path.name.startswith("BAD_0000"):
                path.with_name(f".1.{path.name}").write_bytes(b"half")
                raise InputImageError(f"{path} cannot be written (No space left on device); check the space left")
            return write_image(array, grid, path)

        write_image = writing.write_image
        monkeypatch.setattr(writing, "write_image", full)
        result = convert(download(), dataset)
        assert [record["reason"] for record in result.left_out] == [
            "imagesTr/BAD_0000.nii.gz cannot be written (No space left on device); check the space left"
        ]
        require_only_the_good_one(dataset)

    def test_a_record_that_cannot_be_written_costs_its_patient(self, download, dataset, monkeypatch):
        def full(path, content):
            if path.name == "BAD.json" and content["status"] == "converted":
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
            return write_json(path, content)

        write_json = writing.write_json
        monkeypatch.setattr(writing, "write_json", full)
        result = convert(download(), dataset)
        assert [record["reason"] for record in result.left_out] == [
            "a file cannot be read or written (No space left on device); check the disks and run again"
        ]
        require_only_the_good_one(dataset)

    @pytest.mark.long
    @pytest.mark.parametrize("spare_bytes", [-1, -2000])
    def test_images_cut_short_without_a_word_are_found(self, spare_bytes, download, dataset):
        source = download()
        convert(source, dataset)
        complete = contents(dataset)
        size = min(len(complete[f"imagesTr/{name}_0000.nii.gz"]) for name in ("GOOD", "BAD"))
        shutil.rmtree(dataset)
        run_python(SMALL_FILES_ONLY, source, dataset, size + spare_bytes)
        assert set(contents(dataset)) == {"dataset.json", "conversion.json"}
        assert b"cannot be written" in contents(dataset)["conversion.json"]
        convert(source, dataset)
        assert contents(dataset) == complete


SMALL_FILES_ONLY = """
import resource, sys
from pathlib import Path
from builders.dicom_downloads import convert

resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
assert len(convert(Path(sys.argv[1]), Path(sys.argv[2])).left_out) == 2
"""


@pytest.mark.parametrize(
    ("patient_id", "names"), [("../../evil", "patient-id"), ("../../evil", "uid"), ("/evil", "patient-id")]
)
def test_a_patient_id_that_is_no_name_never_leaves_the_folder(patient_id, names, download, dataset, tmp_path):
    source = download()
    edit_all(source / "bad", lambda dataset: setattr(dataset, "PatientID", patient_id))
    before = {path for path in tmp_path.rglob("*") if dataset not in path.parents}
    result = convert(source, dataset, replace(SETTINGS, case_names=names))
    # The dataset's own folder and its parent are all that is new outside of it.
    after = {path for path in tmp_path.rglob("*") if dataset not in path.parents}
    assert after - before <= {dataset, dataset.parent}
    if names == "uid":
        assert (len(result.converted), result.left_out) == (2, ())
    else:
        ((record),) = result.left_out
        assert "is no file name" in record["reason"]
        require_only_the_good_one(dataset)
