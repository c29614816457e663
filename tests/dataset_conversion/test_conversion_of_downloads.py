"""Whole downloads: any layout gives the same dataset, and options do what they say."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders.dicom_downloads import (
    ELSEWHERE,
    GRID,
    LUNG,
    NAMES,
    ONE,
    SETTINGS,
    THREE,
    TUMOR,
    TUMOR_LABEL,
    TWO,
    Ct,
    Seg,
    both,
    contents,
    convert,
    ct_voxels,
    edit,
    labels_of,
    lay_out,
    manifest_of,
    present,
    write_download,
    write_subject,
)

from nnunet_cascade.dataset_conversion.labels import Label
from nnunet_cascade.dataset_conversion.settings import ConversionSettings
from nnunet_cascade.errors import DicomError
from nnunet_cascade.images import read_volume


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

    @pytest.mark.parametrize("layout", ["descriptive", "one folder"])
    def test_every_layout_gives_the_same_bytes(self, layout, download, reference, tmp_path, dataset):
        convert(lay_out(download, tmp_path / "laid out", layout), dataset)
        assert contents(dataset, "conversion.json") == contents(reference, "conversion.json")
        found, expected = manifest_of(dataset), manifest_of(reference)
        assert found.pop("files_that_are_not_dicom") == (2 if layout == "descriptive" else 0)
        assert expected.pop("files_that_are_not_dicom") == 0
        assert found == expected

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

    def test_cases_with_the_same_ct_are_named(self, tmp_path, dataset, logged):
        convert(write_download([ONE, TWO, THREE.but(cts=(Ct(seed=1),))], tmp_path / "d"), dataset)
        assert manifest_of(dataset)["duplicate_cts"] == [["P1", "P3"]]
        assert logged.messages[-1] == "the CTs of P1 and P3 are the same, voxel for voxel"
        convert(tmp_path / "d", dataset, test_patients=frozenset({"P3"}))
        assert logged.messages[-1].endswith("voxel for voxel; some are to train on and some to test on")

    def test_who_is_left_out_has_a_reason_in_the_order_of_names_whoever_was_first(self, tmp_path, dataset):
        left_out = [subject.but(rois=()) for subject in (TWO.but(patient_id="a b"), THREE, ONE)]
        result = convert(write_download(left_out, tmp_path / "d"), dataset)
        reasons = {record["case"]: record["reason"] for record in result.left_out}
        assert list(reasons.items()) == list(manifest_of(dataset)["left_out"].items()) == sorted(reasons.items())
        assert list(reasons)[:2] == ["P1", "P3"]
        assert reasons["P1"] == "found no RTSTRUCT (there are: CT); expected one with the regions of the labels"

    def test_reasons_of_patients_that_a_later_run_is_not_about_stay(self, tmp_path, dataset):
        source = write_download([ONE, TWO.but(rois=()), THREE.but(rois=())], tmp_path / "d")
        convert(source, dataset)
        write_subject(TWO, tmp_path / "d" / "repaired")
        result = convert(source, dataset, patients=frozenset({"P2"}))
        assert list(manifest_of(dataset)["left_out"]) == ["P3"]
        assert result.left_out == ()


class TestOptions:
    @pytest.mark.parametrize("asked", ["patients", "test_patients"])
    def test_patients_that_are_not_there_are_refused(self, download, dataset, asked):
        with pytest.raises(DicomError, match=r"holds 3 patient\(s\), but not P9, p1"):
            convert(download, dataset, **{asked: frozenset({"P1", "P9", "p1"})})
        assert not dataset.exists()

    def test_patients_asked_for_are_converted_alone_and_limit_those_to_test_on(self, download, dataset):
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

    def test_the_label_source_is_what_labels_are_drawn_from(self, tmp_path, dataset):
        source = write_download([ONE.but(segs=(Seg(masks={"GTV-1": ELSEWHERE}),))], tmp_path / "d")
        for name, expected in (("rtstruct", ONE.rois[0]["GTV-1"]), ("seg", ELSEWHERE)):
            convert(source, dataset / name, replace(SETTINGS, source=name))
            np.testing.assert_array_equal(labels_of(dataset / name, "P1"), expected)

    def test_irregular_series_are_left_out_if_asked(self, download, dataset):
        ((record),) = convert(download, dataset, replace(SETTINGS, irregular="exclude")).left_out
        assert record["case"] == "P2"
        assert record["reason"].startswith("found missing_slices (7 slices, 1 of 8 planes between them)")
        assert present(dataset) == sorted(both("P1") + both("P3"))

    def test_each_study_can_be_a_case(self, tmp_path, dataset):
        later = ONE.but(study="later", cts=(Ct(seed=7),), rois=({"GTV-1": ELSEWHERE},))
        source = write_download([ONE, later, TWO], tmp_path / "d")
        assert "each of the 2 studies by itself (--by_study)" in convert(source, dataset / "a").left_out[0]["reason"]
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
        assert len({record["ct"]["sha256"] for record in manifest_of(dataset)["converted"].values()}) == 2


@pytest.mark.long
@pytest.mark.slow
def test_nnunet_takes_the_dataset(tmp_path, download):
    folders = {name: str(tmp_path / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    dataset = tmp_path / "nnUNet_raw" / "Dataset501_X"
    labels = (TUMOR_LABEL, Label(name="lung", regions=("Lung-Left",), required=False))
    convert(download, dataset, ConversionSettings(labels=labels, case_names="patient-id"), folds=2)
    command = Path(sys.executable).parent / "nnUNetv2_plan_and_preprocess"
    # nnU-Net's planner refuses the nnUNet_n_proc_DA=0 that the tests train with.
    without = {name: value for name, value in os.environ.items() if name != "nnUNet_n_proc_DA"}
    options = ["-d", "501", "--verify_dataset_integrity", "-c", "3d_fullres", "-np", "1", "-npfp", "1"]
    told = [sys.executable, command, *options]
    done = subprocess.run(told, env=without | folders, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "verify_dataset_integrity Done" in done.stdout
    preprocessed = tmp_path / "nnUNet_preprocessed" / "Dataset501_X" / "nnUNetPlans_3d_fullres"
    assert sorted(path.stem for path in preprocessed.glob("*.pkl")) == list(NAMES)
