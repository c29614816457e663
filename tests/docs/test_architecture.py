"""The map for newcomers names every folder, and its picture is the one that the script draws."""

import subprocess
import sys

from builders.page_snippets import ROOT

DOCS = ROOT / "docs"


def test_the_map_names_every_folder():
    page = (DOCS / "architecture.md").read_text()
    folders = [path.parent.name for path in (ROOT / "nnunet_cascade").glob("*/__init__.py")]
    assert [name for name in folders if f"`{name}`" not in page] == []


def test_the_picture_is_current(tmp_path):
    drawn = tmp_path / "architecture.svg"
    subprocess.run([sys.executable, DOCS / "make_architecture_picture.py", "--output", drawn], check=True, timeout=60)
    assert drawn.read_text() == (DOCS / "pictures" / "architecture.svg").read_text()
    for path in (ROOT / "nnunet_cascade").glob("*/__init__.py"):
        assert f">{path.parent.name}</text>" in drawn.read_text()
