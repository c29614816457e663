"""`nnc-cascade-predict` on a tiny cascade, good files and bad ones."""

import json
import shutil
from itertools import pairwise

import numpy as np
import pytest
from builders.cascade_commands import DATASET, ROI_DATASET, run
from builders.oriented_grids import grid_towards

from nnunet_cascade.bundles.bundle import read_spec
from nnunet_cascade.cli import cascade_predict
from nnunet_cascade.images import read_volume, write_image

# nnU-Net and torch warn about themselves when trainers are looked up and plots are drawn.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def mixed_inputs(tiny_cascade, tmp_path_factory, image):
    """One good case among bad ones."""
    folder = tmp_path_factory.mktemp("inputs")
    shutil.copyfile(tiny_cascade.test_image, folder / "good_0000.nii.gz")
    (folder / "truncated_0000.nii.gz").write_bytes(tiny_cascade.test_image.read_bytes()[:2000])
    broken = image.array.astype(np.float32)
    broken[0, 0, 0] = np.nan
    write_image(broken, image.grid, folder / "nan_0000.nii.gz")
    write_image(np.zeros_like(image.array), image.grid, folder / "mask_0000.nii.gz")
    return folder


@pytest.fixture(scope="module")
def predicted(tiny_cascade, mixed_inputs, tmp_path_factory):
    """The command, run for real on them."""
    output = tmp_path_factory.mktemp("outputs")
    arguments = ["-i", mixed_inputs, "-o", output, "-m", tiny_cascade.bundle, "-device", "cpu", "--mc_samples", "3"]
    return output, run("nnc-cascade-predict", *arguments, expected=1)


class TestCommand:
    def test_bad_cases_get_one_line_each_and_the_good_one_is_done(self, predicted):
        output, done = predicted
        run_record = json.loads((output / "run.json").read_text())
        assert run_record["counts"] == {"done": 1, "failed": 3, "left": 0}
        assert "truncated" in run_record["cases"]["truncated"]["error"]
        assert "NaN" in run_record["cases"]["nan"]["error"]
        assert "not a CT" in run_record["cases"]["mask"]["error"]
        assert "Traceback" not in done.stderr
        for case in ("truncated", "nan", "mask"):
            assert f"{case}: " in done.stderr
            assert not list(output.glob(f"{case}*"))

    def test_a_case_has_its_files_on_its_own_grid(self, predicted, image):
        output, _ = predicted
        suffixes = ("", "_probability", "_uncertainty", "_roi", "_stage1", "_candidates", "_lungs")
        for suffix in suffixes:
            assert image.grid.difference(read_volume(output / f"good{suffix}.nii.gz").grid) is None
        assert not [path for path in output.iterdir() if path.name.startswith(".")]

    def test_a_record_explains_itself(self, predicted):
        record = json.loads((predicted[0] / "good.json").read_text())
        assert "not a medical device" in record["notice"]
        assert record["uncertainty"]["mc_samples"] == 3
        assert record["versions"]["nnunetv2"]
        for candidate in record["candidates"]:
            assert candidate["verdict"]["reason"]
        sizes = [candidate["volume_mm3"] for candidate in record["candidates"]]
        assert all(a >= b for a, b in pairwise(sizes))

    def test_a_continued_run_leaves_out_what_is_done(self, tiny_cascade, mixed_inputs, predicted, capsys):
        output, _ = predicted
        before = (output / "good.nii.gz").stat().st_mtime_ns
        arguments = ["-i", mixed_inputs, "-o", output, "-m", tiny_cascade.bundle, "-device", "cpu", "--mc_samples", "3"]
        assert cascade_predict.main([*map(str, arguments), "--continue_prediction"]) == 1
        assert json.loads((output / "run.json").read_text())["varying"]["skipped"] == ["good"]
        assert (output / "good.nii.gz").stat().st_mtime_ns == before
        capsys.readouterr()

    def test_a_stage_one_mask_on_another_grid_fails_its_case_alone(self, tiny_cascade, tmp_path, capsys):
        case = tiny_cascade.test_image.name.removesuffix("_0000.nii.gz")
        wrong = grid_towards("LPS", (4, 4, 4))
        write_image(np.zeros((4, 4, 4), dtype=np.uint8), wrong, tmp_path / f"{case}.nii.gz")
        arguments = ["-i", tiny_cascade.test_image, "-o", tmp_path / "o", "-m", tiny_cascade.bundle, "-device", "cpu"]
        assert cascade_predict.main([*map(str, arguments), "--stage1_predictions", str(tmp_path)]) == 1
        assert "is not on the image's grid" in capsys.readouterr().err

    def test_lungs_from_a_folder_are_used(self, tiny_cascade, tmp_path, capsys):
        arguments = ["-i", tiny_cascade.test_image, "-o", tmp_path / "o", "-m", tiny_cascade.bundle, "-device", "cpu"]
        lungs = tiny_cascade.raw / "lungsTs"
        truth = tiny_cascade.raw / "labelsTs"
        code = cascade_predict.main(
            [*map(str, arguments), "--mc_samples", "2", "--lungs", str(lungs), "--stage1_predictions", str(truth)]
        )
        assert code == 0
        record = json.loads(next((tmp_path / "o").glob("phantom*.json")).read_text())
        assert "folder" in record["lungs"]["source"]
        assert record["stage1"]["given"] is True
        assert record["rois"]
        capsys.readouterr()

    def test_samples_are_chosen_on_the_command_line(self, tiny_cascade, tmp_path, capsys):
        arguments = ["-i", tiny_cascade.test_image, "-o", tmp_path / "o", "-m", tiny_cascade.bundle, "-device", "cpu"]
        options = ["--uncertainty_sources", "tta", "ensemble", "--uncertainty_measure", "predictive_entropy"]
        assert cascade_predict.main([*map(str, arguments), *options, "--stage1_uncertainty", "ensemble"]) == 0
        path = next((tmp_path / "o").glob("phantom*.json"))
        record = json.loads(path.read_text())
        assert record["uncertainty"]["sources"] == ["tta", "ensemble"]
        assert record["stage1"]["uncertainty"]["measure"] == "predictive_entropy"
        assert record["settings"]["sampling"]["stage1_sources"] == ["ensemble"]
        assert path.with_name(f"{path.stem}_stage1_uncertainty.nii.gz").is_file()
        assert cascade_predict.main([*map(str, arguments), *options]) == 0
        assert not path.with_name(f"{path.stem}_stage1_uncertainty.nii.gz").is_file()
        capsys.readouterr()

    def test_wrong_usage_ends_with_two(self, tiny_cascade, tmp_path, capsys):
        arguments = ["-i", tiny_cascade.test_image, "-o", tmp_path / "o", "-m", tiny_cascade.bundle]
        assert cascade_predict.main([*map(str, arguments), "--mc_samples", "1"]) == 2
        assert "mc_samples must be 0 or at least 2" in capsys.readouterr().err

    def test_an_output_that_cannot_be_written_is_one_line(self, tiny_cascade, tmp_path, capsys):
        (tmp_path / "file").touch()
        arguments = ["-i", tiny_cascade.test_image, "-o", tmp_path / "file" / "o", "-m", tiny_cascade.bundle]
        assert cascade_predict.main([*map(str, arguments), "-device", "cpu"]) == 1
        assert "cannot be written" in capsys.readouterr().err

    def test_plans_and_bundle_commands_end_with_what_to_do_next(self, tiny_cascade, tmp_path):
        done = run(
            "nnc-make-bundle",
            "-o",
            tmp_path / "b",
            "--stage1",
            tiny_cascade.model(1),
            "--stage2",
            tiny_cascade.model(2),
        )
        assert "next: nnc-cascade-predict" in done.stdout
        assert read_spec(tmp_path / "b").stage2.folds == (0, 1)
        done = run("nnc-roi-dataset", "-d", DATASET, "-o", ROI_DATASET + 1, "--context_mm", "96", "96", "96")
        assert "ground_truth" in done.stdout
        assert "next: nnc-plan" in done.stdout
