"""Cases to train on, to test on, and folds."""

import json
from dataclasses import replace

import pytest
from builders.dicom_downloads import NAMES, ONE, SETTINGS, TWO, Ct, both, convert, present, times, write_download

from nnunet_cascade.errors import SettingsError


def test_a_case_to_test_on_moves_to_its_own_folders_and_leaves_nothing_behind(download, dataset, logged):
    convert(download, dataset)
    before = times(dataset)
    convert(download, dataset, test_patients=frozenset({"P2"}))
    assert present(dataset) == sorted(both("P1") + both("P3") + both("P2", "Ts"))
    assert json.loads((dataset / "dataset.json").read_text())["numTraining"] == 2
    assert "P2 moves from imagesTr to imagesTs" in logged.text
    stayed = {name: time for name, time in times(dataset).items() if "P2" not in name}
    assert stayed.items() <= before.items()
    convert(download, dataset)
    assert present(dataset) == sorted(path for name in NAMES for path in both(name))
    assert "P2 moves from imagesTs to imagesTr" in logged.text


class TestFolds:
    def test_they_are_nnunets_and_of_training_cases(self, download, dataset):
        convert(download, dataset, test_patients=frozenset({"P2"}), folds=2)
        folds = json.loads((dataset / "splits_final.json").read_text())
        assert sorted(folds, key=str) == [
            {"train": [one], "val": [other]} for one, other in (["P1", "P3"], ["P3", "P1"])
        ]

    @pytest.mark.parametrize("by_study", [True, False], ids=["a person's studies", "copies of a CT"])
    def test_what_belongs_together_stays_together(self, tmp_path, dataset, by_study):
        studies = [ONE.but(study=str(number), cts=(Ct(seed=10 + number),)) for number in range(3)]
        copies = [ONE.but(patient_id=f"C{number}") for number in range(3)]
        source = write_download([*(studies if by_study else copies), TWO], tmp_path / "d")
        assert convert(source, dataset, replace(SETTINGS, by_study=by_study), folds=2).folds_problem == ""
        folds = json.loads((dataset / "splits_final.json").read_text())
        assert sorted(len(fold["val"]) for fold in folds) == [1, 3]

    def test_more_folds_than_patients_are_refused_before_any_work(self, download, dataset):
        with pytest.raises(SettingsError, match="4 folds for 3 patients to train on"):
            convert(download, dataset, folds=4)
        assert not dataset.exists()

    def test_too_few_that_could_be_converted_cost_the_folds_alone(self, tmp_path, dataset):
        source = write_download([ONE, TWO.but(rois=())], tmp_path / "d")
        assert "2 folds for 1 patients" in convert(source, dataset, folds=2).folds_problem
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
