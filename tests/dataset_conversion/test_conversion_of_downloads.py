"""Whole downloads: any layout gives the same dataset, and a run goes on where it was stopped."""

import gzip
import json
import logging
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dicom_downloads import (
    ELSEWHERE,
    GRID,
    LAYOUTS,
    LUNG,
    SETTINGS,
    TUMOR,
    TUMOR_LABEL,
    Ct,
    Seg,
    Subject,
    ball,
    contents,
    convert,
    ct_voxels,
    edit,
    environment,
    lay_out,
    run_python,
    truncate,
    write_download,
    write_subject,
)

from nnunet_cascade.dataset_conversion import cohort, writing
from nnunet_cascade.dataset_conversion.cohort import ConversionRequest
from nnunet_cascade.dataset_conversion.dicom.folder import scan_folder
from nnunet_cascade.dataset_conversion.labels import Label
from nnunet_cascade.dataset_conversion.settings import ConversionSettings
from nnunet_cascade.dataset_conversion.workers import convert_side_by_side
from nnunet_cascade.dataset_conversion.writing import CaseJob
from nnunet_cascade.errors import DatasetError, DicomError, SettingsError
from nnunet_cascade.images import read_volume

ONE, TWO, THREE = (
    Subject(patient_id=f"P{number}", cts=(Ct(seed=number),), rois=({"GTV-1": ball(radius_mm=6.0 + number)},))
    for number in (1, 2, 3)
)
GAPPED = TWO.but(cts=(Ct(seed=2, without_slices=(4,)),), segs=(Seg(),))
NAMES = ("P1", "P2", "P3")


@pytest.fixture(scope="module")
def download(tmp_path_factory):
    """Three patients, one of them with a gap and a SEG. To be left as it is."""
    return write_download([ONE, GAPPED, THREE], tmp_path_factory.mktemp("download"))


@pytest.fixture(scope="module")
def reference(download, tmp_path_factory):
    """What comes out of it."""
    dataset = tmp_path_factory.mktemp("reference") / "Dataset501_X"
    assert convert(download, dataset).left_out == ()
    return dataset


@pytest.fixture
def dataset(tmp_path):
    return tmp_path / "nnUNet_raw" / "Dataset501_X"


@pytest.fixture
def logged(caplog, monkeypatch):
    """What the package logs, also after a command has set its own handler."""
    monkeypatch.setattr(logging.getLogger("nnunet_cascade"), "propagate", True)
    caplog.set_level(logging.INFO, logger="nnunet_cascade")
    return caplog


def labels_of(dataset, case, split="Tr"):
    return read_volume(dataset / f"labels{split}" / f"{case}.nii.gz").array


def manifest_of(dataset):
    return json.loads((dataset / "conversion.json").read_text())


def times(dataset):
    """When each file of a case was written."""
    files = [path for path in dataset.rglob("*") if path.is_file() and path.parent != dataset]
    return {path.relative_to(dataset).as_posix(): path.stat().st_mtime_ns for path in files}


def present(dataset):
    return sorted(path.relative_to(dataset).as_posix() for path in dataset.rglob("*.nii.gz"))


def both(case, split="Tr"):
    return [f"images{split}/{case}_0000.nii.gz", f"labels{split}/{case}.nii.gz"]


class TestDataset:
    def test_it_is_nnunets(self, reference):
        found = json.loads((reference / "dataset.json").read_text())
        assert found["channel_names"] == {"0": "CT"}
        assert found["labels"] == {"background": 0, "tumor": 1}
        assert (found["numTraining"], found["file_ending"]) == (3, ".nii.gz")
        assert present(reference) == sorted(path for name in NAMES for path in both(name))

    def test_voxels_are_those_of_the_dicom(self, reference):
        image = read_volume(reference / "imagesTr" / "P1_0000.nii.gz")
        assert GRID.difference(image.grid) is None
        np.testing.assert_array_equal(image.array, ct_voxels(1))
        np.testing.assert_array_equal(labels_of(reference, "P1"), ONE.rois[0]["GTV-1"])

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_every_layout_gives_the_same_bytes(self, layout, download, reference, tmp_path, dataset):
        convert(lay_out(download, tmp_path / "laid out", layout), dataset)
        assert contents(dataset, "conversion.json") == contents(reference, "conversion.json")
        found, expected = manifest_of(dataset), manifest_of(reference)
        assert found.pop("files_that_are_not_dicom") == (2 if layout == "descriptive" else 0)
        assert expected.pop("files_that_are_not_dicom") == 0
        assert found == expected

    def test_copies_of_files_change_nothing(self, download, reference, tmp_path, dataset):
        for layout in ("idc", "classic"):
            lay_out(download, tmp_path / "twice" / layout, layout)
        convert(tmp_path / "twice", dataset)
        assert contents(dataset) == contents(reference)

    def test_two_processes_give_the_same_bytes(self, download, reference, dataset):
        convert(download, dataset, processes=2)
        assert contents(dataset) == contents(reference)


class TestManifest:
    def test_every_case_has_its_record_in_it_and_beside_it(self, reference):
        manifest = manifest_of(reference)
        assert list(manifest["converted"]) == list(NAMES)
        for name, record in manifest["converted"].items():
            assert json.loads((reference / "conversion" / f"{name}.json").read_text()) == record
        assert manifest["converted"]["P2"]["ct"]["interpolated_planes"] == [4]
        assert manifest["finished"] is True
        assert "not a medical device" in manifest["notice"]
        assert manifest["versions"]["pydicom"]

    def test_the_licence_of_the_data_is_named(self, download, dataset):
        convert(download, dataset, replace(SETTINGS, licence="CC BY-NC 3.0"))
        assert manifest_of(dataset)["licence"] == "CC BY-NC 3.0"
        assert json.loads((dataset / "dataset.json").read_text())["licence"] == "CC BY-NC 3.0"

    def test_cases_with_the_same_ct_are_named(self, tmp_path, dataset, logged):
        copy = THREE.but(cts=(Ct(seed=1),))
        convert(write_download([ONE, TWO, copy], tmp_path / "d"), dataset)
        assert manifest_of(dataset)["duplicate_cts"] == [["P1", "P3"]]
        assert logged.messages[-1] == "the CTs of P1 and P3 are the same, voxel for voxel"
        convert(tmp_path / "d", dataset, test_patients=frozenset({"P3"}))
        assert logged.messages[-1].endswith("voxel for voxel; some are to train on and some to test on")

    def test_who_is_left_out_has_a_reason(self, tmp_path, dataset):
        result = convert(write_download([ONE, TWO.but(rois=())], tmp_path / "d"), dataset)
        reason = "found no RTSTRUCT (there are: CT); expected one with the regions of the labels"
        assert manifest_of(dataset)["left_out"] == {"P2": reason}
        assert [(record["case"], record["reason"]) for record in result.left_out] == [("P2", reason)]

    def test_who_is_left_out_stands_in_the_order_of_names_whoever_was_first(self, tmp_path, dataset):
        left_out = [subject.but(rois=()) for subject in (TWO.but(patient_id="a b"), THREE, ONE)]
        result = convert(write_download(left_out, tmp_path / "d"), dataset)
        names = [record["case"] for record in result.left_out]
        assert names == list(manifest_of(dataset)["left_out"]) == sorted(names)
        assert names[:2] == ["P1", "P3"]

    def test_reasons_of_patients_that_a_later_run_is_not_about_stay(self, tmp_path, dataset):
        source = write_download([ONE, TWO.but(rois=()), THREE.but(rois=())], tmp_path / "d")
        convert(source, dataset)
        write_subject(TWO, tmp_path / "d" / "repaired")
        result = convert(source, dataset, patients=frozenset({"P2"}))
        assert list(manifest_of(dataset)["left_out"]) == ["P3"]
        assert result.left_out == ()


class TestOptions:
    def test_patients_asked_for_are_converted_alone(self, download, dataset):
        convert(download, dataset, patients=frozenset({"P1", "P3"}))
        assert present(dataset) == sorted(both("P1") + both("P3"))

    @pytest.mark.parametrize("asked", ["patients", "test_patients"])
    def test_patients_that_are_not_there_are_refused(self, download, dataset, asked):
        with pytest.raises(DicomError, match=r"holds 3 patient\(s\), but not P9, p1"):
            convert(download, dataset, **{asked: frozenset({"P1", "P9", "p1"})})
        assert not dataset.exists()

    def test_patients_asked_for_limit_those_to_test_on(self, download, dataset):
        convert(download, dataset, patients=frozenset({"P1", "P2"}), test_patients=frozenset({"P2", "P3"}))
        assert present(dataset) == sorted(both("P1") + both("P2", "Ts"))

    def test_labels_have_their_spellings_and_the_first_keeps_the_voxel(self, tmp_path, dataset):
        rois = {"gtv primary": TUMOR, "Lung-Left": LUNG, "node 1": ELSEWHERE}
        other = {"GTV1": TUMOR, "LUNG L": LUNG}
        source = write_download([ONE.but(rois=(rois,)), TWO.but(rois=(other,))], tmp_path / "d")
        labels = (
            Label(name="tumor", regions=("GTV-1", "gtv1", "GTV primary")),
            Label(name="lung", regions=("lung-left", "lung l")),
            Label(name="node", regions=("node*",), required=False),
        )
        assert convert(source, dataset, replace(SETTINGS, labels=labels)).left_out == ()
        expected = np.select([TUMOR, LUNG, ELSEWHERE], [1, 2, 3])
        assert set(np.unique(expected)) == {0, 1, 2, 3}
        np.testing.assert_array_equal(labels_of(dataset, "P1"), expected)
        np.testing.assert_array_equal(labels_of(dataset, "P2"), np.select([TUMOR, LUNG], [1, 2]))

    def test_merged_regions_are_united(self, tmp_path, dataset):
        rois = {"GTV-1": TUMOR, "gtv_4r": ELSEWHERE, "Lung-Left": LUNG}
        label = Label(name="tumor", regions=("gtv*",), merge=True)
        convert(write_download([ONE.but(rois=(rois,))], tmp_path / "d"), dataset, replace(SETTINGS, labels=(label,)))
        np.testing.assert_array_equal(labels_of(dataset, "P1"), TUMOR | ELSEWHERE)

    def test_the_label_source_is_what_labels_are_drawn_from(self, tmp_path, dataset):
        source = write_download([ONE.but(segs=(Seg(masks={"GTV-1": ELSEWHERE}),))], tmp_path / "d")
        for name, expected in (("rtstruct", ONE.rois[0]["GTV-1"]), ("seg", ELSEWHERE)):
            convert(source, dataset / name, replace(SETTINGS, source=name))
            np.testing.assert_array_equal(labels_of(dataset / name, "P1"), expected)

    def test_irregular_series_are_left_out_if_asked(self, download, dataset):
        result = convert(download, dataset, replace(SETTINGS, irregular="exclude"))
        ((record),) = result.left_out
        assert record["case"] == "P2"
        assert record["reason"].startswith("found missing_slices (7 slices, 1 of 8 planes between them)")
        assert present(dataset) == sorted(both("P1") + both("P3"))

    def test_each_study_can_be_a_case(self, tmp_path, dataset):
        later = ONE.but(study="later", cts=(Ct(seed=7),), rois=({"GTV-1": ELSEWHERE},))
        source = write_download([ONE, later, TWO], tmp_path / "d")
        assert "--by-study" in convert(source, dataset / "a").left_out[0]["reason"]
        result = convert(source, dataset / "b", replace(SETTINGS, by_study=True))
        cases = {record["case"]: record["group"] for record in result.converted}
        assert len(cases) == 3
        of_one = [case for case in cases if case.startswith("P1_")]
        assert len(of_one) == 2
        assert {cases[case] for case in of_one} == {min(of_one)}

    def test_studies_without_a_patient_id_are_cases_and_groups_of_their_own(self, tmp_path, dataset):
        nobody = [subject.but(patient_id="", study=f"study {subject.patient_id}") for subject in (ONE, TWO)]
        result = convert(write_download(nobody, tmp_path / "d"), dataset, replace(SETTINGS, case_names="uid"))
        assert len({record["group"] for record in result.converted}) == 2

    def test_a_name_does_not_depend_on_who_is_asked_for(self, tmp_path, dataset):
        same_study = [write_subject(subject, tmp_path / "d" / subject.patient_id) for subject in (ONE, TWO)]
        for folder in same_study:
            for path in folder.rglob("*.dcm"):
                edit(path, lambda dataset: setattr(dataset, "StudyInstanceUID", "1.2.3"))
        by_uid = replace(SETTINGS, case_names="uid")
        convert(tmp_path / "d", dataset, by_uid, patients=frozenset({"P1"}))
        convert(tmp_path / "d", dataset, by_uid, patients=frozenset({"P2"}))
        hashes = {record["ct"]["sha256"] for record in manifest_of(dataset)["converted"].values()}
        assert len(hashes) == 2


class TestTestPatients:
    def test_they_go_to_their_own_folders(self, download, dataset):
        convert(download, dataset, test_patients=frozenset({"P2"}))
        assert present(dataset) == sorted(both("P1") + both("P3") + both("P2", "Ts"))
        assert json.loads((dataset / "dataset.json").read_text())["numTraining"] == 2

    def test_a_case_moves_and_leaves_nothing_behind(self, download, dataset, logged):
        convert(download, dataset)
        before = times(dataset)
        convert(download, dataset, test_patients=frozenset({"P2"}))
        assert present(dataset) == sorted(both("P1") + both("P3") + both("P2", "Ts"))
        assert "P2 moves from imagesTr to imagesTs" in logged.text
        stayed = {name: time for name, time in times(dataset).items() if "P2" not in name}
        assert stayed.items() <= before.items()
        convert(download, dataset)
        assert present(dataset) == sorted(path for name in NAMES for path in both(name))
        assert "P2 moves from imagesTs to imagesTr" in logged.text


class TestFolds:
    @pytest.fixture
    def folds_of(self, dataset):
        def build(source, count, **changes):
            result = convert(source, dataset, replace(SETTINGS, **changes), folds=count)
            assert result.folds_problem == ""
            return json.loads((dataset / "splits_final.json").read_text())

        return build

    def test_they_are_nnunets_and_of_training_cases(self, download, dataset):
        convert(download, dataset, test_patients=frozenset({"P2"}), folds=2)
        folds = json.loads((dataset / "splits_final.json").read_text())
        assert sorted(map(str, folds)) == sorted(
            [str({"train": ["P1"], "val": ["P3"]}), str({"train": ["P3"], "val": ["P1"]})]
        )

    def test_a_persons_studies_stay_together(self, tmp_path, folds_of):
        studies = [ONE.but(study=str(number), cts=(Ct(seed=10 + number),)) for number in range(4)]
        folds = folds_of(write_download([*studies, TWO], tmp_path / "d"), 2, by_study=True)
        assert sorted(len(fold["val"]) for fold in folds) == [1, 4]

    def test_copies_of_a_ct_stay_together(self, tmp_path, folds_of):
        copies = [ONE.but(patient_id=f"C{number}") for number in range(4)]
        folds = folds_of(write_download([*copies, TWO], tmp_path / "d"), 2)
        assert sorted(len(fold["val"]) for fold in folds) == [1, 4]

    def test_more_folds_than_patients_are_refused_before_any_work(self, download, dataset):
        with pytest.raises(SettingsError, match="4 folds for 3 patients to train on"):
            convert(download, dataset, folds=4)
        assert not dataset.exists()

    def test_too_few_that_could_be_converted_cost_the_folds_alone(self, tmp_path, dataset):
        source = write_download([ONE, TWO.but(rois=())], tmp_path / "d")
        result = convert(source, dataset, folds=2)
        assert "2 folds for 1 patients" in result.folds_problem
        assert present(dataset) == both("P1")
        assert not (dataset / "splits_final.json").exists()

    def test_folds_that_a_later_run_makes_stale_are_named(self, download, dataset, logged):
        convert(download, dataset, folds=2)
        convert(download, dataset)
        assert "splits_final.json" not in logged.text
        convert(download, dataset, test_patients=frozenset({"P1"}))
        assert "splits_final.json is not of these training cases" in logged.text

    @pytest.mark.parametrize(("name", "value"), [("folds", 1), ("folds", -1), ("processes", 0)])
    def test_numbers_out_of_range_are_refused(self, download, dataset, name, value):
        with pytest.raises(SettingsError, match=f"{value} {name}"):
            convert(download, dataset, **{name: value})


class TestGoingOn:
    def test_a_second_run_writes_no_case_again(self, download, dataset, logged):
        convert(download, dataset)
        before, manifest = times(dataset), manifest_of(dataset)
        convert(download, dataset)
        assert times(dataset) == before
        assert manifest_of(dataset) == manifest
        assert "3 of 3 cases are there already" in logged.text

    def test_it_finds_them_in_another_layout(self, download, dataset, tmp_path):
        convert(download, dataset)
        before = times(dataset)
        convert(lay_out(download, tmp_path / "moved", "one folder"), dataset)
        assert times(dataset) == before

    @pytest.mark.parametrize("lost", [*both("P2"), "conversion/P2.json"])
    def test_what_was_removed_is_made_again_and_nothing_else(self, lost, download, dataset, reference):
        convert(download, dataset)
        before = times(dataset)
        (dataset / lost).unlink()
        convert(download, dataset)
        assert contents(dataset) == contents(reference)
        written = {name for name, time in times(dataset).items() if before[name] != time}
        assert written == {*both("P2"), "conversion/P2.json"}

    def test_a_broken_record_counts_as_none(self, download, dataset, reference):
        convert(download, dataset)
        (dataset / "conversion" / "P2.json").write_text('{"case": "P2", "sta')
        convert(download, dataset)
        assert contents(dataset) == contents(reference)

    def test_a_patient_whose_files_changed_is_converted_again(self, tmp_path, dataset):
        source = write_download([ONE, TWO], tmp_path / "d")
        convert(source, dataset)
        before = times(dataset)
        write_subject(ONE.but(rois=({"GTV-1": ELSEWHERE},)), tmp_path / "d" / "000")
        convert(source, dataset)
        np.testing.assert_array_equal(labels_of(dataset, "P1"), ELSEWHERE)
        assert {name for name, time in times(dataset).items() if before[name] != time} == {
            *both("P1"),
            "conversion/P1.json",
        }

    def test_a_patient_that_cannot_be_converted_any_more_leaves_no_old_case(self, tmp_path, dataset):
        source = write_download([ONE, TWO], tmp_path / "d")
        convert(source, dataset)
        (tmp_path / "d" / "001" / "RTSTRUCT" / "1-1.dcm").unlink()
        convert(source, dataset)
        manifest = manifest_of(dataset)
        assert (list(manifest["converted"]), list(manifest["left_out"])) == (["P1"], ["P2"])
        assert present(dataset) == both("P1")

    def test_a_new_study_of_a_person_changes_the_group_of_the_old_one_without_converting_it(self, tmp_path, dataset):
        by_study = replace(SETTINGS, by_study=True)
        studies = [ONE.but(study=str(number)) for number in range(4)]
        convert(write_download(studies[:1], tmp_path / "d"), dataset, by_study)
        images = {name: time for name, time in times(dataset).items() if "images" in name}
        convert(write_download(studies, tmp_path / "d"), dataset, by_study)
        records = manifest_of(dataset)["converted"]
        assert {record["group"] for record in records.values()} == {min(records)}
        assert images.items() <= times(dataset).items()

    def test_other_settings_are_refused_by_name(self, download, dataset):
        convert(download, dataset)
        before = contents(dataset)
        with pytest.raises(DatasetError, match=r"other settings \(source, irregular\); choose another"):
            convert(download, dataset, replace(SETTINGS, source="seg", irregular="exclude"))
        assert contents(dataset) == before

    def test_words_about_the_data_are_no_other_settings(self, download, dataset):
        convert(download, dataset)
        before = times(dataset)
        convert(download, dataset, replace(SETTINGS, licence="CC0", description="Words"))
        assert times(dataset) == before
        assert json.loads((dataset / "dataset.json").read_text())["licence"] == "CC0"

    def test_a_run_that_converted_nothing_may_be_followed_by_one_with_other_settings(
        self, download, dataset, reference
    ):
        misspelt = replace(SETTINGS, labels=(Label(name="tumor", regions=("GTV-l",)),))
        assert len(convert(download, dataset, misspelt).left_out) == 3
        convert(download, dataset)
        assert contents(dataset) == contents(reference)

    def test_images_of_another_origin_are_left_alone(self, download, dataset):
        stranger = dataset / "imagesTr" / "theirs_0000.nii.gz"
        stranger.parent.mkdir(parents=True)
        stranger.write_bytes(b"theirs")
        with pytest.raises(DatasetError, match=r"images of another origin, such as theirs_0000\.nii\.gz"):
            convert(download, dataset)
        assert contents(dataset) == {"imagesTr/theirs_0000.nii.gz": b"theirs"}

    def test_images_that_no_record_tells_of_are_named_and_stay(self, download, dataset, logged):
        convert(download, dataset)
        (dataset / "imagesTr" / "theirs_0000.nii.gz").write_bytes(b"theirs")
        convert(download, dataset)
        assert "holds 1 image(s) that no record tells of, such as theirs_0000.nii.gz" in logged.text
        assert (dataset / "imagesTr" / "theirs_0000.nii.gz").read_bytes() == b"theirs"


KILLED_BEFORE_RENAMING = """
import os, sys
from pathlib import Path
from dicom_downloads import convert

source, target, last = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
rename = Path.replace
for kill_at in range(1, last + 1):
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        continue
    count = 0
    def killed(beside, path):
        global count
        count += 1
        if count == kill_at:
            os._exit(9)
        return rename(beside, path)
    Path.replace = killed
    convert(source, target / str(kill_at) / "Dataset501_X")
    os._exit(0)
"""


class TestKilled:
    def test_at_any_moment_it_goes_on_and_leaves_nothing_half_written(self, download, reference, tmp_path):
        # For each case: record begun, labels, image, record; before them the manifest, after them it and dataset.json.
        writes = 1 + 3 * 4 + 2
        run_python(KILLED_BEFORE_RENAMING, download, tmp_path, writes + 1)
        complete = contents(reference)
        assert contents(tmp_path / str(writes + 1) / "Dataset501_X") == complete
        left_behind = 0
        for kill_at in range(1, writes + 1):
            dataset = tmp_path / str(kill_at) / "Dataset501_X"
            visible = {name: data for name, data in contents(dataset).items() if "/." not in name and name[0] != "."}
            left_behind += len(contents(dataset)) - len(visible)
            images = {name: data for name, data in visible.items() if name.endswith(".nii.gz")}
            assert images.items() <= complete.items()
            assert all(f"labelsTr/{name[9:-12]}.nii.gz" in images for name in images if name.startswith("images"))
            convert(download, dataset)
            assert contents(dataset) == complete
        assert left_behind == writes

    def test_what_was_begun_is_removed_though_the_next_run_is_about_others(self, download, tmp_path):
        run_python(KILLED_BEFORE_RENAMING, download, tmp_path, 5)
        dataset = tmp_path / "5" / "Dataset501_X"
        assert present(dataset) == both("P1")
        # Nor does it stand in the way of other settings.
        convert(download, dataset, replace(SETTINGS, irregular="exclude"), patients=frozenset({"P3"}))
        assert present(dataset) == both("P3")

    def test_a_worker_that_is_killed_costs_its_patient_alone(self, download, dataset, monkeypatch):
        scan = scan_folder(download)
        second = scan.patients[1]
        bomb = replace(second.headers[0], path=Bomb(second.headers[0].path))
        patients = (scan.patients[0], replace(second, headers=(bomb, *second.headers[1:])), scan.patients[2])
        monkeypatch.setattr(cohort, "scan_folder", lambda *_, **__: replace(scan, patients=patients))
        result = convert(download, dataset, processes=2)
        assert {record["case"] for record in result.converted} == {"P1", "P3"}
        assert [(r["case"], "lack of memory" in r["reason"]) for r in result.left_out] == [("P2", True)]

    def test_interrupted_it_does_not_go_through_all_patients_first(self, download, dataset):
        (dataset / "conversion").mkdir(parents=True)
        for folder in ("imagesTr", "labelsTr"):
            (dataset / folder).mkdir()
        patient = scan_folder(download).patients[0]
        jobs = [
            CaseJob(case=f"c{number}", group="g", patient=patient, settings=SETTINGS, dataset=dataset)
            for number in range(40)
        ]
        records = convert_side_by_side(jobs, 2)
        next(records)
        records.close()
        assert 1 <= len(list((dataset / "conversion").glob("*.json"))) < 20

    def test_interrupted_between_labels_and_image_it_leaves_neither(self, download, dataset, monkeypatch):
        def interrupted(array, grid, path):
            if path.parent.name == "imagesTr":
                raise KeyboardInterrupt
            write_image(array, grid, path)

        write_image = writing.write_image
        monkeypatch.setattr(writing, "write_image", interrupted)
        with pytest.raises(KeyboardInterrupt):
            convert(download, dataset)
        assert list(contents(dataset)) == ["conversion.json"]

    def test_no_worker_outlives_the_run(self, download, dataset):
        with working(60, download, dataset) as run:
            run.kill()
            # Workers hold this pipe too: it ends with the last of them.
            run.communicate(timeout=30)

    def test_ctrl_c_is_one_line_and_ends_it_with_the_patients_at_hand(self, download, dataset):
        with working(0.3, download, dataset) as run:
            os.killpg(run.pid, signal.SIGINT)
            said = run.stdout.read().decode()
        assert run.returncode == 130
        assert said.splitlines()[-1] == "nnc-convert-dicom: interrupted; run it again to go on"
        assert "Traceback" not in said


@contextmanager
def working(seconds, download, dataset):
    """A run of two processes, in a session of its own, while its first patient is at hand."""
    script = "import sys; from dicom_downloads import run_slowly; sys.exit(run_slowly(*sys.argv[1:]))"
    options = ["-i", download, "-d", "501", "--name", "X", "--np", "2", "--label", "tumor=GTV-1"]
    with subprocess.Popen(
        [sys.executable, "-c", script, *map(str, (seconds, *options))],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(nnUNet_raw=str(dataset.parent)),
        start_new_session=True,
    ) as run:
        while b"working" not in run.stdout.readline():
            assert run.poll() is None
        yield run


class Bomb(type(Path())):
    """A path that kills the process it is sent to."""

    def __reduce__(self):
        return os._exit, (9,)


SECRETS = {
    "name": "Doe^Jane",
    "id": "MRN-4711-0815",
    "birth": "19470203",
    "date": "20110911",
    "physician": "House^Gregory",
    "institution": "Princeton-Plainsboro",
    "folder": "ward seven",
    "file": "janes_scan",
    "description": "follow-up of Jane",
}


@pytest.fixture
def identified(tmp_path):
    """Patients with all tags that name somebody, in folders and files that do: one whole, the others broken."""
    folder = tmp_path / SECRETS["folder"]
    identity = {"patient_name": SECRETS["name"], "birth_date": SECRETS["birth"], "date": SECRETS["date"]}
    subjects = {
        kind: ONE.but(patient_id=f"{SECRETS['id']}-{kind}", study=kind, segs=(Seg(),), identity=identity)
        for kind in ("whole", "no region", "contours cut", "seg cut", "slice cut", "not DICOM", "bad ID")
    }
    subjects["no region"] = subjects["no region"].but(rois=({"Lung": LUNG},))
    subjects["bad ID"] = subjects["bad ID"].but(patient_id=f"../{SECRETS['id']}")
    for kind, subject in subjects.items():
        write_subject(subject, folder / kind)
    for number, path in enumerate(sorted(folder.rglob("*.dcm"))):
        edit(path, _identify)
        path.rename(path.with_name(f"{SECRETS['file']}{number}.dcm"))
    truncate(next((folder / "contours cut" / "RTSTRUCT").iterdir()), 0.7)
    truncate(next((folder / "seg cut" / "SEG").iterdir()), 0.95)
    truncate(next((folder / "slice cut" / "CT").iterdir()), 0.8)
    next((folder / "not DICOM" / "CT").iterdir()).write_bytes(b"nothing")
    return folder


def _identify(dataset):
    dataset.InstitutionName = SECRETS["institution"]
    dataset.ReferringPhysicianName = SECRETS["physician"]
    dataset.StudyDescription = SECRETS["description"]


@pytest.mark.parametrize("names", ["uid", "patient-id"])
@pytest.mark.parametrize("source", ["rtstruct", "seg"])
def test_nothing_that_names_somebody_is_in_the_dataset(identified, dataset, names, source):
    result = convert(identified, dataset, replace(SETTINGS, source=source, case_names=names))
    assert len(result.left_out) >= 3
    secrets = {text for kind, text in SECRETS.items() if kind != "id" or names == "uid"}
    for name, data in contents(dataset).items():
        text = gzip.decompress(data) if name.endswith(".gz") else data
        found = [secret for secret in secrets if secret.encode().lower() in text.lower() or secret in name]
        assert found == [], name
        assert str(identified).encode() not in text
        assert all(part.encode() not in text for part in SECRETS["name"].split("^"))


def test_a_file_that_vanishes_costs_its_patient_and_is_not_named(identified, dataset, monkeypatch):
    scan = scan_folder(identified)
    monkeypatch.setattr(cohort, "scan_folder", lambda *_, **__: scan)
    next((identified / "whole" / "CT").iterdir()).unlink()
    result = convert(identified, dataset, replace(SETTINGS, case_names="uid"))
    reasons = [record["reason"] for record in result.left_out]
    assert any("No such file" in reason for reason in reasons)
    assert not any(SECRETS["file"] in reason for reason in reasons)


def test_a_defect_of_our_own_costs_its_patient_and_is_said_to_be_one(download, dataset, monkeypatch, logged):
    def unexpected(patient, _):
        raise ZeroDivisionError(patient.headers[0].path)

    monkeypatch.setattr("nnunet_cascade.dataset_conversion.writing.convert_patient", unexpected)
    result = convert(download, dataset, patients=frozenset({"P1"}))
    assert [record["reason"].split(",")[0] for record in result.left_out] == ["ZeroDivisionError"]
    assert "Traceback" in logged.text


@pytest.mark.slow
def test_nnunet_takes_the_dataset(tmp_path, download):
    folders = {name: str(tmp_path / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    dataset = tmp_path / "nnUNet_raw" / "Dataset501_X"
    labels = (TUMOR_LABEL, Label(name="lung", regions=("Lung-Left",), required=False))
    settings = ConversionSettings(labels=labels, case_names="patient-id")
    convert(download, dataset, settings, folds=2)
    command = Path(sys.executable).parent / "nnUNetv2_plan_and_preprocess"
    # nnU-Net's planner refuses the nnUNet_n_proc_DA=0 that the tests train with.
    without = {name: value for name, value in os.environ.items() if name != "nnUNet_n_proc_DA"}
    done = subprocess.run(
        [
            sys.executable,
            command,
            "-d",
            "501",
            "--verify_dataset_integrity",
            "-c",
            "3d_fullres",
            "-np",
            "1",
            "-npfp",
            "1",
        ],
        env=without | folders,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "verify_dataset_integrity Done" in done.stdout
    preprocessed = tmp_path / "nnUNet_preprocessed" / "Dataset501_X" / "nnUNetPlans_3d_fullres"
    assert sorted(path.stem for path in preprocessed.glob("*.pkl")) == list(NAMES)


def test_a_request_is_whole():
    with pytest.raises(SettingsError, match="0 processes"):
        ConversionRequest(source=Path(), dataset=Path(), settings=SETTINGS, processes=0)
