"""nnU-Net's own commands with our trainers: train and validate, go on, predict. One of each backbone and each loss."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from builders.trainer_cases import BLOCK, CASES, CONFIGURATION, LABELLINGS, run_stock, write_plans

pytestmark = pytest.mark.slow
NAMES = [
    "AttentionUNetTrainer",
    "DiceCEROITrainer",
    "DistanceTransformROITrainer",
    "DistanceWeightedCEROIUNETRTrainer",
    "L1DiceFocalROIUNETRTrainer",
    "SegResNetTrainer",
    "SwinUNETRTrainer",
    "UNETRTrainer",
    "UncertaintyLovaszROITrainer",
    "UncertaintyROISwinUNETRTrainer",
]
SHORT_FORM = ("DiceCEROITrainer", "L1DiceFocalROIUNETRTrainer")
"""The trainers that every test run trains; all are trained by the long acceptance runs."""
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
class StockRun:
    """What three commands left of a trainer; the second went on with one epoch more in the plans."""

    training: str
    first: dict
    continuing: str
    second: dict
    model: Path
    prediction: Path


def succeeded(done):
    """What a command printed; it must have ended well."""
    assert done.returncode == 0, f"{done.args}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def stock_run(root, name):
    """Train, go on and predict with a trainer."""
    model = model_folder(root, name)
    checkpoint = model / "fold_0" / "checkpoint_final.pth"
    plan(root, name)
    training = succeeded(train(root, name))
    first = torch.load(checkpoint, weights_only=False)
    plan(root, name, epochs=2, final_validation=False)
    continuing = succeeded(train(root, name, "--c"))
    second = torch.load(checkpoint, weights_only=False)
    succeeded(predict(root, name, root / "to_predict", root / "predicted" / name))
    return StockRun(
        training=training,
        first=first,
        continuing=continuing,
        second=second,
        model=model,
        prediction=root / "predicted" / name / f"{CASE}.nii.gz",
    )


@pytest.fixture(scope="module")
def stock_runs(tiny_root, request):
    """The runs of all selected trainers, two at a time; each is ready, or raises its error, when it is asked for."""
    asked_for = dict.fromkeys(item.callspec.params["stock"] for item in request.session.items if _takes_stock(item))
    (tiny_root / "to_predict").mkdir()
    shutil.copy(tiny_root / "images" / f"{CASE}_0000.nii.gz", tiny_root / "to_predict")
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(stock_run, tiny_root, name) for name in asked_for}
        pool.shutdown(cancel_futures=True)


def _takes_stock(item):
    return "stock" in getattr(getattr(item, "callspec", None), "params", {})


@pytest.fixture(
    scope="module",
    params=[name if name in SHORT_FORM else pytest.param(name, marks=pytest.mark.long) for name in NAMES],
)
def stock(request, stock_runs):
    return stock_runs[request.param].result()


def test_nnunet_trains_and_validates(stock):
    assert "Epoch 0" in stock.training
    assert stock.first["current_epoch"] == 1
    assert all(value.isfinite().all() for value in stock.first["network_weights"].values())
    assert "Validation complete" in stock.training
    summary = json.loads((stock.model / "fold_0" / "validation" / "summary.json").read_text())
    assert [Path(case["prediction_file"]).name for case in summary["metric_per_case"]] == [f"{CASE}.nii.gz"]
    counts = summary["metric_per_case"][0]["metrics"]["1"]
    assert counts["TP"] + counts["FN"] > 0, "the case has a tumor"


def test_training_goes_on_where_it_ended(stock):
    assert "Epoch 1" in stock.continuing
    assert "Epoch 0" not in stock.continuing
    assert stock.second["current_epoch"] == 2
    assert len(stock.second["logging"]["train_losses"]) == 2
    assert stock.second["logging"]["train_losses"][0] == stock.first["logging"]["train_losses"][0]
    before, after = stock.first["network_weights"], stock.second["network_weights"]
    assert before.keys() == after.keys()
    assert any(not torch.equal(value, after[name]) for name, value in before.items())
    assert "final_validation is off" in stock.continuing


def test_the_prediction_lies_on_the_images_grid_and_has_known_labels(stock, tiny_root):
    image = sitk.ReadImage(str(tiny_root / "to_predict" / f"{CASE}_0000.nii.gz"))
    found = sitk.ReadImage(str(stock.prediction))
    assert found.GetSize() == image.GetSize()
    for what in ("GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(found, what)() == pytest.approx(getattr(image, what)(), abs=1e-6)
    assert set(np.unique(sitk.GetArrayFromImage(found))) <= {0, 1}


def test_the_patch_that_was_trained_on_is_the_one_that_predicts(stock):
    side = 64 if "SwinUNETR" in stock.model.name else 32 if "AttentionUNet" in stock.model.name else 16
    kept = json.loads((stock.model / "plans.json").read_text())
    assert kept["configurations"][CONFIGURATION]["patch_size"] == [side] * 3
    for log in (stock.training, stock.continuing):
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
