"""The benchmark of the cascade against plain prediction runs, and compares what it says it compares."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.long]
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "cascade_speed.py"


def test_the_quick_comparison_runs_and_the_cascade_gives_the_maps_of_predict_case(tmp_path):
    figures = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--quick", "--threads", "1", "--json", str(figures)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    told = json.loads(figures.read_text())
    assert told["differing"] == []
    assert len(told["regions_voxels"]) == 1
    assert {"read", "stage1", "lungs", "stage2", "write"} <= set(told["cascade"]["steps_s"])
    for side in ("plain", "cascade"):
        cost = told[side]
        assert 0 < cost["networks_s"] < cost["wall_s"]
        assert 0 < cost["outside_s"] < cost["wall_s"]
        assert cost["peak_mib"] > 100
