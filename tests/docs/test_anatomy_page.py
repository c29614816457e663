"""The page on the anatomy rules: its pictures are drawn by their script, and it says what is so."""

import re
import subprocess
import sys
from pathlib import Path

from nnunet_cascade.postprocessing.settings import AnatomySettings

SCRIPT = Path(__file__).parents[2] / "docs" / "make_pictures.py"


def test_the_script_draws_what_the_page_says(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT, "--output", tmp_path], capture_output=True, text=True, check=True, timeout=120
    )
    verdicts = re.findall(r"^([0-9])  (kept|dropped):", done.stdout, flags=re.MULTILINE)
    recommended, paper = verdicts[:7], verdicts[7:]
    assert [number for number, verdict in recommended if verdict == "kept"] == ["1", "2", "4"]
    assert [number for number, verdict in paper if verdict == "kept"] == ["1", "2", "3", "4", "7"]
    for preset in ("recommended", "paper"):
        assert (tmp_path / f"anatomy_{preset}.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_names_every_setting_of_the_rules():
    page = (SCRIPT.parent / "anatomy.md").read_text()
    assert [name for name in AnatomySettings().to_dict() if f"`{name}`" not in page] == []
