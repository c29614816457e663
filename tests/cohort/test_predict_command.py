"""`nnc-cascade-predict` on a tiny cascade, good files and bad ones."""

import json
import shutil
from itertools import pairwise

import numpy as np
import pytest
from builders.cascade_commands import run
from builders.oriented_grids import grid_towards

from nnunet_cascade.bundles.bundle import read_spec
from nnunet_cascade.cli import cascade_predict, make_bundle
from nnunet_cascade.images import read_volume, write_image

# nnU-Net and torch warn about themselves when trainers are looked up and plots are drawn.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def predicted(tiny_cascade, tmp_path_factory, image):
    """The command, run for real on one good case among bad ones."""
    folder, output = tmp_path_factory.mktemp("inputs"), tmp_path_factory.mktemp("outputs")
    shutil.copyfile(tiny_cascade.test_image, folder / "good_0000.nii.gz")
    (folder / "truncated_0000.nii.gz").write_bytes(tiny_cascade.test_image.read_bytes()[:2000])
    broken = image.array.astype(np.float32)
    broken[0, 0, 0] = np.nan
    write_image(broken, image.grid, folder / "nan_0000.nii.gz")
    write_image(np.zeros_like(image.array), image.grid, folder / "mask_0000.nii.gz")
    places = ["-i", folder, "-o", output, "-m", tiny_cascade.bundle]
    options = ["--disable_tta", "--mc_samples", "3", "--stage1_uncertainty", "ensemble", "-device", "cpu"]
    return output, run("nnc-cascade-predict", *places, *options, expected=1)


def test_bad_cases_get_one_line_each_and_the_good_one_is_done(predicted):
    output, done = predicted
    run_record = json.loads((output / "run.json").read_text())
    assert run_record["counts"] == {"done": 1, "failed": 3, "left": 0}
    for case, reason in (("truncated", "truncated"), ("nan", "NaN"), ("mask", "not a CT")):
        assert reason in run_record["cases"][case]["error"]
        assert f"{case}: " in done.stderr
        assert not list(output.glob(f"{case}*"))
    assert "Traceback" not in done.stderr


def test_a_case_has_its_files_on_its_own_grid_and_a_record_that_explains_itself(predicted, image):
    output, _ = predicted
    maps = ("probability", "uncertainty", "roi", "stage1", "stage1_uncertainty", "candidates", "lungs")
    for suffix in ("", *(f"_{name}" for name in maps)):
        assert image.grid.difference(read_volume(output / f"good{suffix}.nii.gz").grid) is None
    assert not list(output.glob(".*"))
    record = json.loads((output / "good.json").read_text())
    assert "not a medical device" in record["notice"]
    assert record["uncertainty"]["mc_samples"] == 3
    assert record["stage1"]["uncertainty"]["sources"] == ["ensemble"]
    assert record["versions"]["nnunetv2"]
    assert all(candidate["verdict"]["reason"] for candidate in record["candidates"])
    assert all(a["volume_mm3"] >= b["volume_mm3"] for a, b in pairwise(record["candidates"]))


def test_masks_and_lungs_are_read_from_folders_and_one_on_another_grid_fails_its_case(tiny_cascade, tmp_path, capsys):
    for folder in ("in", "masks", "lungs"):
        (tmp_path / folder).mkdir()
    lungs = tiny_cascade.raw / "lungsTs" / tiny_cascade.test_truth.name
    for case in ("right", "wrong"):
        shutil.copyfile(tiny_cascade.test_image, tmp_path / "in" / f"{case}_0000.nii.gz")
        shutil.copyfile(lungs, tmp_path / "lungs" / f"{case}.nii.gz")
    shutil.copyfile(tiny_cascade.test_truth, tmp_path / "masks" / "right.nii.gz")
    write_image(np.zeros((4, 4, 4), np.uint8), grid_towards("LPS", (4, 4, 4)), tmp_path / "masks" / "wrong.nii.gz")
    folders = ["-i", tmp_path / "in", "--stage1_predictions", tmp_path / "masks", "--lungs", tmp_path / "lungs"]
    options = ["-o", tmp_path / "out", "-m", tiny_cascade.bundle, "-device", "cpu", "--mc_samples", "2"]
    assert cascade_predict.main([*map(str, [*folders, *options])]) == 1
    assert "is not on the image's grid" in capsys.readouterr().err
    record = json.loads((tmp_path / "out" / "right.json").read_text())
    assert record["lungs"]["source"] == "folder lungs"
    assert record["stage1"]["given"] is True
    assert record["rois"]


def test_a_bundle_that_is_made_says_what_to_do_next(tiny_cascade, tmp_path, capsys):
    models = ["--stage1", tiny_cascade.model(1), "--stage2", tiny_cascade.model(2)]
    assert make_bundle.main([*map(str, ["-o", tmp_path / "b", *models])]) == 0
    assert "next: nnc-cascade-predict" in capsys.readouterr().out
    assert read_spec(tmp_path / "b").stage2.folds == (0, 1)
