"""The paper's tables as experiments: what they need is known, shared, and trained by trainers that are there."""

from pathlib import Path

import pytest

from nnunet_cascade.cascade.chain import model_of
from nnunet_cascade.errors import SettingsError
from nnunet_cascade.plugin import nnunet_cascade_trainers
from nnunet_cascade.reproduction import request as requests
from nnunet_cascade.reproduction.report import cost_page
from nnunet_cascade.reproduction.request import ReproductionRequest, baseline_of, chain_of, roi_dataset, stage1_of
from nnunet_cascade.reproduction.systems import BASELINE
from nnunet_cascade.reproduction.tables import TABLES, chosen_tables, systems_of
from nnunet_cascade.reproduction.training import trainings


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
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    for number in (501, *range(601, 612)):
        (tmp_path / "raw" / f"Dataset{number}_X").mkdir(parents=True)
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    asked = request(size=size, preset=preset, dataset=501)
    chains = [chain_of(asked, model) for model in asked.roi_models]
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


@pytest.mark.parametrize(("preset", "sets"), [("paper", 3), ("recommended", 4)])
def test_boxes_from_the_truth_serve_every_network(preset, sets):
    asked = request(preset=preset)
    assert len({roi_dataset(asked, model) for model in asked.roi_models}) == sets


def test_the_cost_is_told_before_anything_starts():
    asked = request("II", folds=2)
    told = cost_page(asked, trainings(asked))
    assert "1 tables need 3 trainings and 4 systems" in told
    assert "stage 1, UNet: 2 models × 780 steps" in told
    assert f"{2 * (780 + 360 + 216)} steps in all" in told


@pytest.mark.parametrize(
    "wrong", [{"folds": 1}, {"effort": 0.0}, {"size": "huge"}, {"phantoms": (1, 5)}, {"tables": ()}]
)
def test_a_request_out_of_range_is_refused(wrong):
    with pytest.raises(SettingsError):
        request(**wrong)


def test_the_full_size_baseline_is_the_stock_trainer_with_its_own_plans():
    baseline = baseline_of(request(size="full"))
    assert baseline.trainer == "nnUNetTrainer"
    plan = baseline.plan
    assert (plan.spacing_mm, plan.window_hu, plan.patch_size, plan.batch_size, plan.features) == (None,) * 5
    assert requests.is_undertrained(request(), "UNETR")
    assert not requests.is_undertrained(request(size="full"), "UNETR")
