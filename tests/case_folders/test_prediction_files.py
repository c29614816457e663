"""What nnU-Net leaves in a folder of predictions: which values are tumor, label maps, and probabilities."""

import json

import numpy as np
import pytest
from builders.drawn_chests import GRID, IN_LEFT, IN_RIGHT, blocks

from nnunet_cascade.case_folders.prediction_files import TumorLabel, dataset_file, read_label_map, read_probability
from nnunet_cascade.errors import DatasetError, InputImageError, SettingsError
from nnunet_cascade.images import write_image

ONE = {"background": 0, "tumor": 1}
THREE = {"background": 0, "lung": 1, "tumor": 2, "ignore": 3}
REGIONS = {"background": 0, "both": [1, 2], "tumor": [2]}


def write_labels(folder, labels=ONE):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))


@pytest.mark.parametrize(
    ("folder", "above"), [("predictions", False), ("labelsTr", True), ("labelsTs", True), ("fold_0/validation", True)]
)
@pytest.mark.parametrize("place", ["", "a.nii.gz"], ids=["folder", "one file"])
def test_dataset_json_is_next_to_label_maps_or_above_those_of_a_model_or_a_dataset(tmp_path, folder, above, place):
    maps = tmp_path / folder
    maps.mkdir(parents=True)
    (maps / "a.nii.gz").touch()
    assert dataset_file(maps / place) is None
    write_labels(tmp_path)
    assert dataset_file(maps / place) == (tmp_path / "dataset.json" if above else None)
    write_labels(maps)
    assert dataset_file(maps / place) == maps / "dataset.json"


class TestTumorLabel:
    @pytest.mark.parametrize(
        ("labels", "asked", "values", "channels"),
        [
            (ONE, (), (1,), (1,)),
            (THREE, ("tumor",), (2,), (2,)),
            (THREE, ("2",), (2,), (2,)),
            (THREE, ("lung", "tumor"), (1, 2), (1, 2)),
            (REGIONS, ("tumor",), (2,), (1,)),
            (REGIONS, ("both",), (1, 2), (0,)),
            (REGIONS, ("2",), (2,), (1,)),
            (REGIONS, ("1", "2"), (1, 2), (0,)),
            (REGIONS, ("1",), (1,), ()),
            (None, (), (1,), (1,)),
            (None, ("3", "2"), (2, 3), (2, 3)),
        ],
    )
    def test_dataset_json_says_which_values_and_channels_are_tumor(self, tmp_path, labels, asked, values, channels):
        if labels is not None:
            write_labels(tmp_path, labels)
        found = TumorLabel.of(tmp_path, asked)
        assert (found.values, found.channels) == (values, channels)

    @pytest.mark.parametrize(
        ("labels", "asked", "message"),
        [
            (THREE, (), "has the labels lung, tumor; say which is tumor"),
            (THREE, ("tumour",), "has no label 'tumour'; found lung, tumor"),
            (THREE, ("9",), "has no label '9'"),
            (THREE, ("0",), "has no label '0'"),
            (THREE, ("3",), "has no label '3'"),
            (None, ("tumor",), "without a dataset.json"),
        ],
    )
    def test_what_cannot_be_told_is_refused(self, tmp_path, labels, asked, message):
        if labels is not None:
            write_labels(tmp_path, labels)
        with pytest.raises(SettingsError, match=message):
            TumorLabel.of(tmp_path, asked)

    def test_a_file_without_labels_is_refused(self, tmp_path):
        (tmp_path / "dataset.json").write_text("{}")
        with pytest.raises(DatasetError, match="labels is None; expected numbers by name"):
            TumorLabel.of(tmp_path)


@pytest.mark.parametrize(
    ("value", "tumor", "message"),
    [
        (0.5, TumorLabel(), r"holds the value 0\.5; expected labels, whole numbers"),
        (-1, TumorLabel(), "holds the value -1; expected labels"),
        (7, TumorLabel(known=frozenset({0, 1}), named=True), r"holds the value 7; dataset\.json knows 0, 1"),
        (255, TumorLabel(), "holds the values 0, 255 and not 1; say which is tumor by --tumor_label"),
    ],
)
def test_a_label_map_of_other_values_is_refused(tmp_path, value, tumor, message):
    labels = np.zeros(GRID.shape, dtype=np.float32)
    labels[IN_LEFT] = value
    write_image(labels, GRID, tmp_path / "a.nii.gz")
    with pytest.raises(InputImageError, match=message):
        read_label_map(tmp_path / "a.nii.gz", GRID, tumor, what="prediction")


class TestProbabilities:
    MASK = blocks(IN_LEFT, IN_RIGHT) > 0
    TUMOR = TumorLabel(known=frozenset({0, 1}), named=True)

    @pytest.fixture
    def read(self, tmp_path):
        """Save probabilities and read them as those of the mask."""

        def build(found, tumor=self.TUMOR, name="probabilities"):
            np.savez_compressed(tmp_path / "a.npz", **{name: found})
            return read_probability(tmp_path / "a.npz", tumor, self.MASK)

        return build

    def likely(self, left=0.9):
        tumor = np.full(GRID.shape, 0.1, dtype=np.float32)
        tumor[IN_LEFT], tumor[IN_RIGHT] = left, 0.6
        return np.stack([1 - tumor, tumor])

    def test_channels_are_added_and_regions_have_one_each(self, read):
        assert read(self.likely())[0][IN_LEFT].mean() == pytest.approx(0.9)
        regions = TumorLabel(values=(2,), channels=(1,), regions=True, named=True)
        found, why = read(np.stack([np.ones(GRID.shape, np.float32), self.likely()[1]]), regions)
        assert (why, found[IN_LEFT].mean()) == ("", pytest.approx(0.9))

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda p: p[:, 1:], "has shape"),
            (lambda p: p[:1], "has 1 channels"),
            (lambda p: p[:, ::-1, ::-1, ::-1], "belongs to another mask or reader"),
            (lambda p: p * np.nan, "NaN or infinite"),
        ],
    )
    def test_what_does_not_fit_is_not_used(self, read, spoil, message):
        found, why = read(spoil(self.likely()))
        assert found is None
        assert message in why

    def test_a_broken_file_is_not_used(self, read, tmp_path):
        assert "'probabilities" in read(np.ones(2), name="softmax")[1]
        (tmp_path / "a.npz").write_bytes(b"PK")
        assert "cannot be read" in read_probability(tmp_path / "a.npz", self.TUMOR, self.MASK)[1]
