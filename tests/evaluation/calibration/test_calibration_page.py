"""The page of documentation: its snippet tells the calibration of a case."""

from pathlib import Path

import numpy as np

from nnunet_cascade.geometry import Grid
from nnunet_cascade.images import write_image

PAGE = Path(__file__).parents[3] / "docs" / "calibration.md"


def test_the_snippet_tells_of_each_case(rng, capsys, tmp_path, monkeypatch):
    (snippet,) = (part.split("```")[0] for part in PAGE.read_text(encoding="utf-8").split("```python\n")[1:])
    truth = np.zeros((6, 20, 20), dtype=bool)
    truth[2:4, 8:14, 8:14] = True
    grid = Grid(shape=truth.shape, spacing_mm=(3.0, 0.977, 0.977))
    for folder in ("LABELS", "BUNDLE_cross_validation"):
        (tmp_path / folder).mkdir()
    write_image(truth, grid, tmp_path / "LABELS/a.nii.gz")
    write_image(
        rng.random(truth.shape).astype(np.float32), grid, tmp_path / "BUNDLE_cross_validation/a_probability.nii.gz"
    )
    monkeypatch.chdir(tmp_path)
    exec(snippet, {})  # noqa: S102 - our own page
    assert "| Dice-CE | ECE | 1 |" in capsys.readouterr().out
