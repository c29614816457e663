"""`nnc-lung-mask`: options, exit codes, and what a run leaves behind."""

import json
import subprocess
import sys

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


def test_one_file_is_one_case(command, folders):
    assert command(i=folders["images"] / "a_0000.nii.gz") == 0
    assert list(told(folders)["cases"]) == ["a"]


def test_a_bad_case_is_code_1_and_the_rest_goes_on(command, folders, capsys):
    (folders["lung_masks"] / "a.nii.gz").unlink()
    assert command() == 1
    assert told(folders)["cases"]["b"]["status"] == "done"
    assert "a: " in capsys.readouterr().err


def test_a_second_run_goes_on(command, folders):
    assert command() == 0
    (folders.root / "out" / "a.nii.gz").unlink()
    assert command("--continue_prediction") == 0
    assert told(folders)["counts"] == {"done": 2, "failed": 0, "left": 0}
    assert told(folders)["varying"]["skipped"] == ["b"]


def test_runs_share_the_cases_out(command, folders):
    assert command("-num_parts", "2", "-part_id", "1") == 0
    run = json.loads((folders.root / "out" / "run_part1.json").read_text())
    assert list(run["cases"]) == ["b"]


def test_wrong_usage_is_one_line_and_code_2(command, folders, capsys):
    assert command("-num_parts", "2", "-part_id", "2") == 2
    assert command("--lung_source", "threshold") == 2
    assert command(o=folders["images"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3
    assert errors[2].endswith("is a folder that is read from; give another one")


def test_no_images_are_one_line_and_code_1(command, folders, capsys):
    assert command(i=folders.root / "nowhere") == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (folders.root / "out").exists()


def test_help_says_that_it_is_no_medical_device(capsys):
    with pytest.raises(SystemExit) as stop:
        lung_mask.main(["-h"])
    assert stop.value.code == 0
    assert "not a medical device." in " ".join(capsys.readouterr().out.split())


def test_asking_for_help_imports_nothing_heavy():
    script = (
        "import sys, nnunet_cascade.cli.lung_mask as it; it.build_parser(); "
        "sys.exit(bool({'torch', 'nnunetv2', 'scipy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
