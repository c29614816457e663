"""The paper's tables as experiments: what they need is known, shared, and trained by trainers that are there."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nnunet_cascade.errors import DatasetError, SettingsError
from nnunet_cascade.geometry import Grid
from nnunet_cascade.images import read_volume, write_image
from nnunet_cascade.plugin import nnunet_cascade_trainers
from nnunet_cascade.postprocessing.lungs.source import LungSource
from nnunet_cascade.reproduction.cases import evaluation_splits as splits_of
from nnunet_cascade.reproduction.cases import require_possible
from nnunet_cascade.reproduction.prediction import coarse_masks, predict_all, system_spec
from nnunet_cascade.reproduction.report import cost_page
from nnunet_cascade.reproduction.request import (
    ReproductionRequest,
    baseline_folds,
    baseline_of,
    share_of_steps,
    stage1_of,
    training_request,
)
from nnunet_cascade.reproduction.systems import BASELINE
from nnunet_cascade.reproduction.tables import TABLES, chosen_tables, systems_of
from nnunet_cascade.reproduction.tiny_plans import COARSE_STEPS, EPOCHS, FINE_STEPS
from nnunet_cascade.reproduction.training import trainings
from nnunet_cascade.training.pipeline import model_of


def request(*tables, **changed):
    return ReproductionRequest(**{"folder": Path("out"), "tables": chosen_tables(tables), "size": "tiny", **changed})


def test_all_seven_tables_are_there_in_the_papers_order():
    assert list(TABLES) == ["I", "II", "III", "IV", "V", "VI", "VII"]
    assert [table.number for table in chosen_tables(["v", "I"])] == ["I", "V"]
    with pytest.raises(SettingsError, match="no table 'VIII'"):
        chosen_tables(["VIII"])


@pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))
def test_a_plain_nnunet_stands_in_every_table_and_every_claim_is_about_rows_of_it(table):
    labels = [row.label for row in table.rows]
    assert table.rows[-1].system == BASELINE
    assert len(set(labels)) == len(labels)
    for claim in table.claims:
        assert claim.first in labels
        assert claim.second in labels
        assert claim.first != claim.second


def test_different_systems_lie_in_different_folders():
    systems = systems_of(tuple(TABLES.values()))
    assert len({system.key for system in systems}) == len(systems)


@pytest.mark.parametrize("size", ["tiny", "full"])
@pytest.mark.parametrize("preset", ["paper", "recommended"])
def test_every_model_has_a_trainer_and_a_place_of_its_own(size, preset, tmp_path, monkeypatch):
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    for number in (501, *range(601, 612)):
        (tmp_path / "raw" / f"Dataset{number}_X").mkdir(parents=True)
    asked = request(size=size, preset=preset, dataset=501)
    chains = [training_request(asked, model) for model in asked.roi_models]
    stage2 = [model_of(chain.roi_dataset, chain.stage2) for chain in chains]
    assert len(set(stage2)) == len(stage2)
    assert len({chain.bundle for chain in chains}) == len(chains)
    trainers = {chain.stage2.trainer for chain in chains} | {chain.stage1.trainer for chain in chains}
    assert all(hasattr(nnunet_cascade_trainers, trainer) for trainer in trainers)
    assert model_of(501, baseline_of(asked)) not in {model_of(501, stage1_of(asked, b)) for b in asked.backbones}


def test_what_can_be_shared_is_trained_once():
    titles = [training.title for training in trainings(request())]
    assert len(set(titles)) == len(titles)
    assert sum(title.startswith("stage 1") for title in titles) == 3
    # Dice-CE with both margins, three more losses, the adaptive one with two more networks and by the other preset
    assert sum(title.startswith("stage 2") for title in titles) == 8
    assert [t.title for t in trainings(request("II"))] == [
        "stage 1, UNet", "stage 2, unet_dice_ce_margin0", "plain nnU-Net"
    ]  # fmt: skip


@pytest.mark.parametrize("preset", ["paper", "recommended"])
def test_crops_are_shared_where_they_are_the_same_and_only_there(preset):
    asked = request(preset=preset)
    made = {}
    for chain in (training_request(asked, model) for model in asked.roi_models):
        cut = (chain.spec.roi.margin_mm, chain.oracle_boxes, chain.jitter_mm, chain.context_mm)
        if not chain.oracle_boxes:
            cut = (*cut, chain.stage1.plan.name)
        made.setdefault(chain.roi_dataset, set()).add(cut)
    assert all(len(cuts) == 1 for cuts in made.values())
    assert len(made) < len(asked.roi_models)


def test_the_cost_is_told_before_anything_starts():
    asked = request("II", folds=2)
    told = cost_page(asked, trainings(asked))
    assert "1 tables need 3 trainings and 4 systems" in told
    assert f"stage 1, UNet: 2 models × {EPOCHS * COARSE_STEPS} steps" in told
    assert f"{2 * EPOCHS * (COARSE_STEPS + FINE_STEPS) + 384} steps in all" in told


@pytest.mark.parametrize(
    "wrong",
    [
        {"folds": 1},
        {"effort": 0.0},
        {"size": "huge"},
        {"phantoms": (1, 5)},
        {"phantoms": (500, 5)},
        {"tables": ()},
        {"test_dataset": 502},
        {"dataset": 501, "test_dataset": 501},
    ],
)
def test_a_request_out_of_range_is_refused(wrong):
    with pytest.raises(SettingsError):
        request(**wrong)


def test_the_full_size_baseline_is_the_stock_trainer_with_its_own_plans():
    baseline = baseline_of(request(size="full"))
    assert baseline.trainer == "nnUNetTrainer"
    plan = baseline.plan
    assert (plan.spacing_mm, plan.window_hu, plan.patch_size, plan.batch_size, plan.features) == (None,) * 5


def test_a_tiny_baseline_is_one_model_where_cases_are_held_out_and_has_the_same_steps_in_all():
    held_out, crossed = request(folds=2), request(folds=2, dataset=501)
    steps = [
        len(baseline_folds(asked)) * baseline_of(asked).plan.training["iterations_per_epoch"]
        for asked in (held_out, crossed)
    ]
    assert steps[0] == steps[1]
    assert (baseline_folds(held_out), baseline_folds(crossed)) == (("all",), (0, 1))
    assert baseline_folds(request(size="full", folds=5)) == (0, 1, 2, 3, 4)


def test_tiny_runs_train_transformers_for_less_and_full_ones_do_not():
    assert share_of_steps(request(), "UNet") == share_of_steps(request(size="full"), "SwinUNETR") == 1
    assert share_of_steps(request(), "SwinUNETR") < share_of_steps(request(), "UNETR") < 1


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """Two data sets without a voxel: 501 to train on, 502 of another hospital."""
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))

    def add(number, split, *cases, labels=None):
        folder = tmp_path / "raw" / f"Dataset{number}_X"
        for name in (f"images{split}", f"labels{split}"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for case in cases:
            (folder / f"images{split}" / f"{case}_0000.nii.gz").touch()
            (folder / f"labels{split}" / f"{case}.nii.gz").touch()
        (folder / "dataset.json").write_text(json.dumps({"labels": labels or {"background": 0, "tumor": 1}}))
        return folder

    add(501, "Tr", "a", "b", "c", "d")
    return add


def splits(tmp_path):
    folder = tmp_path / "preprocessed" / "Dataset501_X"
    folder.mkdir(parents=True)
    folds = [{"train": ["c", "d"], "val": ["a", "b"]}, {"train": ["a", "b"], "val": ["c", "d"]}]
    (folder / "splits_final.json").write_text(json.dumps(folds))


@pytest.mark.usefixtures("raw")
def test_without_test_cases_each_patient_is_tested_by_the_fold_that_left_it_out(tmp_path):
    splits(tmp_path)
    parts = splits_of(request(dataset=501, folds=2))
    assert [(part.folds, sorted(part.labels), part.held_out) for part in parts] == [
        ((0,), ["a", "b"], False), ((1,), ["c", "d"], False)
    ]  # fmt: skip
    require_possible(request(dataset=501))


def test_own_test_cases_and_another_cohort_are_held_out_and_predicted_by_all_folds(raw):
    raw(501, "Ts", "e")
    raw(502, "Tr", "f", "g")
    for asked, cases in (
        (request(dataset=501, folds=2), ["e"]),
        (request(dataset=501, test_dataset=502, folds=2), ["f", "g"]),
    ):
        (part,) = splits_of(asked)
        assert (part.folds, sorted(part.labels), part.held_out) == ((0, 1), cases, True)
        require_possible(asked)


def test_a_case_to_train_and_to_test_on_is_refused_before_training(raw):
    raw(502, "Tr", "f", "a")
    with pytest.raises(DatasetError, match="1 cases, such as a, are among those to train on"):
        require_possible(request(dataset=501, test_dataset=502))


def test_a_label_that_is_none_or_a_ct_that_is_missing_is_told_before_training(raw):
    with pytest.raises(SettingsError, match="has no label '7'; found tumor"):
        require_possible(request(dataset=501, tumor_labels=(7,)))
    (raw(502, "Tr", "f") / "imagesTr" / "f_0000.nii.gz").unlink()
    with pytest.raises(DatasetError, match="no CT of f"):
        require_possible(request(dataset=501, test_dataset=502))


def test_true_boxes_are_of_the_tumor_alone(raw, tmp_path):
    folder = raw(501, "Ts", labels={"background": 0, "tumor": 1, "other": 2})
    grid = Grid(shape=(4, 4, 4), spacing_mm=(1.0, 1.0, 1.0))
    labels = np.zeros(grid.shape, dtype=np.uint8)
    labels[0], labels[1] = 1, 2
    write_image(labels, grid, folder / "labelsTs" / "e.nii.gz")
    (folder / "imagesTs" / "e_0000.nii.gz").touch()
    asked = request("VII", dataset=501, folder=tmp_path)
    masks = coarse_masks(asked, asked.tables[0].rows[0].system, splits_of(asked)[0])
    np.testing.assert_array_equal(read_volume(masks / "e.nii.gz").array > 0, labels == 1)
    labels[2] = 1
    write_image(labels, grid, folder / "labelsTs" / "e.nii.gz")
    coarse_masks(asked, asked.tables[0].rows[0].system, splits_of(asked)[0])
    np.testing.assert_array_equal(read_volume(masks / "e.nii.gz").array > 0, labels == 1)


@pytest.mark.parametrize(
    ("row", "given", "expected"),
    [
        (0, {"reference_lungs": Path("lungs")}, LungSource(kind="folder", path=Path("lungs"))),
        (1, {"lung_weights": Path("w.pth")}, LungSource(kind="lungmask", weights=Path("w.pth"))),
        (2, {}, LungSource()),
    ],
)
@pytest.mark.usefixtures("raw")
def test_each_row_of_the_fourth_table_has_its_lungs(row, given, expected, tmp_path):
    splits(tmp_path)
    asked = request("IV", dataset=501, **given)
    assert system_spec(asked, asked.tables[0].rows[row].system, splits_of(asked)[0]).lungs == expected


@pytest.mark.usefixtures("raw")
def test_a_row_without_the_lungs_it_asks_for_is_told_and_not_run(tmp_path):
    table = replace(TABLES["IV"], rows=TABLES["IV"].rows[:1], claims=())
    asked = request(dataset=501, folder=tmp_path, tables=(table,))
    assert predict_all(asked)[table.rows[0].system].why_not == "no reference lungs were given (--reference_lungs)"


def test_runs_of_other_seeds_on_the_same_data_do_not_meet():
    names = {
        training_request(request("II", **changed), request("II").roi_models[0]).stage2.plan.name
        for changed in ({}, {"seed": 3}, {"effort": 0.5}, {"preset": "recommended"})
    }
    assert len(names) == 4
