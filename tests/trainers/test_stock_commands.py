"""nnU-Net's own commands with our trainers: train and validate, go on, predict. One of each backbone and each loss."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from builders.nnunet_here import run_here
from builders.trainer_cases import BLOCK, CASES, CONFIGURATION, LABELLINGS, run_stock, write_plans

pytestmark = pytest.mark.slow
SHORT_FORM = "L1DiceFocalROIUNETRTrainer"
"""Every test run trains this one; all are trained by the long acceptance runs."""
NAMES = [
    "AttentionUNetTrainer",
    "DiceCEROITrainer",
    "DistanceTransformROITrainer",
    "DistanceWeightedCEROIUNETRTrainer",
    SHORT_FORM,
    "SegResNetTrainer",
    "SwinUNETRTrainer",
    "UNETRTrainer",
    "UncertaintyLovaszROITrainer",
    "UncertaintyROISwinUNETRTrainer",
]
LABELLING = LABELLINGS["tumor"]
CASE = list(CASES)[-1]


@dataclass(frozen=True, kw_only=True)
class StockRun:
    """What three commands left of a trainer; the second went on with one epoch more in the plans."""

    training: str
    first: dict
    continuing: str
    second: dict
    model: Path
    prediction: Path


def plan(root, name, **settings):
    """Write a plans file of the trainer's own."""
    batch_size = 1 if "Swin" in name else 2
    return write_plans(root, LABELLING, f"{name}Plans", block={**BLOCK, **settings}, batch_size=batch_size)


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=[] if name == SHORT_FORM else pytest.mark.long) for name in NAMES]
)
def stock(request, nnunet_folders):
    """Train in a process of its own, as users do; go on and predict in this one."""
    root, name = nnunet_folders, request.param
    model = root / "nnUNet_results" / LABELLING.dataset / f"{name}__{name}Plans__{CONFIGURATION}"
    checkpoint = model / "fold_0" / "checkpoint_final.pth"
    source, target, log = root / f"to_predict_{name}", root / "predicted" / name, root / f"{name}.log"
    arguments = [LABELLING.dataset, CONFIGURATION, 0, "-tr", name, "-p", f"{name}Plans", "-device", "cpu"]
    plan(root, name, epochs=1)
    training = run_stock("nnUNetv2_train", *arguments, root=root)
    assert training.returncode == 0, f"{training.stdout[-3000:]}\n{training.stderr[-3000:]}"
    first = torch.load(checkpoint, weights_only=False)
    plan(root, name, epochs=2, final_validation=False)
    run_here("nnUNetv2_train", *arguments, "--c", log=log)
    source.mkdir()
    shutil.copy(root / "images" / f"{CASE}_0000.nii.gz", source)
    chosen = ["-d", LABELLING.dataset, "-c", CONFIGURATION, "-p", f"{name}Plans", "-tr", name, "-f", 0]
    few = ["-device", "cpu", "--disable_tta", "-npp", 0, "-nps", 0]
    run_here("nnUNetv2_predict", "-i", source, "-o", target, *chosen, *few, log=root / "predict.log")
    return StockRun(
        training=training.stdout,
        first=first,
        continuing=log.read_text(),
        second=torch.load(checkpoint, weights_only=False),
        model=model,
        prediction=target / f"{CASE}.nii.gz",
    )


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
    image = sitk.ReadImage(str(tiny_root / "images" / f"{CASE}_0000.nii.gz"))
    found = sitk.ReadImage(str(stock.prediction))
    assert found.GetSize() == image.GetSize()
    for what in ("GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(found, what)() == pytest.approx(getattr(image, what)(), abs=1e-6)
    assert set(np.unique(sitk.GetArrayFromImage(found))) <= {0, 1}
