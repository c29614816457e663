"""`nnc-roi-dataset`: what its options ask for."""

import json

import pytest
from builders.trainer_cases import LABELLINGS, plans_of

from nnunet_cascade.cli import roi_dataset
from nnunet_cascade.training import roi_dataset as training
from nnunet_cascade.training.crop_plan import CropPlan


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Run the command on a dataset 501 of two patients; gives the request that it makes."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path / name))
    for name in ("nnUNet_raw", "nnUNet_preprocessed"):
        (tmp_path / name / "Dataset501_X").mkdir(parents=True)
    described = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "tumor": 1}, "file_ending": ".nii.gz"}
    (tmp_path / "nnUNet_raw" / "Dataset501_X" / "dataset.json").write_text(json.dumps(described))
    (tmp_path / "nnUNet_preprocessed" / "Dataset501_X" / "splits_final.json").write_text("[]")
    (tmp_path / "plans.json").write_text(json.dumps(plans_of(LABELLINGS["tumor"])))
    requests = []
    monkeypatch.setattr(training, "make_roi_dataset", lambda request: requests.append(request) or [])

    def run(*options):
        assert roi_dataset.main(["-d", "501", "-o", "601", *options]) == 0
        return requests[-1]

    return run


def test_crops_hold_what_training_cuts_for_the_plans_given_or_are_as_large_as_asked(asked, tmp_path):
    plans = ["--plans", str(tmp_path / "plans.json")]
    planned = asked(*plans)
    assert planned.context_mm == (50, 50, 50)  # 25 voxels of 2 mm, as nnU-Net rotates and scales 16
    assert planned.plan == CropPlan(spacing_mm=(2, 2, 2), patch_size=(16, 16, 16), features=(4, 8, 8, 8))
    assert asked(*plans, "-tr", "UncertaintyROISwinUNETRTrainer").context_mm == (204, 204, 204)  # of 64 voxels
    for options, size in (([], 160), (["--context_mm", "90", "90", "90"], 90)):
        assert (asked(*options).context_mm, asked(*options).plan) == ((size,) * 3, None)


def test_plans_and_a_size_of_crops_exclude_each_other(asked, capsys):
    with pytest.raises(SystemExit):
        asked("--plans", "plans.json", "--context_mm", "90", "90", "90")
    assert "not allowed with argument" in capsys.readouterr().err
