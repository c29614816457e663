"""The picture of the README is drawn from a demonstration's results, by a script."""

import json
import subprocess
import sys

import numpy as np
import pytest
from builders.page_snippets import ROOT

from nnunet_cascade.geometry import Grid
from nnunet_cascade.images import write_image

SHAPE = (3, 24, 32)


@pytest.fixture
def demo(tmp_path):
    """A demonstration's folder with one case: candidate 1 is kept, candidate 2 is dropped."""
    raw, predictions = tmp_path / "nnUNet_raw/Dataset501_Phantoms", tmp_path / "predictions"
    maps = {name: np.zeros(SHAPE, np.uint8) for name in ("", "_candidates", "_lungs", "_roi")}
    maps["_candidates"][1, 8:12, 8:12], maps["_candidates"][1, 8:12, 22:26] = 1, 2
    maps["_roi"][1, 5:15, 5:15], maps[""][1, 8:12, 8:12], maps["_lungs"][1, 4:20, 4:16] = 1, 1, 1
    maps["_uncertainty"] = maps[""] * np.float32(0.1)
    for folder in (raw / "imagesTs", raw / "labelsTs", predictions):
        folder.mkdir(parents=True)
    grid = Grid(shape=SHAPE, spacing_mm=(2.0, 2.0, 2.0))
    for name, array in maps.items():
        write_image(array, grid, predictions / f"phantom_1{name}.nii.gz")
    write_image(np.full(SHAPE, -500, np.int16), grid, raw / "imagesTs/phantom_1_0000.nii.gz")
    write_image(maps[""], grid, raw / "labelsTs/phantom_1.nii.gz")
    candidates = [{"id": number, "verdict": {"kept": number == 1}} for number in (1, 2)]
    (predictions / "phantom_1.json").write_text(json.dumps({"candidates": candidates}))
    return tmp_path


def draw(demo, output):
    script = ROOT / "docs" / "make_pipeline_picture.py"
    command = [sys.executable, script, "--demo", demo, "--output", output]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_the_picture_shows_a_kept_and_a_dropped_candidate(demo, tmp_path):
    done = draw(demo, tmp_path / "drawn.png")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "drawn.png").read_bytes().startswith(b"\x89PNG")


def test_a_demonstration_without_results_is_told(tmp_path):
    done = draw(tmp_path, tmp_path / "drawn.png")
    assert (done.returncode, "run nnc-demo" in done.stderr) == (1, True)
