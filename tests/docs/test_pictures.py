"""The pictures of the pages are drawn by their scripts, and the pages say what is so."""

import json
import re
import runpy

import numpy as np
import pytest
from builders.page_snippets import ROOT

from nnunet_cascade.geometry import Grid
from nnunet_cascade.images import write_image
from nnunet_cascade.postprocessing.settings import AnatomySettings

DOCS = ROOT / "docs"
FOLDERS = [path.parent.name for path in (ROOT / "nnunet_cascade").glob("*/__init__.py")]
SHAPE = (3, 24, 32)


@pytest.fixture
def draw(monkeypatch):
    """Run a script of the pages as its command would."""

    def run(script, *arguments):
        monkeypatch.setattr("sys.argv", [script, *map(str, arguments)])
        runpy.run_path(str(DOCS / script), run_name="__main__")

    return run


@pytest.mark.long
def test_the_script_draws_what_the_page_on_the_rules_says(draw, tmp_path, capsys):
    draw("make_pictures.py", "--output", tmp_path)
    verdicts = re.findall(r"^([0-9])  (kept|dropped):", capsys.readouterr().out, flags=re.MULTILINE)
    recommended, paper = verdicts[:7], verdicts[7:]
    assert [number for number, verdict in recommended if verdict == "kept"] == ["1", "2", "4"]
    assert [number for number, verdict in paper if verdict == "kept"] == ["1", "2", "3", "4", "7"]
    for preset in ("recommended", "paper"):
        assert (tmp_path / f"anatomy_{preset}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("page", "names"), [("anatomy.md", AnatomySettings().to_dict()), ("architecture.md", FOLDERS)])
def test_the_page_names_every_setting_of_the_rules_and_every_folder(page, names):
    text = (DOCS / page).read_text()
    assert [name for name in names if f"`{name}`" not in text] == []


def test_the_picture_of_the_folders_is_current(draw, tmp_path):
    draw("make_architecture_picture.py", "--output", tmp_path / "drawn.svg")
    drawn = (tmp_path / "drawn.svg").read_text()
    assert drawn == (DOCS / "pictures" / "architecture.svg").read_text()
    assert [name for name in FOLDERS if f">{name}</text>" not in drawn] == []


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


def test_the_picture_of_the_readme_is_drawn_from_a_demonstrations_results(draw, demo, tmp_path):
    draw("make_pipeline_picture.py", "--demo", demo, "--output", tmp_path / "drawn.png")
    assert (tmp_path / "drawn.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SystemExit, match="run nnc-demo"):
        draw("make_pipeline_picture.py", "--demo", tmp_path / "none", "--output", tmp_path / "none.png")
