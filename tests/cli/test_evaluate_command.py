"""`nnc-evaluate`: options, exit codes, and what a run leaves behind."""

import csv
import json
import math

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


class TestFroc:
    FILES = ("froc.csv", "froc.json", "froc.png")

    @pytest.fixture
    def scored(self, folders):
        """In `coarse`, 42 false islands of 12 scans, 3.5 per scan, are surer than lesions; `fine` has lesions only."""
        folders.score_candidates("coarse", lambda _id, touches: 0.5 if touches else 0.9)
        folders.score_candidates("fine", lambda _id, _touches: 0.1)
        return folders

    def written(self, folders):
        return sorted(path.name for path in folders["out"].glob("froc.*"))

    def test_scored_candidates_give_tables_a_picture_and_differences(self, command, scored, capsys):
        assert command() == 0
        assert self.written(scored) == [*self.FILES]
        found = json.loads((scored["out"] / "froc.json").read_text())
        coarse, fine = found["methods"]["coarse"], found["methods"]["fine"]
        assert [each["value"] for each in coarse["sensitivities"]] == [0, 0, 0, 0, 0, 1, 1]
        assert [each["value"] for each in fine["sensitivities"]] == [1] * 7
        assert (coarse["scans"], coarse["lesions"], coarse["false_positives"]) == (12, 24, 42)
        assert coarse["curve"] == {
            "thresholds": [0.9, 0.5], "false_positives_per_scan": [3.5, 3.5], "sensitivities": [0, 1]
        }  # fmt: skip
        assert (found["reference"], found["resampling"]["resamples"]) == ("coarse", 200)
        assert found["differences"]["fine"]["mean"]["value"] == pytest.approx(5 / 7)
        ends = coarse["mean"]
        assert ends["low"] < ends["value"] <= ends["high"]
        with (scored["out"] / "froc.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if row["false_positives_per_scan"] == "mean"]
        assert [(row["method"], row["less"], round(float(row["sensitivity"]), 3)) for row in rows] == [
            ("coarse", "", 0.286), ("fine", "", 1.0), ("fine", "coarse", 0.714)
        ]  # fmt: skip
        out = capsys.readouterr().out
        assert "| fine | 12 | 24 | 1.000 | 1.000 |" in out
        assert "| fine less coarse |" in out

    def test_a_method_without_scores_has_none_and_the_other_stays(self, command, scored, capsys):
        for path in scored["coarse"].glob("*.json"):
            path.unlink()
        for path in scored["coarse"].glob("*_proposals.nii.gz"):
            path.unlink()
        assert command() == 0
        assert list(json.loads((scored["out"] / "froc.json").read_text())["methods"]) == ["fine"]
        assert "no FROC" not in capsys.readouterr().err

    def test_folders_without_scores_are_as_ever_and_no_old_froc_stays(self, command, folders, capsys):
        (folders.root / "out").mkdir()
        for name in self.FILES:
            (folders["out"] / name).write_text("of an earlier run")
        assert command() == 0
        assert self.written(folders) == []
        told = capsys.readouterr()
        assert "FROC" not in told.out + told.err
        assert "candidates" not in told.err

    @pytest.mark.parametrize(
        ("change", "reason", "code"),
        [
            (lambda f: (f["fine"] / "case_03_proposals.nii.gz").unlink(), "no case_03_proposals.nii.gz", 0),
            (lambda f: (f["fine"] / "case_03.json").unlink(), "no case_03.json", 0),
            (lambda f: (f["fine"] / "case_03.json").write_text("{}"), "candidate 1 has no score; expected one ", 0),
            (lambda f: (f["fine"] / "case_03.json").write_text("{"), "case_03.json is damaged", 1),
            (lambda f: (f["fine"] / "case_03_proposals.nii.gz").write_bytes(b"bad"), "cannot be read", 1),
        ],
    )
    def test_a_case_that_lacks_scores_is_named_and_nothing_drawn(self, command, scored, capsys, change, reason, code):
        change(scored)
        assert command(pred=("fine",)) == code
        assert self.written(scored) == []
        lines = [line for line in capsys.readouterr().err.splitlines() if "no FROC" in line]
        assert len(lines) == 1
        assert lines[0].startswith("fine: no FROC: 1 of 12 cases lack scored candidates: case_03 (")
        assert reason in lines[0]

    def test_a_candidate_without_a_score_lacks_it_whichever_process_reads_it(self, command, scored, capsys):
        scored.score_candidates("fine", lambda number, _touches: None if number == 2 else 0.5)
        assert command("-np", "2") == 0
        line = next(line for line in capsys.readouterr().err.splitlines() if "no FROC" in line)
        assert "fine: no FROC: 8 of 12 cases" in line
        assert line.endswith(" and 3 more")
        assert list(json.loads((scored["out"] / "froc.json").read_text())["methods"]) == ["coarse"]

    def test_without_lesions_sensitivities_are_undefined(self, command, scored):
        for path in scored["gt"].glob("*.nii.gz"):
            scored.write("gt", path.name.removesuffix(".nii.gz"), balls())
        assert command(pred=("coarse",)) == 0
        found = json.loads((scored["out"] / "froc.json").read_text())["methods"]["coarse"]
        assert found["mean"] == {
            "value": None, "low": None, "high": None, "note": "no scan has a lesion: the sensitivity is undefined"
        }  # fmt: skip
        with (scored["out"] / "froc.csv").open() as file:
            assert all(math.isnan(float(row["sensitivity"])) for row in csv.DictReader(file))
