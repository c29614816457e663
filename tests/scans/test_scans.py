"""Which CTs there are, what they are called, how they are read and how they are found again."""

import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from builders.dicom_downloads import (
    GRID,
    ONE,
    SETTINGS,
    THREE,
    TWO,
    Ct,
    convert,
    ct_voxels,
    edit,
    edit_all,
    lay_out,
    present,
    write_download,
    write_subject,
)
from pydicom import config

from nnunet_cascade.case_folders.case_record import CaseRecord
from nnunet_cascade.dicom.ct.writing import CtStorage
from nnunet_cascade.dicom.writing import uid_from
from nnunet_cascade.errors import DicomError, InputImageError
from nnunet_cascade.images import write_image
from nnunet_cascade.scans.recorded import recorded_scan
from nnunet_cascade.scans.scans import Scan
from nnunet_cascade.scans.search import find_scans, search_scans

FOLLOWED = ONE.but(cts=(Ct(seed=1), Ct(seed=7, name="CT2")))
LOCALIZER = CtStorage(image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))


@pytest.fixture(scope="module")
def download(tmp_path_factory):
    return write_download((ONE, TWO, THREE), tmp_path_factory.mktemp("download"))


@pytest.fixture
def one(tmp_path):
    return write_subject(ONE, tmp_path / "one")


def only(found):
    (scan,) = found.values()
    return scan


def slices_of(folder, name="CT"):
    return sorted((folder / name).glob("*.dcm"))


class TestSearch:
    @pytest.mark.parametrize("layout", ["idc", "one folder"])
    def test_every_layout_gives_the_same_cases_and_voxels(self, download, tmp_path, layout):
        assert list(find_scans(lay_out(download, tmp_path, layout))) == list(find_scans(download))
        by_id = find_scans(tmp_path, "patient-id")
        assert list(by_id) == ["P1", "P2", "P3"]
        for number, scan in enumerate(by_id.values(), start=1):
            volume = scan.read()
            np.testing.assert_array_equal(volume.array, ct_voxels(number))
            assert volume.array.dtype == np.int16
            assert volume.grid.difference(GRID) is None

    @pytest.mark.parametrize("names", ["uid", "patient-id"])
    def test_cases_are_called_as_the_conversion_calls_them(self, download, tmp_path, names):
        convert(download, tmp_path, replace(SETTINGS, case_names=names))
        converted = [name for name in present(tmp_path) if name.startswith("imagesTr")]
        assert [f"imagesTr/{case}_0000.nii.gz" for case in find_scans(download, names)] == converted

    @pytest.mark.parametrize("names", ["uid", "patient-id"])
    def test_several_series_of_a_patient_are_cases_whose_names_stay(self, tmp_path, names):
        write_subject(FOLLOWED, tmp_path / "a")
        before = find_scans(tmp_path, names)
        assert len(before) == 2
        assert len({scan.series_uid for scan in before.values()}) == 2
        write_subject(TWO, tmp_path / "b")
        write_subject(FOLLOWED.but(cts=(*FOLLOWED.cts, Ct(seed=8, name="CT3"))), tmp_path / "a")
        after = find_scans(tmp_path, names)
        assert len(after) == 4
        assert {case: after[case].series_uid for case in before} == {c: s.series_uid for c, s in before.items()}

    def test_no_name_holds_a_tag_unless_it_is_asked_for(self, tmp_path):
        write_subject(ONE.but(patient_id="<script>", identity={"patient_name": "Doe^Jane"}), tmp_path)
        assert only(find_scans(tmp_path)).case.startswith("case_")
        scan = only(find_scans(tmp_path, "patient-id"))
        assert scan.case.startswith("unnamed_")
        with pytest.raises(DicomError, match="Patient ID that is no file name"):
            scan.read()

    def test_image_files_at_the_top_come_first(self, one):
        assert only(find_scans(one)).is_dicom
        write_image(ct_voxels(1), GRID, one / "a_0000.nii.gz")
        assert find_scans(one) == {"a": Scan(case="a", path=one / "a_0000.nii.gz")}
        assert find_scans(one / "a_0000.nii.gz") == find_scans(one)
        np.testing.assert_array_equal(only(find_scans(one)).read().array, ct_voxels(1))
        assert only(find_scans(one)).files == (one / "a_0000.nii.gz",)

    @pytest.mark.parametrize(
        ("ct", "said"),
        [
            (Ct(name="scout", storage=LOCALIZER), "8 overview(s) and no slice"),
            (Ct(name="scout", without_slices=(2, 3, 4, 5, 6, 7)), "slices at 2 place(s), expected at least 5"),
        ],
    )
    def test_what_is_no_volume_is_left_out_with_a_word(self, tmp_path, caplog, ct, said):
        write_subject(ONE.but(cts=(Ct(seed=1), ct)), tmp_path)
        found = search_scans(tmp_path)
        assert [scan.slices[0].parent.name for scan in found.scans.values()] == ["CT"]
        (left_out,) = found.to_json()["left_out"]
        assert said in left_out["reason"]
        assert said in caplog.text
        assert list(found.scans) == list(find_scans(tmp_path / "CT"))

    @pytest.mark.parametrize(
        ("tag", "value", "kinds"),
        [
            ("ImagePositionPatient", [0, 0, 0], "CT, RTSTRUCT; left out: found"),  # contrast measured at one place
            ("Modality", "MR", r"MR, RTSTRUCT\)"),
        ],
    )
    def test_what_has_no_volume_of_a_ct_says_what_there_is(self, one, tag, value, kinds):
        edit_all(one / "CT", lambda dataset: setattr(dataset, tag, value))
        with pytest.raises(DicomError, match=rf"no CT series that is a volume \(there are: {kinds}"):
            find_scans(one)

    def test_images_that_do_not_say_where_they_lie_are_counted_one_by_one(self, one):
        edit_all(one / "CT", lambda dataset: delattr(dataset, "ImagePositionPatient"))
        assert search_scans(one).left_out == ()

    def test_a_folder_without_any_image_or_a_single_slice_says_what_is_expected(self, tmp_path):
        (tmp_path / "notes.txt").write_text("none")
        with pytest.raises(DicomError, match=r"none of them DICOM .*, or image files named <case>_0000.nii.gz"):
            find_scans(tmp_path)
        with pytest.raises(InputImageError, match="does not exist"):
            find_scans(tmp_path / "nowhere")
        write_subject(ONE, tmp_path / "one")
        with pytest.raises(InputImageError, match=r"is one DICOM file; .* give the folder of its series"):
            find_scans(slices_of(tmp_path / "one")[0])


class TestBrokenFiles:
    def test_one_beside_the_slices_costs_that_series(self, tmp_path, caplog):
        write_download((ONE, FOLLOWED.but(patient_id="P2")), tmp_path)
        slices_of(tmp_path / "001", "CT2")[3].write_bytes(b"nothing")
        found = search_scans(tmp_path)
        troubled = [scan for scan in found.scans.values() if scan.trouble]
        assert [scan.slices[0].parent.name for scan in troubled] == ["CT2"]
        assert len(found.scans) == 3
        assert found.unreadable == 0
        with pytest.raises(DicomError, match=r"1 file\(s\) beside the slices are broken; one is not DICOM in spite of"):
            troubled[0].read()
        assert caplog.text.count("is not DICOM in spite of its name") == 1

    def test_one_that_may_be_any_patients_is_counted(self, download, tmp_path, caplog):
        lay_out(download, tmp_path, "one folder")
        path = next(tmp_path.iterdir())
        path.write_bytes(path.read_bytes()[:200])
        found = search_scans(tmp_path)
        assert (len(found.scans), found.unreadable, found.to_json()["unreadable_files"]) == (3, 1, 1)
        assert not any(scan.trouble for scan in found.scans.values())
        assert "a case may lack a slice" in caplog.text

    def test_one_that_may_be_any_series_is_counted(self, tmp_path):
        write_subject(FOLLOWED, tmp_path / "a")
        lay_out(tmp_path / "a", tmp_path / "b", "one folder")
        (tmp_path / "b" / "x.dcm").write_bytes(b"nothing")
        found = search_scans(tmp_path / "b")
        assert (len(found.scans), found.unreadable) == (2, 1)

    def test_one_beside_contours_costs_nothing(self, one):
        (one / "RTSTRUCT" / "x.dcm").write_bytes(b"nothing")
        found = search_scans(one)
        assert found.unreadable == 0
        assert only(found.scans).trouble == ""

    def test_files_that_changed_meanwhile_are_not_read_without_a_word(self, one):
        scan = only(find_scans(one))
        slices_of(one)[3].write_bytes(b"nothing")
        with pytest.raises(DicomError, match=r"1 file\(s\) of the series were replaced"):
            scan.read()
        slices_of(one)[3].unlink()
        with pytest.raises(DicomError, match="No such file"):
            scan.read()
        with pytest.raises(DicomError, match="No such file") as caught:
            scan.fingerprint()
        assert str(one) not in str(caught.value)

    def test_what_is_no_ct_is_refused(self, one):
        edit_all(one / "CT", lambda dataset: setattr(dataset, "RescaleIntercept", "1000"))
        with pytest.raises(InputImageError, match="not a CT of a thorax"):
            only(find_scans(one)).read()


class TestFlags:
    def test_planes_between_slices_are_flagged(self, tmp_path):
        write_subject(ONE.but(cts=(Ct(seed=1, without_slices=(4,)),)), tmp_path)
        loaded = only(find_scans(tmp_path)).load()
        assert loaded.flags == ("missing_slices",)
        assert loaded.notes == ("slices are missing: 1 of 8 planes lie where no slice does: interpolated",)
        assert loaded.volume.array.shape == GRID.shape
        assert loaded.volume.array.dtype == np.int16

    def test_a_tilted_gantry_is_flagged(self, one):
        def tilt(dataset):
            x, y, z = map(float, dataset.ImagePositionPatient)
            dataset.ImagePositionPatient = [x, y + (z - 100) / 4, z]

        edit_all(one / "CT", tilt)
        loaded = only(find_scans(one)).load()
        assert loaded.flags == ("gantry_tilt",)
        assert loaded.volume.grid.shape[1] > GRID.shape[1]

    def test_slices_that_stand_twice_are_flagged(self, one):
        path = slices_of(one)[2]
        shutil.copyfile(path, path.with_name("again.dcm"))
        loaded = only(find_scans(one)).load()
        assert (loaded.flags, loaded.notes) == ((), ())
        edit(path.with_name("again.dcm"), lambda dataset: setattr(dataset, "SOPInstanceUID", uid_from("again")))
        assert only(find_scans(one)).load().flags == ("duplicate_slices",)


class TestFingerprint:
    def test_names_of_files_do_not_count_and_contents_do(self, one, tmp_path):
        name, expected = only(find_scans(one)).fingerprint()
        assert name == "CT series of 8 files"
        lay_out(one, tmp_path / "moved", "idc")
        moved = only(find_scans(tmp_path / "moved"))
        assert moved.fingerprint() == [name, expected]
        with moved.slices[0].open("ab") as file:
            file.write(b"\0\0")
        assert moved.fingerprint()[1] != expected


def record_of(scan):
    return CaseRecord.from_json({"case": scan.case, "varying": {"image": scan.to_json()}})


class TestRecorded:
    def test_a_record_leads_back_to_the_series_and_names_no_folder_below_the_given_one(self, one, tmp_path):
        lay_out(one, tmp_path / "laid", "descriptive")
        scan = only(find_scans(tmp_path / "laid"))
        record = record_of(scan)
        assert "P1" not in json.dumps(record.to_json()["varying"])
        assert record.varying.image.path == str(tmp_path / "laid")
        found = recorded_scan(record)
        assert set(found.slices) == set(scan.slices)
        assert replace(found, slices=scan.slices) == scan

    def test_looking_where_the_series_lay_shows_no_progress_bar(self, one, capsys, monkeypatch):
        find_scans(one)
        assert capsys.readouterr().err == ""  # where nobody looks, such as in a log
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
        record = record_of(only(find_scans(one)))
        assert "headers" in capsys.readouterr().err
        assert len(recorded_scan(record).slices) == 8
        assert capsys.readouterr().err == ""

    def test_folders_that_were_renamed_are_found_and_a_series_that_is_gone_has_no_slices(self, one):
        record = record_of(only(find_scans(one)))
        (one / "CT").rename(one / "renamed")
        assert {path.parent.name for path in recorded_scan(record).slices} == {"renamed"}
        record = record_of(only(find_scans(one)))
        shutil.rmtree(one)
        scan = recorded_scan(record)
        assert scan.slices == ()
        with pytest.raises(DicomError, match="no file of the CT series is there any more"):
            scan.read()

    def test_an_image_file_is_named_and_has_no_slices(self, tmp_path):
        scan = Scan(case="a", path=tmp_path / "a_0000.nii.gz")
        assert recorded_scan(record_of(scan)) == scan
        with pytest.raises(DicomError, match=r"a_0000.nii.gz, no DICOM series; give the series' folder"):
            scan.stacked()

    @pytest.mark.parametrize("varying", [{}, {"image": {}}, {"image": "a.nii.gz"}])
    def test_a_record_of_another_version_tells_nothing(self, varying):
        assert recorded_scan(CaseRecord.from_json({"case": "a", "varying": varying})) is None


def test_threads_that_read_headers_leave_pydicom_as_it_was(download):
    before = config.settings.reading_validation_mode
    scans = [*find_scans(download).values()] * 4
    with ThreadPoolExecutor(4) as pool:
        stacks = list(pool.map(Scan.stacked, scans))
    assert {len(files.headers) for files in stacks} == {8}
    assert config.settings.reading_validation_mode == before


def test_a_real_download_is_one_case(real_data):
    found = search_scans(real_data / "LUNG1-001", "patient-id")
    assert (list(found.scans), found.left_out, found.unreadable) == (["LUNG1-001"], (), 0)
    assert found.scans["LUNG1-001"].stacked().stack.grid.shape == (134, 512, 512)
