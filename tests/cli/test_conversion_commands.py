"""`nnc-convert-dicom` and `nnc-convert-nsclc-radiomics`: options, exit codes, and what is said."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from builders.dicom_downloads import (
    ELSEWHERE,
    LUNG,
    TUMOR,
    Ct,
    Seg,
    Subject,
    contents,
    truncate,
    write_download,
    write_subject,
)

from nnunet_cascade.cli import conversion, convert_dicom, convert_nsclc_radiomics
from nnunet_cascade.images import read_volume

ONE = Subject(patient_id="P1", cts=(Ct(seed=1),), rois=({"GTV-1": TUMOR, "gtv_4r": ELSEWHERE, "Lung-Left": LUNG},))
TWO = ONE.but(patient_id="P2", cts=(Ct(seed=2),))
PRE_OPERATIVE = Subject(patient_id="P3", cts=(Ct(seed=3),), rois=({"gtv-pre-op": TUMOR},))
COMMANDS = [convert_dicom, convert_nsclc_radiomics]
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
    @pytest.mark.parametrize("command", COMMANDS)
    def test_missing_arguments_are_wrong_usage(self, command, capsys):
        with pytest.raises(SystemExit) as stop:
            command.main([])
        assert stop.value.code == 2
        assert "required: -i, -d" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            (("-d", "0"), "-d 0; expected a number from 1 to 999"),
            (("-d", "1000"), "-d 1000; expected a number from 1 to 999"),
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

    def test_an_unset_variable_is_one_line(self, dicom, monkeypatch, capsys):
        monkeypatch.delenv("nnUNet_raw")
        assert dicom() == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "nnUNet_raw is not set; expected a folder; export" in error

    def test_a_download_that_is_not_there_is_one_line(self, raw, tmp_path, capsys):
        assert convert_nsclc_radiomics.main(["-i", str(tmp_path / "nowhere"), "-d", "501"]) == 1
        assert capsys.readouterr().err.splitlines() == [
            f"nnc-convert-nsclc-radiomics: {tmp_path / 'nowhere'} is not a folder; expected one with DICOM files"
        ]
        assert not raw.exists()

    def test_a_folder_in_the_way_is_one_line(self, dicom, raw, capsys):
        raw.write_text("a file")
        assert dicom() == 1
        assert "Traceback" not in capsys.readouterr().err

    @pytest.mark.parametrize("variable", ["nnUNet_raw", "nnUNet_preprocessed"])
    def test_a_number_that_another_dataset_has_is_refused(self, variable, dicom, raw, tmp_path, monkeypatch, capsys):
        monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
        (Path(os.environ[variable]) / "Dataset007_Other").mkdir(parents=True)
        assert dicom() == 2
        assert "-d 7: Dataset007_Other has this number" in capsys.readouterr().err
        assert not (raw / "Dataset007_DICOM").exists()

    def test_seg_without_highdicom_names_the_extra(self, dicom, raw, monkeypatch, capsys):
        monkeypatch.setattr(conversion, "find_spec", lambda name: None if name == "highdicom" else name)
        assert dicom("--label_source", "seg") == 1
        assert "pip install 'nnunet-cascade[dicom]'" in capsys.readouterr().err
        assert not raw.exists()


class TestRun:
    def test_all_converted_is_done_and_the_next_step_is_named(self, dicom, raw, capsys):
        assert dicom() == 0
        out = capsys.readouterr().out
        assert f"2 case(s) for training and 0 for testing in {raw / 'Dataset007_DICOM'}" in out
        assert out.splitlines()[-1] == "next: nnUNetv2_plan_and_preprocess -d 7 --verify_dataset_integrity"
        assert "left out" not in out
        np.testing.assert_array_equal(labels_of(raw, "P1"), TUMOR)

    def test_progress_is_a_bar_on_standard_error(self, dicom, capsys):
        dicom()
        shown = capsys.readouterr()
        assert "convert: 100%" in shown.err
        assert "100%" not in shown.out

    def test_a_patient_left_out_is_told_with_the_reason_and_ends_with_1(self, dicom, download, capsys):
        write_subject(PRE_OPERATIVE, download / "third")
        assert dicom() == 1
        shown = capsys.readouterr()
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

    def test_a_stray_unreadable_file_is_named_and_ends_with_1(self, dicom, download, capsys):
        (download / "stray.dcm").write_bytes(b"no DICOM")
        assert dicom() == 1
        shown = capsys.readouterr()
        assert f"{download / 'stray.dcm'} is not DICOM in spite of its name" in shown.err
        assert "1 unreadable DICOM file(s), listed above" in shown.out

    def test_a_broken_file_of_a_patient_is_named_on_the_screen_alone(self, dicom, download, raw, capsys):
        broken = next((download / "000" / "CT").iterdir())
        broken.write_bytes(b"no DICOM")
        assert dicom() == 1
        assert f"{broken} is not DICOM" in capsys.readouterr().err
        assert broken.name.encode() not in contents(raw)["Dataset007_DICOM/conversion.json"]

    def test_flags_are_counted(self, dicom, download, capsys):
        write_subject(ONE.but(cts=(Ct(seed=1, without_slices=(4,)),)), download / "000")
        assert dicom() == 0
        assert "1 of them should be checked (missing_slices 1, tumor:interpolated 1)" in capsys.readouterr().out

    def test_folds_that_cannot_be_written_end_with_1(self, dicom, download, capsys):
        truncate(next((download / "001" / "CT").iterdir()))
        assert dicom("--folds", "2") == 1
        assert "no folds written: 2 folds for 1 patients" in capsys.readouterr().out

    def test_a_second_run_says_that_all_is_there(self, dicom, capsys):
        dicom()
        capsys.readouterr()
        assert dicom() == 0
        assert "2 of 2 cases are there already" in capsys.readouterr().err

    def test_other_settings_are_one_line(self, dicom, capsys):
        dicom()
        capsys.readouterr()
        assert dicom("--irregular", "exclude") == 1
        assert "was converted with other settings (irregular); choose another" in capsys.readouterr().err


class TestOptions:
    def test_labels_take_values_in_their_order_optional_ones_last(self, dicom, raw):
        labels = ["--optional_label", "heart=Heart", "--label", "node=gtv_4r", "--label", "tumor=x,gtv-1"]
        assert dicom("--case_names", "patient-id", labels=labels) == 0
        found = json.loads((raw / "Dataset007_DICOM" / "dataset.json").read_text())["labels"]
        assert found == {"background": 0, "node": 1, "tumor": 2, "heart": 3}
        np.testing.assert_array_equal(labels_of(raw, "P1"), np.select([ELSEWHERE, TUMOR], [1, 2]))

    def test_merge_unites(self, dicom, raw):
        assert dicom("--merge", "--case_names", "patient-id", labels=["--label", "tumor=gtv*"]) == 0
        np.testing.assert_array_equal(labels_of(raw, "P1"), TUMOR | ELSEWHERE)

    def test_cases_are_nobodys_unless_told_otherwise(self, dicom, raw):
        assert dicom(labels=["--label", "tumor=GTV-1"]) == 0
        names = [path.name for path in raw.rglob("*.nii.gz")]
        assert len(names) == 4
        assert all(name.startswith("case_") for name in names)

    def test_by_study(self, dicom, download, raw):
        write_subject(ONE.but(study="later"), download / "later")
        assert dicom() == 1
        assert dicom("--by_study", "--name", "Studies", "-d", "8") == 0
        assert len(list((raw / "Dataset008_Studies" / "imagesTr").iterdir())) == 3

    def test_the_seg_is_chosen_by_description(self, dicom, download, raw):
        for number, subject in enumerate((ONE, TWO)):
            segs = (Seg(description="A"), Seg(description="B", masks={"GTV-1": ELSEWHERE}))
            write_subject(subject.but(segs=segs), download / f"{number:03d}")
        assert dicom("--label_source", "seg", "--seg_description", "b") == 0
        np.testing.assert_array_equal(labels_of(raw, "P1"), ELSEWHERE)

    def test_patients_and_test_patients(self, dicom, tmp_path, raw):
        # As a spreadsheet writes it: with a byte order mark and Windows' line ends.
        (tmp_path / "test.txt").write_bytes(b"\xef\xbb\xbfP2\r\n\r\n")
        assert dicom("--patients", "P1") == 0
        assert [path.name for path in (raw / "Dataset007_DICOM" / "imagesTr").iterdir()] == ["P1_0000.nii.gz"]
        assert dicom("--test_patients", tmp_path / "test.txt") == 0
        np.testing.assert_array_equal(labels_of(raw, "P2", "Ts"), TUMOR)

    def test_an_empty_file_of_test_patients_is_wrong_usage(self, dicom, tmp_path, capsys):
        (tmp_path / "test.txt").write_text("\n")
        assert dicom("--test_patients", tmp_path / "test.txt") == 2
        assert "test.txt is empty; expected Patient IDs, one per line" in capsys.readouterr().err

    def test_patients_that_are_not_there_are_one_line(self, dicom, capsys):
        assert dicom("--patients", "P1", "p2") == 1
        assert "holds 2 patient(s), but not p2; give Patient IDs as they stand" in capsys.readouterr().err

    def test_words_about_the_data(self, dicom, raw):
        assert dicom("--license", "CC0") == 0
        assert json.loads((raw / "Dataset007_DICOM" / "dataset.json").read_text())["licence"] == "CC0"

    @pytest.mark.parametrize(
        ("options", "expected"),
        [((), TUMOR), (("--all_gtv",), TUMOR | ELSEWHERE), (("--targets", "gtv_4r", "GTV-1"), TUMOR | ELSEWHERE)],
    )
    def test_targets_of_the_collection(self, nsclc, raw, options, expected):
        assert nsclc(*options) == 0
        np.testing.assert_array_equal(labels_of(raw, "P1", dataset="Dataset501_NSCLCRadiomics"), expected)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["nnc-convert-dicom", "nnc-convert-nsclc-radiomics"])
def test_installed_commands_convert_with_two_processes(command, download, tmp_path):
    options = ["--label", "tumor=GTV-1"] if command == "nnc-convert-dicom" else []
    done = subprocess.run(
        [sys.executable, Path(sys.executable).parent / command, "-i", download, "-d", "501", "-np", "2", *options],
        env={
            **os.environ,
            # Other tests leave folders here that hold a dataset of the same number.
            **{f"nnUNet_{kind}": str(tmp_path / kind) for kind in ("raw", "preprocessed", "results")},
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "2 case(s) for training and 0 for testing" in done.stdout
    assert len(list((tmp_path / "raw").rglob("*.nii.gz"))) == 4
