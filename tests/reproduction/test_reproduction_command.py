"""`nnc-reproduce-paper` on a few phantoms: real training, real prediction, and nothing done twice."""

import json

import pytest
import torch
from builders.nnunet_here import run_nnunet_here, use_threads
from builders.tiny_cascades import COARSE

from nnunet_cascade.cli import reproduce_paper
from nnunet_cascade.phantom.cohort import TRAIN_SEEDS, write_cohort
from nnunet_cascade.reproduction import run as reproduction
from nnunet_cascade.reproduction import tiny_plans, training
from nnunet_cascade.reproduction.run import Reproduced
from nnunet_cascade.training import pipeline

TINY = ("--tiny", "--phantoms", "2", "2", "--effort", "0.3", "-device", "cpu", "--resamples", "200")


@pytest.fixture(scope="module", autouse=True)
def patch():
    """What is patched as long as the module runs: nnU-Net trains in this process, for an epoch."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        use_threads(patch)
        # Only stage 1 takes more than a few steps: it must find few candidates.
        short = {"validation_iterations_per_epoch": 1, "initial_learning_rate": 0.01}
        sizes = {
            "EPOCHS": 1,
            "SAMPLES": 2,
            "COARSE_STEPS": 40,
            "FINE_STEPS": 3,
            "COARSE_PATCH": (20, 16, 24),
            "CUBIC_PATCH": (16, 16, 16),
            "PLAIN_PATCH": (24, 32, 32),
            "_FEATURES": (4, 8, 16),
            "_LENGTHS": {**tiny_plans._LENGTHS, "epochs": 1, **short},
        }
        for name, value in sizes.items():
            patch.setattr(tiny_plans, name, value)
        patch.setattr(training, "PhantomSettings", lambda **_: COARSE)
        patch.setattr(pipeline, "run_nnunet", run_nnunet_here)
        yield patch
    torch.set_num_threads(threads)


def run(folder, *arguments):
    return reproduce_paper.main(["-o", str(folder), *TINY, *arguments])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
class TestRun:
    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("paper") / "phantoms"
        assert run(folder, "--tables", "III") == 0
        return folder

    def test_every_row_of_the_table_has_all_its_cases(self, folder):
        table = json.loads((folder / "reproduction.json").read_text())["tables"]["III"]
        assert list(table["rows"]) == ["full CT", "cascade, all valid", "cascade, top 1", "plain nnU-Net"]
        assert {len(method["cases"]) for method in table["comparison"]["methods"].values()} == {2}
        assert table["missing"] == {}
        assert "## Table III" in (folder / "reproduction.md").read_text()

    @pytest.mark.long
    def test_a_second_run_with_another_table_trains_nothing_and_shows_the_papers_figures_and_ours(self, folder):
        def trained():
            return {path: path.stat().st_mtime_ns for path in folder.rglob("checkpoint_final.pth")}

        before, page = trained(), folder / "reproduction.md"
        assert "## Table III" in page.read_text()
        assert run(folder, "--tables", "II") == 0
        assert trained() == before
        for text in ("## Table II", "top 1", "top 2", "all valid", "plain nnU-Net", "0.645", "seed 0"):
            assert text in page.read_text()
        table = json.loads((folder / "reproduction.json").read_text())["tables"]["II"]
        assert {len(method["cases"]) for method in table["comparison"]["methods"].values()} == {2}
        assert table["rows"]["top 1"]["paper"]["dice"] == 0.6447
        assert table["missing"] == {}

    def test_other_settings_in_the_same_folder_are_refused(self, folder, capsys):
        assert run(folder, "--tables", "II", "--seed", "5") == 1
        assert "run with other settings (seed); choose another folder" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
class TestOutOfFold:
    """A dataset of one's own without test cases: every patient is tested by the models that never saw the patient."""

    @pytest.fixture(scope="class")
    def own_folders(self, tmp_path_factory, patch):
        root = tmp_path_factory.mktemp("own_nnunet")
        for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            patch.setenv(name, str(root / name))
        raw = root / "nnUNet_raw" / "Dataset511_Own"
        write_cohort(raw, train_seeds=TRAIN_SEEDS[:4], test_seeds=(), settings=COARSE)
        for name in ("imagesTs", "labelsTs"):
            (raw / name).rmdir()
        return root

    @pytest.fixture(scope="class")
    def folder(self, own_folders, tmp_path_factory):  # noqa: ARG002 - where it trains
        folder = tmp_path_factory.mktemp("paper") / "own"
        assert run(folder, "-d", "511", "--folds", "2", "--tables", "II") == 0
        return folder

    def test_every_patient_is_predicted_without_the_fold_that_trained_on_it(self, folder, own_folders):
        methods = json.loads((folder / "reproduction.json").read_text())["tables"]["II"]["comparison"]["methods"]
        assert {len(method["cases"]) for method in methods.values()} == {4}
        splits = own_folders / "nnUNet_preprocessed" / "Dataset511_Own" / "splits_final.json"
        left_out = {case: number for number, fold in enumerate(json.loads(splits.read_text())) for case in fold["val"]}
        assert set(left_out.values()) == {0, 1}
        systems = {path.parent for path in (folder / "systems").glob("*/*.json")}
        assert len(systems) >= 4
        for system in systems:
            records = [json.loads((system / f"{case}.json").read_text()) for case in left_out]
            assert {record["case"]: folds_of(record) for record in records} == {
                case: [number] for case, number in left_out.items()
            }, system.name


def folds_of(record):
    """The folds whose models made a prediction: a cascade's second stage, or a model alone."""
    settings = record["settings"]
    return settings["stage2"]["folds"] if "stage2" in settings else settings["folds"]


def test_a_dry_run_writes_nothing(tmp_path, capsys):
    assert run(tmp_path / "none", "--dry_run") == 0
    assert "steps in all" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()


def test_a_row_that_could_not_be_run_costs_the_exit_code(tmp_path, monkeypatch):
    monkeypatch.setattr(reproduction, "reproduce", lambda *_: Reproduced(page=tmp_path, is_whole=False))
    assert run(tmp_path, "--tables", "IV") == 1


def test_an_unknown_table_is_wrong_usage(tmp_path, capsys):
    assert run(tmp_path, "--tables", "X") == 2
    assert "no table 'X'" in capsys.readouterr().err
