import json

import numpy as np
import pytest

from nnunet_cascade.errors import DatasetError, SettingsError
from nnunet_cascade.images import read_ct, read_labels
from nnunet_cascade.phantom.cohort import TEST_SEEDS, TRAIN_SEEDS, write_cohort
from nnunet_cascade.phantom.settings import PhantomSettings

COARSE = PhantomSettings(spacing_mm=(9.0, 9.0, 9.0), tumors=(1, 1), orientation="RAS")


@pytest.fixture
def cohort(tmp_path):
    folder = tmp_path / "Dataset900_Phantoms"
    write_cohort(folder, train_seeds=(7, 8), test_seeds=(9,), settings=COARSE)
    return folder


@pytest.fixture
def times_of():
    """Give when each image was written: `times_of(folder)`."""
    return lambda folder: {path.name: path.stat().st_mtime_ns for path in folder.glob("*T[rs]/*.nii.gz")}


def test_the_folder_is_a_raw_dataset_of_nnunet(cohort):
    found = {str(path.relative_to(cohort)) for path in cohort.rglob("*") if path.is_file()}
    expected = {"dataset.json", "phantoms.json"}
    for case, split in (("phantom_0007", "Tr"), ("phantom_0008", "Tr"), ("phantom_0009", "Ts")):
        expected.add(f"images{split}/{case}_0000.nii.gz")
        expected |= {f"{kind}{split}/{case}.nii.gz" for kind in ("labels", "lungs")}
    assert found == expected
    dataset = json.loads((cohort / "dataset.json").read_text())
    assert dataset["channel_names"] == {"0": "CT"}
    assert dataset["labels"] == {"background": 0, "tumor": 1}
    assert dataset["numTraining"] == 2
    assert dataset["file_ending"] == ".nii.gz"
    assert "Phantoms" in dataset["description"]


def test_images_and_labels_share_a_grid_and_hold_what_they_say(cohort):
    ct = read_ct(cohort / "imagesTr" / "phantom_0007_0000.nii.gz")
    tumor = read_labels(cohort / "labelsTr" / "phantom_0007.nii.gz", ct.grid, what="label")
    lungs = read_labels(cohort / "lungsTr" / "phantom_0007.nii.gz", ct.grid, what="lungs")
    assert set(np.unique(tumor)) == {0, 1}
    assert set(np.unique(lungs)) == {0, 1, 2}
    assert ct.grid.array_axis("left-right") == (2, -1)


def test_the_record_tells_settings_and_facts(cohort):
    record = json.loads((cohort / "phantoms.json").read_text())
    assert record["made_with"]["settings"]["orientation"] == "RAS"
    assert set(record["cases"]) == {"phantom_0007", "phantom_0008", "phantom_0009"}
    case = record["cases"]["phantom_0009"]
    assert (case["seed"], case["split"], len(case["tumors"])) == (9, "Ts", 1)
    assert case["tumors"][0]["volume_mm3"] > 0


def test_what_is_there_is_not_drawn_again(cohort, times_of):
    before = times_of(cohort)
    (cohort / "labelsTr" / "phantom_0008.nii.gz").unlink()
    write_cohort(cohort, train_seeds=(7, 8, 10), test_seeds=(9,), settings=COARSE)
    after = times_of(cohort)
    assert set(after) == set(before) | {"phantom_0010_0000.nii.gz", "phantom_0010.nii.gz"}
    same = {name for name in before if after[name] == before[name]}
    assert same == {f"phantom_{n}{end}.nii.gz" for n in ("0007", "0009") for end in ("", "_0000")}
    assert json.loads((cohort / "dataset.json").read_text())["numTraining"] == 3


def test_other_settings_draw_all_again(cohort, times_of):
    before = times_of(cohort)
    louder = PhantomSettings(spacing_mm=(9.0, 9.0, 9.0), tumors=(1, 1), noise_hu=40.0)
    write_cohort(cohort, train_seeds=(7, 8), test_seeds=(9,), settings=louder)
    after = times_of(cohort)
    assert all(after[name] > before[name] for name in before)
    assert json.loads((cohort / "phantoms.json").read_text())["made_with"]["settings"]["noise_hu"] == 40.0


def test_cases_nobody_asked_for_and_a_broken_record_are_refused(cohort):
    with pytest.raises(DatasetError, match="not asked for"):
        write_cohort(cohort, train_seeds=(7,), test_seeds=(9,), settings=COARSE)
    (cohort / "phantoms.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"phantoms\.json"):
        write_cohort(cohort, train_seeds=(7, 8), test_seeds=(9,), settings=COARSE)


def test_a_seed_belongs_to_training_or_to_testing_and_an_empty_cohort_is_a_dataset_without_cases(tmp_path):
    assert not set(TRAIN_SEEDS) & set(TEST_SEEDS)
    assert (len(TRAIN_SEEDS), len(TEST_SEEDS)) == (40, 40)
    with pytest.raises(SettingsError, match="twice"):
        write_cohort(tmp_path, train_seeds=(1, 2), test_seeds=(2,), settings=COARSE)
    assert not any(tmp_path.iterdir())
    write_cohort(tmp_path / "empty", train_seeds=(), test_seeds=(), settings=COARSE)
    assert json.loads((tmp_path / "empty" / "dataset.json").read_text())["numTraining"] == 0
