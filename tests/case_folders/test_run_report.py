"""What a run tells of itself."""

import csv
import json

import pytest

from nnunet_cascade.case_folders.lock import Part
from nnunet_cascade.case_folders.run_report import CaseLine, RunContext, RunReport, write_run

LINES = [
    CaseLine(case="a", status="failed", error="it is no CT, x"),
    CaseLine(case="b", status="done", figures={"tumor_ml": 2.0, "flags": ["x", "y"], "kinds": {"a": 1}}),
]


@pytest.fixture
def report(tmp_path):
    def build(**changed):
        context = RunContext(begun=0.0, command=("-i", "x"), share=changed.pop("share", Part()))
        return RunReport(**{"output": tmp_path, "context": context, "settings": {"r": (1, 2)}, "total": 3, **changed})

    return build


def told(path):
    return json.loads(path.read_text())


def test_a_run_tells_every_outcome_and_what_is_left(report):
    run = told(write_run(LINES, report(made_with={"model": {"stage2": "ab"}}, varying={"lost_workers": []})))
    assert run["cases"]["a"] == {"status": "failed", "error": "it is no CT, x"}
    assert run["cases"]["b"]["tumor_ml"] == 2.0
    assert run["counts"] == {"done": 1, "failed": 1, "left": 1}
    assert (run["settings"], run["model"]) == ({"r": [1, 2]}, {"stage2": "ab"})
    assert run["varying"]["lost_workers"] == []


def test_the_table_has_a_line_per_case_with_errors_last(report):
    write_run(LINES, report())
    with (report().output / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["case", "status", "tumor_ml", "flags", "kinds", "error"]
    assert list(rows[0].values()) == ["a", "failed", "", "", "", "it is no CT, x"]
    assert (rows[1]["flags"], rows[1]["kinds"]) == ("x y", "a:1")


def test_parts_write_files_of_their_own_that_tell_how_many_they_are(report, tmp_path):
    for part in range(2):
        run = told(write_run(LINES, report(share=Part(num_parts=2, part_id=part))))
        assert (run["num_parts"], run["part_id"]) == (2, part)
    expected = ["run_part0.json", "run_part1.json", "summary_part0.csv", "summary_part1.csv"]
    assert sorted(path.name for path in tmp_path.iterdir()) == expected
