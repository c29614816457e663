"""The page of documentation: its snippet runs."""

from pathlib import Path

import numpy as np

PAGE = Path(__file__).parents[3] / "docs" / "calibration.md"


def test_the_snippet_runs(rng, capsys):
    (snippet,) = (part.split("```")[0] for part in PAGE.read_text(encoding="utf-8").split("```python\n")[1:])
    truth = np.zeros((6, 20, 20), dtype=bool)
    truth[2:4, 8:14, 8:14] = True
    exec(snippet, {"truth": truth, "probability": rng.random(truth.shape)})  # noqa: S102 - our own page
    assert "| Dice-CE | ECE | 1 |" in capsys.readouterr().out
