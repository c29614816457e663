"""`nnc-evaluate`: options, exit codes, and what a run leaves behind."""

import csv
import json

import numpy as np
import pytest
from builders.label_folders import CASES, LabelFolders, balls

from nnunet_cascade.cli import evaluate

QUICK = ("--resamples", "200", "-np", "1")


@pytest.fixture
def folders(tmp_path):
    return LabelFolders(tmp_path)


@pytest.fixture
def command(folders):
    """Run the command with the two methods; gives the exit code."""

    def run(*options, pred=("coarse", "fine"), gt="gt", o="out"):
        places = [f"{name}={folders[name]}" for name in pred]
        arguments = ["-gt", folders[gt], "-pred", *places, "-o", folders.root / o, *QUICK, *options]
        return evaluate.main([str(part) for part in arguments])

    return run


def told(folders):
    return json.loads((folders.root / "out" / "evaluation.json").read_text())


def test_the_command_leaves_tables_for_people_spreadsheets_and_programs(folders, capsys):
    (folders["fine"] / "case_03.nii.gz").write_bytes(b"bad")
    (folders["coarse"] / "case_05.nii.gz").unlink()
    folders.write("fine", "stranger", balls())
    places = [f"{name}={folders[name]}" for name in ("coarse", "fine")]
    assert evaluate.main([*map(str, ["-gt", folders["gt"], "-pred", *places, "-o", folders["out"]])]) == 1
    done = capsys.readouterr()
    lines = [line.strip() for line in done.err.replace("\r", "\n").splitlines()]
    errors = [line for line in lines if line and not line.startswith("score:")]  # the progress bar
    assert [line.split(":")[0] for line in errors] == ["fine", "coarse", "fine"]
    assert "case_03" in errors[0]
    assert errors[1:] == [
        "coarse: 1 of 12 cases missing: case_05",
        "fine: 1 predictions without true labels, left out: stranger",
    ]
    assert "22 of 24 predictions scored" in done.out
    content = told(folders)
    assert content["counts"]["coarse"] == {"done": 11, "skipped": 0, "missing": 1, "failed": 0}
    assert content["comparison"]["contrasts"]["fine"]["paired"]["dice"]["n"] == 10
    assert content["comparison"]["resampling"] == {"resamples": 9999, "level": 0.95, "seed": 12345}
    assert "scipy" in content["versions"]
    page = (folders["out"] / "evaluation.md").read_text()
    assert "- coarse: 1 missing: case_05\n- fine: 1 failed: case_03\n" in page
    assert "## fine less coarse, on 10 common cases" in page
    with (folders["out"] / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["status"]) for row in rows if row["case"] == "case_05"] == [
        ("coarse", "missing"), ("fine", "done")
    ]  # fmt: skip


def test_figures_are_means_of_the_cases_and_fewer_islands_go_with_more_dice(command, folders, capsys):
    assert command() == 0
    with (folders["out"] / "scores.csv").open() as file:
        dices = [float(row["dice"]) for row in csv.DictReader(file) if row["method"] == "coarse"]
    assert len(dices) == CASES
    assert f"| coarse | 12 | {np.mean(dices):.3f} [" in capsys.readouterr().out
    assert told(folders)["comparison"]["methods"]["coarse"]["metrics"]["dice"]["mean"]["value"] == pytest.approx(
        np.mean(dices)
    )
    correlation = told(folders)["comparison"]["contrasts"]["fine"]["correlations"]["gain in dice"]
    assert correlation["n"] == CASES
    assert correlation["pearson"]["value"] > 0


def test_nothing_is_scored_twice_and_another_seed_gives_other_intervals_of_the_same_figures(command, folders):
    assert command() == 0
    first = told(folders)["comparison"]
    assert command("--c") == 0
    assert told(folders)["counts"]["fine"]["skipped"] == CASES
    assert told(folders)["comparison"] == first
    assert command("--c", "--seed", "1") == 0
    one, other = (each["methods"]["coarse"]["metrics"]["dice"]["mean"] for each in (first, told(folders)["comparison"]))
    assert one["value"] == other["value"]
    assert one["percentile"] != other["percentile"]
    assert told(folders)["comparison"]["resampling"]["resamples"] == 200


def test_missing_cases_are_no_failure_for_who_says_so(command, folders, capsys):
    (folders["fine"] / "case_00.nii.gz").unlink()
    assert command("--chill") == 0
    assert "fine: 1 of 12 cases missing: case_00" in capsys.readouterr().err
    (folders["fine"] / "case_01.nii.gz").write_bytes(b"bad")
    assert command("--chill", "--c") == 1


def test_labels_may_be_named_for_each_folder_and_the_reference_can_be_another_method(command, folders):
    folders.write_labels("fine", background=0, lung=2, tumor=1)
    folders.write_labels("gt", background=0, tumor=1)
    assert command("--reference", "fine", "--tumor_label", "tumor", "coarse=1") == 0
    assert list(told(folders)["comparison"]["contrasts"]) == ["coarse"]
    assert told(folders)["settings"]["predictions"]["fine"]["tumor_values"] == [1]
    assert command("--tumor_label", "lung", "coarse=1", "gt=1") == 0
    assert told(folders)["comparison"]["methods"]["fine"]["metrics"]["zero_dice"]["total"] == CASES


def test_predictions_without_a_name_are_called_as_their_folder_or_pattern(folders):
    for path in sorted(folders["fine"].glob("*")):
        path.rename(path.with_name(path.name.replace(".nii.gz", "_stage1.nii.gz")))
    places = [folders["coarse"], folders["fine"] / "*_stage1.nii.gz"]
    arguments = ["-gt", folders["gt"], "-pred", *places, "-o", folders["out"], *QUICK]
    assert evaluate.main([str(part) for part in arguments]) == 0
    assert list(told(folders)["counts"]) == ["coarse", "fine stage1"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--reference", "none"), "--reference none; expected one of coarse, fine"),
        (("--resamples", "10"), "expected at least 100"),
        (("-np", "0"), "0 processes; expected at least 1"),
        (("--tumor_label", "tumor"), "give a value from 1 up"),
        (("--tumor_label", "other=1"), "expected gt or one of coarse, fine before the ="),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(command, folders, options, reason, capsys):
    assert command(*options) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert reason in error
    assert not (folders.root / "out").exists()


def test_folders_that_are_read_are_not_written_to(command, capsys):
    assert command(o="fine") == 2
    assert command(o="gt") == 2
    assert capsys.readouterr().err.count("is a folder that is read from") == 2


@pytest.mark.parametrize(
    ("pred", "said"),
    [
        (["a={root}/fine", "a={root}/coarse"], "give NAME=PREDICTIONS"),
        (["{root}/fine/case_00.nii.gz"], "is one file and -gt"),
    ],
)
def test_predictions_that_cannot_be_told_apart_are_wrong_usage(folders, capsys, pred, said):
    places = [place.format(root=folders.root) for place in pred]
    assert evaluate.main(["-gt", str(folders["gt"]), "-pred", *places, "-o", str(folders["out"])]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("places", [{"gt": "nowhere"}, {"gt": "empty"}, {"pred": ("coarse", "nowhere")}])
def test_folders_with_nothing_to_read_are_one_line_and_code_1(command, folders, places, capsys):
    (folders.root / "empty").mkdir()
    assert command(**places) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_label_that_no_file_holds_is_told(command, capsys):
    assert command("--tumor_label", "7") == 0
    told = capsys.readouterr().err
    assert "no true label holds 7; is that the tumor's label?" in told
    assert "fine: no prediction holds 7; is that the tumor's label?" in told
