"""Folders of results are read as far as they can be, and what is wrong with them is said."""

import json
import shutil
from pathlib import Path

import pytest
from builders.drawn_runs import DrawnRun

from nnunet_cascade.case_folders.unchecked_json import UncheckedJson
from nnunet_cascade.errors import SettingsError
from nnunet_cascade.flags import Flag
from nnunet_cascade.report.pages.names import folder_names
from nnunet_cascade.report.reading.privacy import HIDDEN, without_paths
from nnunet_cascade.report.reading.run_folder import read_run
from nnunet_cascade.report.reading.scores import evaluated
from nnunet_cascade.report.reading.setting_rows import differing, setting_rows
from nnunet_cascade.report.review_priority import review_priority

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return DrawnRun(tmp_path_factory.mktemp("drawn")).write("a").write("b", agreeing=4).finish()


@pytest.fixture
def run(drawn, tmp_path):
    """A copy to be spoiled."""
    shutil.copytree(drawn.root, tmp_path, dirs_exist_ok=True)
    return DrawnRun(tmp_path)


def rows(run):
    return {row.case: row for row in read_run(run.results).rows}


def test_a_finished_run_is_read_without_a_problem_as_its_records_tell(run):
    found = read_run(run.results)
    row, record = found.rows[0], run.record("a")
    assert found.problems == ()
    assert [row.problems for row in found.rows] == [(), ()]
    assert (row.case, row.status, row.volume_ml) == ("a", "done", record["tumor"]["volume_ml"])
    assert [(candidate.verdict.kept, candidate.verdict.rule) for candidate in row.candidates] == [
        (True, "lung_overlap"), (False, "outside_lungs"), (True, "lung_overlap")
    ]  # fmt: skip
    assert (row.kept, row.dropped, row.lesion_count) == (2, 1, len(record["lesions"]))
    assert row.volume.p5_ml < row.volume.p95_ml == record["uncertainty"]["volume"]["p95_ml"]
    assert all(file.there for file in row.files)
    assert row.settings["anatomy.min_volume_mm3"] == "100"


def change_story(run, cases, **counts):
    path = run.results / "run.json"
    story = json.loads(path.read_text())
    path.write_text(json.dumps({**story, "cases": story["cases"] | cases, "counts": story["counts"] | counts}))


def test_cases_that_left_no_record_are_missing_or_failed_and_one_that_failed_shows_an_earlier_result(run):
    failed = {"status": "failed", "error": "no CT"}
    change_story(run, {"gone": {"status": "done"}, "bad": failed, "a": failed}, left=3)
    found = read_run(run.results)
    by_case = {row.case: row for row in found.rows}
    assert (by_case["gone"].status, by_case["bad"].status) == ("missing", "failed")
    assert by_case["bad"].problems == ("no CT",)
    assert "3 of the run's cases are not through" in found.problems[0]
    assert by_case["b"].status == "done"
    earlier = by_case["a"]
    assert earlier.status == "failed"
    assert earlier.volume_ml > 0
    assert "earlier result" in earlier.problems[0]


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, "[]", '{"case": "other"}', "\x00"])
def test_a_damaged_record_costs_its_own_case(run, content):
    (run.results / "a.json").write_text(content)
    found = rows(run)
    assert (found["a"].status, found["b"].status) == ("unreadable", "done")
    assert "damaged" in found["a"].problems[0]


@pytest.mark.parametrize("key", ["flags", "notes", "tumor", "candidates", "lesions", "uncertainty", "lungs", "grid",
                                 "files", "settings", "versions", "model", "varying", "rois"])  # fmt: skip
def test_no_value_of_a_record_ends_the_reading(run, key):
    for value in (None, 7, "x", [], {}, [None], {"x": 1}, True, 1e400, "\ud800"):
        run.change("a", **{key: value})
        found = rows(run)
        assert found["a"].status == "done"
        assert found["b"].problems == ()
        review_priority(found["a"])


def test_a_file_that_is_gone_or_cut_is_named_and_without_its_mask_a_case_is_missing(run):
    (run.results / "a_lungs.nii.gz").unlink()
    path = run.results / "a_roi.nii.gz"
    path.write_bytes(path.read_bytes()[:-1])
    (problem,) = rows(run)["a"].problems
    assert "a_lungs.nii.gz" in problem
    assert "a_roi.nii.gz" in problem
    assert "a_stage1" not in problem
    (run.results / "a.nii.gz").unlink()
    assert rows(run)["a"].status == "missing"


def test_a_record_of_another_version_says_so_and_what_is_not_understood_is_left_out(run):
    record = run.record("a")
    settings = {**record["settings"], "wizardry": {"spell": "x"}}
    run.change("a", versions={"nnunet-cascade": "9.0"}, settings=settings, wonder={"PatientName": "Doe"})
    row = rows(run)["a"]
    assert any("version 9.0" in problem for problem in row.problems)
    assert any("1 of its settings" in problem for problem in row.problems)
    assert "Doe" not in repr(row)
    assert "spell" not in repr(row)
    run.change("a", tumor={"before_ml": 3.0, "after_ml": 2.0}, lesions=None, uncertainty=None)  # by nnc-anatomy-filter
    assert rows(run)["a"].volume_ml == 2.0


def test_masks_without_records_are_shown_as_such_and_maps_are_no_cases(tmp_path):
    run = DrawnRun(tmp_path).write("a").write("a_probability_of_mine")
    for path in run.results.glob("*.json"):
        path.unlink()
    found = read_run(run.results)
    assert {row.case: row.status for row in found.rows} == dict.fromkeys(("a", "a_probability_of_mine"), "mask only")
    assert all(row.problems for row in found.rows)


def test_parts_of_a_run_are_read_together_and_a_part_that_is_not_there_is_told(run):
    story = json.loads((run.results / "run.json").read_text())
    (run.results / "run.json").unlink()
    for part in (0, 2):
        cases = {"a": {"status": "done"}} if part == 0 else {"c": {"status": "failed", "error": "no CT"}}
        told = {**story, "num_parts": 3, "part_id": part, "cases": cases}
        (run.results / f"run_part{part}.json").write_text(json.dumps(told))
    found = read_run(run.results)
    assert [(row.case, row.status) for row in found.rows] == [("a", "done"), ("b", "done"), ("c", "failed")]
    assert any("1 left no readable story: 1" in problem for problem in found.problems)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    (tmp_path / "plans.json").write_text("{}")
    with pytest.raises(SettingsError, match="no run"):
        read_run(tmp_path)
    with pytest.raises(SettingsError, match="no folder"):
        read_run(tmp_path / "nothing")


def test_priority_puts_failures_before_flags_and_flags_before_spread(run):
    change_story(run, {"bad": {"status": "failed", "error": "no CT"}})
    run.write("flagged", found=(), sampled=False).write("spread", agreeing=4).write("sure", agreeing=8)
    found = rows(run)
    scores = {case: review_priority(row).score for case, row in found.items()}
    assert sorted(scores, key=scores.get, reverse=True)[:2] == ["bad", "flagged"]
    assert 10 > scores["spread"] % 10 > scores["a"] % 10 > scores["sure"] % 10 == 0
    assert "2 flags (no_candidate, empty_result)" in review_priority(found["flagged"]).why


def test_every_flag_has_its_meaning_in_the_docs_in_the_same_words():
    page = (DOCS / "outputs.md").read_text()
    table = page.split("\n## Flags\n")[1].split("\n## ")[0]
    told = {}
    for line in table.splitlines():
        if line.startswith("| `"):
            names, meaning = line.strip("| ").split(" | ")
            told |= {name.strip("` "): meaning for name in names.split(",")}
    assert told == {flag: flag.meaning for flag in Flag}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/data/Jane Doe/a_0000.nii.gz holds NaN", "[path] holds NaN"),
        ("/data/x/Jane Doe.dcm cannot be read", "[path] cannot be read"),
        ("C:\\data\\Doe\\1.dcm: too short", "[path]: too short"),
        ("cannot open /home/doe/ct; see 1/4 of it", "cannot open [path]; see 1/4 of it"),
        ("voxels are 6 mm long and/or thick", "voxels are 6 mm long and/or thick"),
        ("Doe Jane May/1.dcm is no file", "[path] is no file"),
    ],
)
def test_messages_are_shown_without_paths(text, expected):
    assert without_paths(text, ["Doe Jane May"]) == expected


def test_settings_are_shown_by_name_but_for_their_paths(run):
    settings = run.record("a")["settings"]
    settings["lungs"] |= {"kind": "folder", "path": "/data/Jane Doe"}
    shown = setting_rows(UncheckedJson(settings))
    assert shown["lungs.path"] == HIDDEN
    assert shown["lungs.weights"] == "–"
    assert shown["stage2.folds"] == "0"
    (difference,) = differing(shown, {**shown, "stage1.threshold": "0.3"})
    assert (difference.name, difference.first, difference.second) == ("stage1.threshold", "0.5", "0.3")


@pytest.mark.parametrize(
    "case",
    ["../../up", "..", ".", "a/b", "", "con", "<script>alert(1)</script>", "ü" * 300, "a.", ".a", "a b", "%2e%2e"],
)
def test_no_name_of_a_case_leads_out_of_its_folder(case):
    name = folder_names([case, "plain-1.x_2"])[case]
    assert Path(name).name == name
    assert name.strip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == ""
    assert 0 < len(name) < 100
    assert not name.startswith(".")


def test_plain_names_stay_and_those_that_differ_by_capitals_alone_get_different_folders():
    assert folder_names(["plain-1.x_2"]) == {"plain-1.x_2": "plain-1.x_2"}
    names = folder_names(["Case", "case", "CASE"])
    assert len({name.casefold() for name in names.values()}) == 3


def test_metrics_of_an_evaluation_beside_the_run_are_those_of_its_own_masks(run):
    values = {"status": "done", "values": {"dice": 0.5, "hd95_mm": None}}
    content = {
        "settings": {"predictions": {"mine": {"place": str(run.results)}, "other": {"place": "/elsewhere"}}},
        "cases": {"a": {"mine": values, "other": {"status": "done", "values": {"dice": 0.9}}}},
    }
    (run.results / "evaluation.json").write_text(json.dumps(content))
    found, problem = evaluated(run.results)
    assert (found["a"]["dice"], problem) == (0.5, "")
    assert str(found["a"]["hd95_mm"]) == "nan"
    content["settings"]["predictions"]["mine"]["place"] = "/x"
    (run.results / "evaluation.json").write_text(json.dumps(content))
    found, problem = evaluated(run.results)
    assert (found, "several methods" in problem) == ({}, True)
