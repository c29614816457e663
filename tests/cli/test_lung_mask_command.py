"""`nnc-lung-mask`: options, exit codes, and what a run leaves behind."""

import json

import pytest
from builders.drawn_chests import Folders

from nnunet_cascade.cli import lung_mask


@pytest.fixture
def folders(tmp_path):
    found = Folders(tmp_path)
    for name in "ab":
        found.write(name)
    return found


@pytest.fixture
def command(folders):
    """Run the command with the drawn masks; gives the exit code."""

    def run(*options, i=None, o=None, lungs=("--lungs", folders["lung_masks"])):
        places = ["-i", i or folders["images"], "-o", o or folders.root / "out", *lungs]
        return lung_mask.main([str(part) for part in (*places, *options)])

    return run


def told(folders):
    return json.loads((folders.root / "out" / "run.json").read_text())


def test_a_folder_of_cts_gets_masks_and_a_story(command, folders, capsys):
    assert command() == 0
    run = told(folders)
    assert run["counts"] == {"done": 2, "failed": 0, "left": 0}
    assert run["cases"]["a"]["volume_ml"] == 1820.0
    assert run["cases"]["a"]["source"].startswith("folder ")
    assert run["cases"]["a"]["flags"] == []
    assert sorted(path.name for path in (folders.root / "out").glob("*.nii.gz")) == ["a.nii.gz", "b.nii.gz"]
    assert "2 of 2 cases done" in capsys.readouterr().out


def test_a_bad_case_is_code_1_and_a_second_run_goes_on_with_it(command, folders, capsys):
    mask = folders["lung_masks"] / "a.nii.gz"
    mask.rename(mask.with_name("aside"))
    assert command() == 1
    assert "a: " in capsys.readouterr().err
    mask.with_name("aside").rename(mask)
    assert command("--continue_prediction") == 0
    assert told(folders)["counts"] == {"done": 2, "failed": 0, "left": 0}
    assert told(folders)["varying"]["skipped"] == ["b"]


def test_wrong_usage_is_one_line_and_code_2(command, folders, capsys):
    assert command("-num_parts", "2", "-part_id", "2") == 2
    assert command("--lung_source", "threshold") == 2
    assert command(o=folders["images"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3
    assert errors[2].endswith("is a folder that is read from; give another one")
