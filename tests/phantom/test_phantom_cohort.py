"""Cohorts of phantoms, as nnU-Net's raw dataset and as a DICOM collection."""

import json
import shutil

import numpy as np
import pytest
from builders.cascade_commands import digest

from nnunet_cascade.dicom.folder import index_folder
from nnunet_cascade.errors import DatasetError, SettingsError
from nnunet_cascade.images import read_ct, read_labels
from nnunet_cascade.phantom import cohort, dicom
from nnunet_cascade.phantom.cohort import TEST_SEEDS, TRAIN_SEEDS
from nnunet_cascade.phantom.settings import PhantomSettings

COARSE = PhantomSettings(spacing_mm=(9.0, 9.0, 9.0), tumors=(1, 1), orientation="RAS")
LOUDER = PhantomSettings(spacing_mm=(9.0, 9.0, 9.0), tumors=(1, 1), orientation="RAS", noise_hu=40.0)
WRITERS = {cohort: cohort.write_cohort, dicom: dicom.write_dicom_cohort}
NAMES = {"phantom_0007": "Tr", "phantom_0008": "Tr", "phantom_0009": "Ts"}


def write(module, folder, train=(7, 8), test=(9,), settings=COARSE):
    WRITERS[module](folder, train_seeds=train, test_seeds=test, settings=settings)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """A cohort of each kind, to be copied."""
    folders = {module: tmp_path_factory.mktemp("cohorts") / "Dataset900_Phantoms" for module in WRITERS}
    for module, folder in folders.items():
        write(module, folder)
    return folders


@pytest.fixture(params=WRITERS, ids=["raw", "dicom"])
def module(request):
    """What writes cohorts of a kind."""
    return request.param


@pytest.fixture
def folder(module, originals, tmp_path):
    return shutil.copytree(originals[module], tmp_path / "Dataset900_Phantoms")


@pytest.fixture
def drawn_seeds(module, monkeypatch):
    """The seeds that are drawn from here on."""
    seeds = []
    draw = module.make_phantom
    monkeypatch.setattr(module, "make_phantom", lambda seed, settings: seeds.append(seed) or draw(seed, settings))
    return seeds


def test_a_raw_dataset_is_one_of_nnunet(originals):
    folder = originals[cohort]
    expected = {"dataset.json", "phantoms.json"}
    for case, split in NAMES.items():
        expected.add(f"images{split}/{case}_0000.nii.gz")
        expected |= {f"{kind}{split}/{case}.nii.gz" for kind in ("labels", "lungs")}
    assert set(digest(folder)) == expected
    dataset = json.loads((folder / "dataset.json").read_text())
    assert dataset["channel_names"] == {"0": "CT"}
    assert dataset["labels"] == {"background": 0, "tumor": 1}
    assert (dataset["numTraining"], dataset["file_ending"]) == (2, ".nii.gz")
    ct = read_ct(folder / "imagesTr" / "phantom_0007_0000.nii.gz")
    tumor = read_labels(folder / "labelsTr" / "phantom_0007.nii.gz", ct.grid, what="label")
    lungs = read_labels(folder / "lungsTr" / "phantom_0007.nii.gz", ct.grid, what="lungs")
    assert set(np.unique(tumor)) == {0, 1}
    assert set(np.unique(lungs)) == {0, 1, 2}
    assert ct.grid.array_axis("left-right") == (2, -1)


def test_a_dicom_collection_is_a_folder_of_patients(originals):
    assert [patient.patient_id for patient in index_folder(originals[dicom]).patients] == list(NAMES)
    assert {path.name for path in originals[dicom].iterdir()} == {*NAMES, "phantoms.json"}


def test_the_record_tells_settings_and_facts(module, originals):
    record = json.loads((originals[module] / "phantoms.json").read_text())
    assert "No patients" in record["description"]
    assert record["made_with"]["settings"]["spacing_mm"] == [9.0, 9.0, 9.0]
    assert {name: (case["seed"], case["split"]) for name, case in record["cases"].items()} == {
        name: (int(name[-4:]), split) for name, split in NAMES.items()
    }
    if module is cohort:
        assert record["cases"]["phantom_0009"]["tumors"][0]["volume_mm3"] > 0


def test_what_is_there_is_not_drawn_again(module, folder, drawn_seeds):
    before = set(digest(folder))
    if module is cohort:
        (folder / "labelsTr" / "phantom_0008.nii.gz").unlink()
    else:
        (folder / "phantom_0008").rename(folder / ".123.0a1b2c3d.phantom_0008")  # as a killed run leaves it
    write(module, folder, train=(7, 8, 10))
    assert drawn_seeds == [8, 10]
    assert before < set(digest(folder))
    assert not list(folder.glob(".*"))
    assert len(json.loads((folder / "phantoms.json").read_text())["cases"]) == 4


def test_other_settings_draw_all_again(module, folder, drawn_seeds):
    before = digest(folder)
    write(module, folder, settings=LOUDER)
    assert drawn_seeds == [7, 8, 9]
    same = [name for name, value in digest(folder).items() if value == before.get(name)]
    assert not [name for name in same if name.endswith((".dcm", "_0000.nii.gz"))]
    assert json.loads((folder / "phantoms.json").read_text())["made_with"]["settings"]["noise_hu"] == 40.0


def test_cases_nobody_asked_for_are_refused_and_stay(module, folder, drawn_seeds):
    before = set(digest(folder))
    with pytest.raises(DatasetError, match="not asked for, such as phantom_0008"):
        write(module, folder, train=(7, 10))
    if module is dicom:
        (folder / "LUNG-1").mkdir()
        with pytest.raises(DatasetError, match="such as LUNG-1"):
            write(module, folder, settings=LOUDER)
        (folder / "phantoms.json").unlink()
        with pytest.raises(DatasetError, match="4 patients"):
            write(module, folder)
    assert drawn_seeds == []
    assert before - set(digest(folder)) <= {"phantoms.json"}


@pytest.mark.parametrize("text", ["{}", "[]", "no json", '{"cases": {"a": {"seed": "../.."}}, "made_with": {}}'])
def test_a_broken_record_is_refused(module, tmp_path, text):
    (tmp_path / "phantoms.json").write_text(text)
    with pytest.raises(DatasetError, match=r"phantoms\.json"):
        write(module, tmp_path)


def test_a_seed_belongs_to_training_or_to_testing(module, tmp_path):
    assert not set(TRAIN_SEEDS) & set(TEST_SEEDS)
    assert (len(TRAIN_SEEDS), len(TEST_SEEDS)) == (40, 40)
    with pytest.raises(SettingsError, match="twice"):
        write(module, tmp_path, train=(1, 2), test=(2,))
    assert not any(tmp_path.iterdir())


def test_an_empty_cohort_is_a_dataset_without_cases(tmp_path):
    write(cohort, tmp_path, train=(), test=())
    assert json.loads((tmp_path / "dataset.json").read_text())["numTraining"] == 0
