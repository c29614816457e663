"""`nnc-convert-dicom` and `nnc-convert-nsclc-radiomics`: options, exit codes, and what is said."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from builders.cascade_commands import run
from builders.dicom_downloads import ELSEWHERE, LUNG, TUMOR, Ct, Seg, Subject, truncate, write_download, write_subject

from nnunet_cascade.cli import convert_dicom, convert_nsclc_radiomics, options
from nnunet_cascade.images import read_volume

ONE = Subject(patient_id="P1", cts=(Ct(seed=1),), rois=({"GTV-1": TUMOR, "gtv_4r": ELSEWHERE, "Lung-Left": LUNG},))
TWO = ONE.but(patient_id="P2", cts=(Ct(seed=2),))
PRE_OPERATIVE = Subject(patient_id="P3", cts=(Ct(seed=3),), rois=({"gtv-pre-op": TUMOR},))
TUMOR_ALONE = ["--label", "tumor=GTV-1", "--case_names", "patient-id"]


@pytest.fixture
def raw(tmp_path, monkeypatch):
    for name in ("nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    return tmp_path / "raw"


@pytest.fixture
def download(tmp_path):
    return write_download([ONE, TWO], tmp_path / "download")


@pytest.fixture
def dicom(raw, download):
    """Run `nnc-convert-dicom` on the download; gives the exit code."""
    assert raw
    return lambda *options, labels=TUMOR_ALONE: convert_dicom.main(
        ["-i", str(download), "-d", "7", "-np", "1", *labels, *map(str, options)]
    )


@pytest.fixture
def nsclc(raw, download):
    """Run `nnc-convert-nsclc-radiomics` on the download; gives the exit code."""
    assert raw
    return lambda *options: convert_nsclc_radiomics.main(
        ["-i", str(download), "-d", "501", "-np", "1", *map(str, options)]
    )


def labels_of(raw, case, split="Tr", dataset="Dataset007_DICOM"):
    return read_volume(raw / dataset / f"labels{split}" / f"{case}.nii.gz").array


class TestUsage:
    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            (("-d", "0"), "-d 0; expected a number from 1 to 999"),
            (("-d", "1000"), "-d 1000; expected a number from 1 to 999"),
            (("--test_patients", os.devnull), "is empty; expected Patient IDs, one per line"),
            (("-np", "0"), "0 processes; expected at least 1"),
            (("--folds", "1"), "1 folds; expected 0 for none, or at least 2"),
            (("--folds", "3"), "3 folds for 2 patients to train on"),
            (("--name", "a/b"), "dataset name 'a/b'; expected letters"),
            (("--name", "../b"), "dataset name '../b'; expected letters"),
            (("--label", "lung"), "label 'lung'; expected NAME=REGION"),
            (("--label", "tumor=x"), "each name once"),
            (("--test_patients", "nowhere.txt"), "nowhere.txt cannot be read"),
        ],
    )
    def test_wrong_values_are_wrong_usage_in_one_line(self, options, reason, dicom, raw, capsys):
        assert dicom(*options) == 2
        error = capsys.readouterr().err.split("\n")
        assert [line for line in error if reason in line]
        assert not raw.exists()

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            (("--all_gtv", "--targets", "GTV-1"), "exclude each other"),
            (("--all_gtv", "--label_source", "seg"), "the SEGs hold GTV-1 alone"),
            (("--targets", "gtv*"), "expected exact names of ROIs"),
        ],
    )
    def test_options_that_contradict_each_other_are_wrong_usage(self, options, reason, nsclc, raw, capsys):
        assert nsclc(*options) == 2
        assert reason in capsys.readouterr().err
        assert not raw.exists()

    @pytest.mark.parametrize("variable", ["nnUNet_raw", "nnUNet_preprocessed"])
    def test_a_number_that_another_dataset_has_is_refused(self, variable, dicom, raw, tmp_path, monkeypatch, capsys):
        monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
        (Path(os.environ[variable]) / "Dataset007_Other").mkdir(parents=True)
        assert dicom() == 2
        assert "-d 7: Dataset007_Other has this number" in capsys.readouterr().err
        assert not (raw / "Dataset007_DICOM").exists()

    def test_seg_without_highdicom_names_the_extra(self, dicom, raw, monkeypatch, capsys):
        monkeypatch.setattr(options, "find_spec", lambda name: None if name == "highdicom" else name)
        assert dicom("--label_source", "seg") == 1
        assert "pip install 'nnunet-cascade[dicom]'" in capsys.readouterr().err
        assert not raw.exists()


class TestRun:
    def test_all_converted_is_done_and_the_next_step_is_named(self, dicom, raw, capsys):
        assert dicom("--license", "CC0") == 0
        out, bar = capsys.readouterr()
        assert "convert: 100%" in bar
        assert "100%" not in out
        assert f"2 case(s) for training and 0 for testing in {raw / 'Dataset007_DICOM'}" in out
        assert out.splitlines()[-1] == "next: nnUNetv2_plan_and_preprocess -d 7 --verify_dataset_integrity"
        assert "left out" not in out
        np.testing.assert_array_equal(labels_of(raw, "P1"), TUMOR)
        assert json.loads((raw / "Dataset007_DICOM" / "dataset.json").read_text())["licence"] == "CC0"

    def test_what_is_left_out_unreadable_or_should_be_checked_is_told_and_ends_with_1(self, dicom, download, capsys):
        write_subject(PRE_OPERATIVE, download / "third")
        write_subject(ONE.but(cts=(Ct(seed=1, without_slices=(4,)),)), download / "000")
        (download / "stray.dcm").write_bytes(b"no DICOM")
        assert dicom() == 1
        shown = capsys.readouterr()
        assert f"{download / 'stray.dcm'} is not DICOM in spite of its name" in shown.err
        assert "1 unreadable DICOM file(s), listed above" in shown.out
        assert "1 of them should be checked (missing_slices 1, tumor:interpolated 1)" in shown.out
        assert dicom("--irregular", "exclude") == 1
        assert "was converted with other settings (irregular)" in capsys.readouterr().err
        reason = "found no region named 'GTV-1'; there are: 'gtv-pre-op'"
        assert f"1 patient(s) left out:\n  P3: {reason}\n" in shown.out
        assert f"P3 (Patient ID 'P3', files in {download / 'third'}) is left out: {reason}" in shown.err

    def test_of_many_left_out_the_first_ten_are_listed(self, dicom, download, capsys):
        for number in range(12):
            write_subject(ONE.but(patient_id=f"X{number:02d}", rois=()), download / f"x{number}")
        assert dicom() == 1
        lines = capsys.readouterr().out.splitlines()
        at = lines.index("12 patient(s) left out:")
        assert lines[at + 10].startswith("  X09: found no RTSTRUCT")
        assert lines[at + 11] == "  and 2 more"

    def test_folds_that_cannot_be_written_end_with_1(self, dicom, download, capsys):
        truncate(next((download / "001" / "CT").iterdir()))
        assert dicom("--folds", "2") == 1
        assert "no folds written: 2 folds for 1 patients" in capsys.readouterr().out


class TestOptions:
    def test_labels_take_values_in_their_order_optional_ones_last(self, dicom, raw):
        labels = ["--optional_label", "heart=Heart", "--label", "node=gtv_4r", "--label", "tumor=x,gtv-1"]
        assert dicom("--case_names", "patient-id", labels=labels) == 0
        found = json.loads((raw / "Dataset007_DICOM" / "dataset.json").read_text())["labels"]
        assert found == {"background": 0, "node": 1, "tumor": 2, "heart": 3}
        np.testing.assert_array_equal(labels_of(raw, "P1"), np.select([ELSEWHERE, TUMOR], [1, 2]))

    def test_merge_unites_and_cases_are_nobodys_unless_told_otherwise(self, dicom, raw):
        assert dicom("--merge", labels=["--label", "tumor=gtv*"]) == 0
        masks = [path for path in raw.rglob("*.nii.gz") if path.parent.name == "labelsTr"]
        assert len(masks) == 2
        for path in masks:
            assert path.name.startswith("case_")
            np.testing.assert_array_equal(read_volume(path).array, TUMOR | ELSEWHERE)

    def test_each_study_can_be_a_case_and_the_seg_is_chosen_by_description(self, dicom, download, raw):
        segs = (Seg(description="A"), Seg(description="B", masks={"GTV-1": ELSEWHERE}))
        for folder, subject in (("000", ONE), ("001", TWO), ("later", ONE.but(study="later"))):
            write_subject(subject.but(segs=segs), download / folder)
        assert dicom("--label_source", "seg", "--seg_description", "b", "--by_study", "--name", "Studies") == 0
        masks = list((raw / "Dataset007_Studies" / "labelsTr").iterdir())
        assert len(masks) == 3
        for path in masks:
            np.testing.assert_array_equal(read_volume(path).array, ELSEWHERE)

    def test_patients_and_test_patients(self, dicom, tmp_path, raw):
        # As a spreadsheet writes it: with a byte order mark and Windows' line ends.
        (tmp_path / "test.txt").write_bytes(b"\xef\xbb\xbfP2\r\n\r\n")
        assert dicom("--patients", "P1") == 0
        assert [path.name for path in (raw / "Dataset007_DICOM" / "imagesTr").iterdir()] == ["P1_0000.nii.gz"]
        assert dicom("--test_patients", tmp_path / "test.txt") == 0
        np.testing.assert_array_equal(labels_of(raw, "P2", "Ts"), TUMOR)

    @pytest.mark.parametrize(
        ("options", "expected"),
        [((), TUMOR), (("--all_gtv",), TUMOR | ELSEWHERE), (("--targets", "gtv_4r", "GTV-1"), TUMOR | ELSEWHERE)],
    )
    def test_targets_of_the_collection(self, nsclc, raw, options, expected):
        assert nsclc(*options) == 0
        np.testing.assert_array_equal(labels_of(raw, "P1", dataset="Dataset501_NSCLCRadiomics"), expected)


@pytest.mark.slow
@pytest.mark.usefixtures("raw")
def test_the_installed_command_converts_with_two_processes(download, tmp_path):
    done = run("nnc-convert-nsclc-radiomics", "-i", download, "-d", "501", "-np", "2")
    assert "2 case(s) for training and 0 for testing" in done.stdout
    assert len(list((tmp_path / "raw").rglob("*.nii.gz"))) == 4
