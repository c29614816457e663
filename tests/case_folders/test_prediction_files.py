"""Which values of label maps are tumor, and where that is written."""

import json

import pytest

from nnunet_cascade.case_folders.prediction_files import TumorLabel, dataset_file
from nnunet_cascade.errors import SettingsError

LABELS = {"background": 0, "tumor": 1, "lung": 2, "both": 1}


def write_labels(folder, labels=LABELS):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))


@pytest.mark.parametrize(
    ("folder", "above"),
    [("predictions", "predictions"), ("labelsTr", "."), ("labelsTs", "."), ("fold_0/validation", ".")],
)
@pytest.mark.parametrize("place", ["", "a.nii.gz"], ids=["folder", "one file"])
def test_dataset_json_is_next_to_label_maps_or_above(tmp_path, folder, above, place):
    maps = tmp_path / folder
    maps.mkdir(parents=True)
    (maps / "a.nii.gz").touch()
    assert dataset_file(maps / place) is None
    write_labels(tmp_path / above)
    assert dataset_file(maps / place) == (tmp_path / above).resolve() / "dataset.json"


def test_dataset_json_next_to_true_labels_comes_first(tmp_path):
    for folder in (tmp_path, tmp_path / "labelsTr"):
        write_labels(folder)
    assert dataset_file(tmp_path / "labelsTr") == tmp_path / "labelsTr" / "dataset.json"


def test_another_folder_of_a_raw_dataset_has_no_labels(tmp_path):
    write_labels(tmp_path)
    (tmp_path / "predictions").mkdir()
    assert dataset_file(tmp_path / "predictions") is None


class TestNameOfOneLabel:
    @pytest.mark.parametrize(("asked", "name"), [([], ""), (["lung"], "lung"), (["2"], "lung"), (["tumor"], "tumor")])
    def test_a_name_or_a_value_names_it(self, tmp_path, asked, name):
        write_labels(tmp_path)
        assert TumorLabel.name_in(tmp_path, asked) == name

    @pytest.mark.parametrize("asked", [["1"], ["tumor", "lung"], ["liver"], ["0"]])
    def test_what_names_not_exactly_one_label_is_refused(self, tmp_path, asked):
        write_labels(tmp_path)
        with pytest.raises(SettingsError):
            TumorLabel.name_in(tmp_path, asked)
