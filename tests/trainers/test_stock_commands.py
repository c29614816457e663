"""nnU-Net's own commands with our trainers: all train and validate, one of each backbone goes on and predicts too."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from trainer_cases import BLOCK, CASES, CONFIGURATION, LABELLINGS, run_stock, write_plans

pytestmark = pytest.mark.slow
OF_BACKBONES = [
    "AttentionUNetTrainer",
    "DiceCEROITrainer",
    "SegResNetTrainer",
    "SwinUNETRTrainer",
    "UNETRTrainer",
    "UncertaintyROISwinUNETRTrainer",
]
OF_LOSSES = [
    "DistanceTransformROITrainer",
    "DistanceWeightedCEROIUNETRTrainer",
    "L1DiceFocalROIUNETRTrainer",
    "UncertaintyLovaszROITrainer",
]
LABELLING = LABELLINGS["tumor"]
CASE = list(CASES)[-1]
SHORT = {**BLOCK, "epochs": 1}


def plan(root, name, **settings):
    """Write a plans file of the trainer's own."""
    batch_size = 1 if "Swin" in name else 2
    return write_plans(root, LABELLING, f"{name}Plans", block={**SHORT, **settings}, batch_size=batch_size)


def train(root, name, *options):
    arguments = [LABELLING.dataset, CONFIGURATION, 0, "-tr", name, "-p", f"{name}Plans", "-device", "cpu", *options]
    return run_stock("nnUNetv2_train", *arguments, root=root)


def predict(root, name, source, target):
    model = ["-d", LABELLING.dataset, "-c", CONFIGURATION, "-p", f"{name}Plans", "-tr", name, "-f", 0]
    few = ["-device", "cpu", "--disable_tta", "-npp", 1, "-nps", 1]
    return run_stock("nnUNetv2_predict", "-i", source, "-o", target, *model, *few, root=root)


def model_folder(root, name):
    return root / "nnUNet_results" / LABELLING.dataset / f"{name}__{name}Plans__{CONFIGURATION}"


@dataclass(frozen=True, kw_only=True)
class Training:
    """What training left of a trainer."""

    log: str
    checkpoint: dict
    model: Path


@dataclass(frozen=True, kw_only=True)
class Further:
    """What two more commands left: one went on with one epoch more in the plans, one predicted."""

    log: str
    checkpoint: dict
    prediction: Path


def succeeded(done):
    """What a command printed; it must have ended well."""
    assert done.returncode == 0, f"{done.args}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def trained(root, name):
    """Train with a trainer."""
    plan(root, name)
    log = succeeded(train(root, name))
    model = model_folder(root, name)
    checkpoint = torch.load(model / "fold_0" / "checkpoint_final.pth", weights_only=False)
    return Training(log=log, checkpoint=checkpoint, model=model)


def trained_further(root, name):
    """Train, go on and predict with a trainer."""
    training = trained(root, name)
    plan(root, name, epochs=2, final_validation=False)
    log = succeeded(train(root, name, "--c"))
    checkpoint = torch.load(training.model / "fold_0" / "checkpoint_final.pth", weights_only=False)
    folder = root / "predicted" / name
    succeeded(predict(root, name, root / "to_predict", folder))
    return training, Further(log=log, checkpoint=checkpoint, prediction=folder / f"{CASE}.nii.gz")


@pytest.fixture(scope="module")
def stock_runs(tiny_root):
    """All trainers' runs to come, two at a time; asked for, they are there or say what went wrong."""
    (tiny_root / "to_predict").mkdir()
    shutil.copy(tiny_root / "images" / f"{CASE}_0000.nii.gz", tiny_root / "to_predict")
    with ThreadPoolExecutor(2) as pool:
        runs = {name: pool.submit(trained_further, tiny_root, name) for name in OF_BACKBONES}
        runs.update({name: pool.submit(lambda name: (trained(tiny_root, name), None), name) for name in OF_LOSSES})
        yield runs
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", [*OF_BACKBONES, *OF_LOSSES])
def test_nnunet_trains_and_validates(stock_runs, name):
    training, _ = stock_runs[name].result()
    assert "Epoch 0" in training.log
    assert training.checkpoint["current_epoch"] == 1
    assert all(value.isfinite().all() for value in training.checkpoint["network_weights"].values())
    assert "Validation complete" in training.log
    summary = json.loads((training.model / "fold_0" / "validation" / "summary.json").read_text())
    assert [Path(case["prediction_file"]).name for case in summary["metric_per_case"]] == [f"{CASE}.nii.gz"]
    counts = summary["metric_per_case"][0]["metrics"]["1"]
    assert counts["TP"] + counts["FN"] > 0, "the case has a tumor"


@pytest.mark.parametrize("name", OF_BACKBONES)
def test_training_goes_on_where_it_ended(stock_runs, name):
    training, further = stock_runs[name].result()
    first, second = training.checkpoint, further.checkpoint
    assert "Epoch 1" in further.log
    assert "Epoch 0" not in further.log
    assert second["current_epoch"] == 2
    assert len(second["logging"]["train_losses"]) == 2
    assert second["logging"]["train_losses"][0] == first["logging"]["train_losses"][0]
    before, after = first["network_weights"], second["network_weights"]
    assert before.keys() == after.keys()
    assert any(not torch.equal(value, after[name]) for name, value in before.items())
    assert "final_validation is off" in further.log


@pytest.mark.parametrize("name", OF_BACKBONES)
def test_the_prediction_lies_on_the_images_grid_and_has_known_labels(stock_runs, name, tiny_root):
    _, further = stock_runs[name].result()
    image = sitk.ReadImage(str(tiny_root / "to_predict" / f"{CASE}_0000.nii.gz"))
    found = sitk.ReadImage(str(further.prediction))
    assert found.GetSize() == image.GetSize()
    for what in ("GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(found, what)() == pytest.approx(getattr(image, what)(), abs=1e-6)
    assert set(np.unique(sitk.GetArrayFromImage(found))) <= {0, 1}


@pytest.mark.parametrize("name", OF_BACKBONES)
def test_the_patch_that_was_trained_on_is_the_one_that_predicts(stock_runs, name):
    training, further = stock_runs[name].result()
    side = 64 if "SwinUNETR" in name else 32 if "AttentionUNet" in name else 16
    kept = json.loads((training.model / "plans.json").read_text())
    assert kept["configurations"][CONFIGURATION]["patch_size"] == [side] * 3
    for log in (training.log, further.log):
        assert log.count("the planned (16, 16, 16) become") == (side != 16)


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("UncertaintyROITrainer", {"mc_sample": 4}, "mc_sample (did you mean mc_samples?)"),
        ("UncertaintyROITrainer", {"mc_samples": 1}, "mc_samples must be a whole number of at least 2; found 1"),
    ],
)
def test_a_wrong_setting_ends_the_command_before_it_trains(name, settings, reason, tiny_root):
    plan(tiny_root, name, **settings)
    done = train(tiny_root, name)
    assert done.returncode != 0
    assert reason in done.stderr.splitlines()[-1]
    assert "Epoch" not in done.stdout
    assert not model_folder(tiny_root, name).exists()
