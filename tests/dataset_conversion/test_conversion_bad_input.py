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
    edit,
    edit_all,
    run_python,
    square,
    truncate,
    write_download,
    write_subject,
)
from pydicom.encaps import encapsulate
from pydicom.uid import MPEG2MPML

from nnunet_cascade.dataset_conversion import writing
from nnunet_cascade.dataset_conversion.writing import case_files
from nnunet_cascade.errors import DicomError, InputImageError
from nnunet_cascade.images import read_volume

GOOD = Subject(patient_id="GOOD", cts=(Ct(seed=5),))
BAD = Subject(patient_id="BAD")
DICOM_MARK = bytes(128) + b"DICM"


def contours(*drawn):
    return BAD.but(rois=({"GTV-1": drawn, "Lung-Left": LUNG},))


def slices(folder):
    return sorted((folder / "CT").iterdir())


def structure_set(folder):
    return folder / "RTSTRUCT" / "1-1.dcm"


def forget_the_series(folder):
    edit(structure_set(folder), lambda d: delattr(d.ReferencedFrameOfReferenceSequence[0], "RTReferencedStudySequence"))


def change_the_frame(folder):
    def change(dataset):
        dataset.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = "1.2.3"
        for roi in dataset.StructureSetROISequence:
            roi.ReferencedFrameOfReferenceUID = "1.2.3"

    edit(structure_set(folder), change)


def compress_for_nobody(folder):
    def change(dataset):
        dataset.file_meta.TransferSyntaxUID = MPEG2MPML
        dataset.PixelData = encapsulate([bytes(100)])
        dataset["PixelData"].is_undefined_length = True

    edit(slices(folder)[3], change)


def show_two_images_at_one_place(folder):
    place = {}
    edit(slices(folder)[3], lambda dataset: place.update(position=dataset.ImagePositionPatient))
    edit(slices(folder)[4], lambda dataset: setattr(dataset, "ImagePositionPatient", place["position"]))


def leave_slices(count):
    return BAD.but(cts=(Ct(without_slices=tuple(range(count, 8))),))


NOTHING = lambda folder: None  # noqa: E731, ARG005 - the subject itself is the trouble
BAD_PATIENTS = {
    "no CT": (leave_slices(0), NOTHING, r"found no CT \(there are: RTSTRUCT\); expected a CT series"),
    "no contours": (BAD.but(rois=()), NOTHING, r"found no RTSTRUCT \(there are: CT\)"),
    "two CTs alike": (
        BAD.but(cts=(Ct(), Ct(seed=1, name="second"))),
        forget_the_series,
        "found 2 CT series that fit equally",
    ),
    "no such region": (
        BAD.but(rois=({"gtv-pre-op": TUMOR, "Lung-Left": LUNG},)),
        NOTHING,
        "found no region named 'GTV-1'; there are: 'gtv-pre-op', 'Lung-Left'",
    ),
    "the region twice": (BAD.but(rois=({"GTV-1": TUMOR, "gtv-1": LUNG},)), NOTHING, "found 2 regions named 'GTV-1'"),
    "a region without contours": (contours(), NOTHING, "found region GTV-1 without a voxel"),
    "a region between voxels": (contours(square((12.5, 12.5), 0.4)), NOTHING, "found region GTV-1 without a voxel"),
    "contours above the CT": (
        contours(square((12, 12), 5.0), square((12, 12), 5.0, plane=9)),
        NOTHING,
        r"found 1 contour\(s\) or voxel\(s\) of 'tumor' outside the CT; expected all inside",
    ),
    "contours beside the CT": (contours(square((12, 40), 5.0)), NOTHING, r"found 1 contour\(s\).* outside the CT"),
    "another frame of reference": (BAD, change_the_frame, "another frame of reference"),
    "a truncated slice": (BAD, lambda f: truncate(slices(f)[3], 0.8), r"image 2\.25\.\d+ is truncated"),
    "a slice without pixels": (BAD, lambda f: truncate(slices(f)[3], 0.4), "does not say where it lies"),
    "a truncated RTSTRUCT": (BAD, lambda f: truncate(structure_set(f), 0.6), "the RTSTRUCT is truncated"),
    "no decoder": (BAD, compress_for_nobody, r"cannot be decoded \(transfer syntax MPEG2 Main.*decompress it"),
    "an unreadable slice": (
        BAD,
        lambda f: slices(f)[3].write_bytes(DICOM_MARK + b"\xff" * 40),
        r"1 file\(s\) beside the others are broken; one cannot be read",
    ),
    "an empty file": (
        BAD,
        lambda f: slices(f)[3].write_bytes(b""),
        "are broken; one is not DICOM in spite of its name",
    ),
    "a single slice": (leave_slices(1), NOTHING, "expected at least two"),
    "two images at one place": (BAD, show_two_images_at_one_place, "at one place"),
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


@pytest.mark.parametrize("trouble", BAD_PATIENTS)
def test_a_bad_patient_is_left_out_with_the_reason(trouble, download, dataset):
    subject, change, reason = BAD_PATIENTS[trouble]
    result = convert(download(subject, change), dataset)
    ((record),) = result.left_out
    assert record["case"] == "BAD"
    assert "\n" not in record["reason"]
    with pytest.raises(ValueError, match=reason):
        raise ValueError(record["reason"])
    require_only_the_good_one(dataset)


@pytest.mark.parametrize(
    ("segs", "reason"),
    [
        ((), r"found no SEG \(there are: CT, RTSTRUCT\)"),
        ((Seg(masks={"lung": LUNG}),), "found no region named 'GTV-1'; there are: 'lung'"),
        ((Seg(), Seg(description="again")), "found 2 SEG with these regions"),
    ],
)
def test_a_patient_without_the_right_seg_is_left_out_with_the_reason(segs, reason, download, dataset):
    source = download(BAD.but(segs=segs))
    write_subject(GOOD.but(segs=(Seg(),)), source / "good")
    result = convert(source, dataset, replace(SETTINGS, source="seg"))
    assert [record["case"] for record in result.left_out] == ["BAD"]
    with pytest.raises(ValueError, match=reason):
        raise ValueError(result.left_out[0]["reason"])
    require_only_the_good_one(dataset)


@pytest.mark.parametrize("kind", ["RTSTRUCT", "SEG"])
def test_a_file_cut_anywhere_never_gives_other_labels(kind, download, dataset):
    source = download(BAD.but(segs=(Seg(),)))
    shutil.rmtree(source / "good")
    path = source / "bad" / kind / "1-1.dcm"
    whole = path.read_bytes()
    settings = replace(SETTINGS, source="seg" if kind == "SEG" else "rtstruct", cross_check=False)
    left_out = 0
    for cut in np.linspace(140, len(whole) - 2, 40, dtype=int).tolist():
        path.write_bytes(whole[:cut])
        left_out += len(convert(source, dataset, settings).left_out)
        for labels in dataset.glob("labelsTr/*"):
            np.testing.assert_array_equal(read_volume(labels).array, TUMOR, err_msg=f"cut at {cut} of {len(whole)}")
    assert left_out > 30


def test_an_unreadable_file_that_may_be_anybodys_is_counted_and_costs_nobody(download, dataset):
    source = download()
    (source / "stray.dcm").write_bytes(b"no DICOM")
    result = convert(source, dataset)
    assert (len(result.converted), result.left_out, result.stray) == (2, (), 1)


def test_other_files_cost_nothing(download, dataset):
    source = download()
    for name in ("LICENSE", "metadata.csv", "bad/CT/.DS_Store", "bad/CT/._1-001.dcm"):
        (source / name).write_bytes(b"\0\5\26\7" * 100)
    result = convert(source, dataset)
    assert (len(result.converted), result.left_out, result.stray) == (2, (), 0)


@pytest.mark.parametrize("make", [None, "folder", "file"])
def test_a_source_without_dicom_is_refused_before_anything_is_written(make, tmp_path, dataset):
    source = tmp_path / "source"
    if make == "folder":
        source.mkdir()
    if make == "file":
        source.write_text("text")
    with pytest.raises(DicomError, match=r"is not a folder|holds 0 file\(s\)"):
        convert(source, dataset)
    assert not dataset.exists()


@pytest.mark.parametrize("blocked", ["imagesTr", "labelsTr", "conversion"])
def test_a_folder_that_cannot_be_made_ends_the_run(blocked, download, dataset):
    dataset.mkdir(parents=True)
    (dataset / blocked).write_text("a file")
    with pytest.raises(OSError, match="File exists"):
        convert(download(), dataset)


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


EVIL_IDS = ("../../evil", "/evil", "a/b", "a\\b", "", "..", "CON", "x" * 200, "nul\0", "new\nline", "Müller^Jürgen")


class TestPatientIdsThatAreNoNames:
    @pytest.mark.parametrize("names", ["patient-id", "uid"])
    @pytest.mark.parametrize("patient_id", EVIL_IDS)
    def test_they_never_leave_the_folder(self, patient_id, names, download, dataset, tmp_path):
        source = download()
        edit_all(source / "bad", lambda dataset: setattr(dataset, "PatientID", patient_id))
        before = {path for path in tmp_path.rglob("*") if dataset not in path.parents}
        result = convert(source, dataset, replace(SETTINGS, case_names=names))
        # The dataset's own folder and its parent are all that is new outside of it.
        assert {path for path in tmp_path.rglob("*") if dataset not in path.parents} - before <= {
            dataset,
            dataset.parent,
        }
        assert all(path.parent in {dataset, *(dataset / d for d in FOLDERS)} for path in dataset.rglob("*.*"))
        if names == "uid":
            assert (len(result.converted), result.left_out) == (2, ())
        else:
            ((record),) = result.left_out
            assert "is no file name" in record["reason"]
            require_only_the_good_one(dataset)

    def test_two_that_differ_only_in_capitals_are_left_out(self, download, dataset):
        source = download()
        write_subject(BAD.but(patient_id="bad", cts=(Ct(seed=6),)), source / "again")
        result = convert(source, dataset)
        assert ["only in capitals" in record["reason"] for record in result.left_out] == [True, True]
        require_only_the_good_one(dataset)


FOLDERS = ("imagesTr", "labelsTr", "conversion")
