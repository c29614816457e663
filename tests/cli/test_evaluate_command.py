"""`nnc-evaluate`: options, exit codes, and what a run leaves behind."""

import csv
import json
import subprocess
import sys

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


def test_the_command_leaves_tables_for_people_spreadsheets_and_programs(folders):
    (folders["fine"] / "case_03.nii.gz").write_bytes(b"bad")
    (folders["coarse"] / "case_05.nii.gz").unlink()
    folders.write("fine", "stranger", balls())
    places = [f"{name}={folders[name]}" for name in ("coarse", "fine")]
    script = "import sys; from nnunet_cascade.cli.evaluate import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", script, "-gt", folders["gt"], "-pred", *places, "-o", folders["out"]],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    lines = [line.strip() for line in done.stderr.replace("\r", "\n").splitlines()]
    errors = [line for line in lines if line and not line.startswith("score:")]  # the progress bar
    assert [line.split(":")[0] for line in errors] == ["fine", "coarse", "fine"]
    assert "case_03" in errors[0]
    assert errors[1:] == [
        "coarse: 1 of 12 cases missing: case_05",
        "fine: 1 predictions without true labels, left out: stranger",
    ]
    assert "22 of 24 predictions scored" in done.stdout
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


def test_figures_are_means_of_the_cases(command, folders, capsys):
    assert command() == 0
    with (folders["out"] / "scores.csv").open() as file:
        dices = [float(row["dice"]) for row in csv.DictReader(file) if row["method"] == "coarse"]
    assert len(dices) == CASES
    assert f"| coarse | 12 | {np.mean(dices):.3f} [" in capsys.readouterr().out
    assert told(folders)["comparison"]["methods"]["coarse"]["metrics"]["dice"]["mean"]["value"] == pytest.approx(
        np.mean(dices)
    )


def test_fewer_islands_go_with_more_dice(command, folders):
    assert command() == 0
    correlation = told(folders)["comparison"]["contrasts"]["fine"]["correlations"]["gain in dice"]
    assert correlation["n"] == CASES
    assert correlation["pearson"]["value"] > 0


def test_the_same_files_give_the_same_figures_and_nothing_is_scored_twice(command, folders):
    assert command() == 0
    first = told(folders)
    assert command("--c") == 0
    second = told(folders)
    assert second["counts"]["fine"]["skipped"] == CASES
    assert second["comparison"] == first["comparison"]


def test_another_seed_gives_other_intervals_of_the_same_figures(command, folders):
    assert command() == 0
    first = told(folders)["comparison"]["methods"]["coarse"]["metrics"]["dice"]["mean"]
    assert command("--seed", "1") == 0
    second = told(folders)["comparison"]["methods"]["coarse"]["metrics"]["dice"]["mean"]
    assert first["value"] == second["value"]
    assert first["percentile"] != second["percentile"]


def test_missing_cases_are_no_failure_for_who_says_so(command, folders, capsys):
    (folders["fine"] / "case_00.nii.gz").unlink()
    assert command() == 1
    assert command("--chill") == 0
    assert "fine: 1 of 12 cases missing: case_00" in capsys.readouterr().err
    (folders["fine"] / "case_01.nii.gz").write_bytes(b"bad")
    assert command("--chill") == 1


def test_the_reference_can_be_another_method(command, folders):
    assert command("--reference", "fine") == 0
    assert list(told(folders)["comparison"]["contrasts"]) == ["coarse"]


def test_labels_may_be_named_for_each_folder(command, folders):
    folders.write_labels("fine", background=0, lung=2, tumor=1)
    folders.write_labels("gt", background=0, tumor=1)
    assert command("--tumor_label", "tumor", "coarse=1") == 0
    assert told(folders)["settings"]["predictions"]["fine"]["tumor_values"] == [1]
    assert command("--tumor_label", "lung", "coarse=1", "gt=1") == 0
    assert told(folders)["comparison"]["methods"]["fine"]["metrics"]["zero_dice"]["total"] == CASES


def test_labels_of_a_raw_dataset_are_told_by_the_file_above_them(command, folders):
    (folders["gt"]).rename(folders["labelsTr"])
    (folders.root / "dataset.json").write_text('{"labels": {"background": 0, "lung": 2, "tumor": 1}}')
    assert command("--tumor_label", "1", "gt=tumor", gt="labelsTr") == 0


def test_a_folder_without_a_name_has_its_own(folders):
    arguments = ["-gt", folders["gt"], "-pred", folders["fine"], "-o", folders["out"], *QUICK]
    assert evaluate.main([str(part) for part in arguments]) == 0
    assert list(told(folders)["counts"]) == ["fine"]


def test_a_pattern_without_a_name_has_one_that_says_what_it_is(folders):
    for path in sorted(folders["fine"].glob("*")):
        path.rename(path.with_name(path.name.replace(".nii.gz", "_stage1.nii.gz")))
    arguments = ["-gt", folders["gt"], "-pred", folders["fine"] / "*_stage1.nii.gz", "-o", folders["out"], *QUICK]
    assert evaluate.main([str(part) for part in arguments]) == 0
    assert list(told(folders)["counts"]) == ["fine stage1"]


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


def test_two_methods_of_one_name_are_wrong_usage(folders, capsys):
    places = [f"a={folders['fine']}", f"a={folders['coarse']}"]
    assert evaluate.main(["-gt", str(folders["gt"]), "-pred", *places, "-o", str(folders["out"])]) == 2
    assert "give NAME=PREDICTIONS" in capsys.readouterr().err


def test_one_file_for_many_cases_is_wrong_usage(folders, capsys):
    place = folders["fine"] / "case_00.nii.gz"
    assert evaluate.main(["-gt", str(folders["gt"]), "-pred", str(place), "-o", str(folders["out"])]) == 2
    assert "is one file and -gt" in capsys.readouterr().err


@pytest.mark.parametrize("gt", ["nowhere", "empty"])
def test_no_true_labels_are_one_line_and_code_1(command, folders, gt, capsys):
    (folders.root / "empty").mkdir()
    assert command(gt=gt) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_folder_of_predictions_that_is_not_there_is_one_line_and_code_1(command, capsys):
    assert command(pred=("coarse", "nowhere")) == 1
    assert "nowhere does not exist" in capsys.readouterr().err


def test_a_label_that_no_file_holds_is_told(command, capsys):
    assert command("--tumor_label", "7") == 0
    told = capsys.readouterr().err
    assert "no true label holds 7; is that the tumor's label?" in told
    assert "fine: no prediction holds 7; is that the tumor's label?" in told


def test_cohorts_without_any_tumor_have_a_page(command, folders):
    for number in range(CASES):
        for name in ("gt", "coarse", "fine"):
            folders.write(name, f"case_{number:02d}", balls())
    assert command() == 0
    dice = told(folders)["comparison"]["methods"]["fine"]["metrics"]["dice"]
    assert (dice["n"], dice["undefined"], dice["mean"]["value"]) == (0, CASES, None)


def test_asking_for_help_imports_nothing_heavy():
    script = (
        "import sys, nnunet_cascade.cli.evaluate as it; it.build_parser(); "
        "sys.exit(bool({'torch', 'nnunetv2', 'scipy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
