"""`nnc-report`: exit codes, one line for each problem, and the folder it leaves."""

import pytest
from builders.drawn_runs import DrawnRun

from nnunet_cascade.cli import report
from nnunet_cascade.report.viewing import server


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return DrawnRun(tmp_path_factory.mktemp("reported")).write("a").write("b").finish()


def test_a_report_lies_in_the_results_and_is_no_case_of_a_later_one(run, tmp_path, capsys):
    assert report.main([str(run.results), "--no_viewer", "-gt", str(run.labels)]) == 0
    told = capsys.readouterr()
    assert "2 cases; open " in told.out
    assert "problem" not in told.err
    assert (run.results / "report/index.html").is_file()
    assert report.main([str(run.results), "--no_viewer", "-np", "1", "-o", str(tmp_path / "again")]) == 0
    assert sorted(path.name for path in (tmp_path / "again/cases").iterdir()) == ["a", "b"]


def test_problems_end_with_1_and_a_line_each_and_the_report_is_served_all_the_same(tmp_path, monkeypatch, capsys):
    served = []
    monkeypatch.setattr(server, "serve", lambda folder, port: served.append((folder, port)))
    run = DrawnRun(tmp_path).write("a").finish(failed={"b": "no CT"}, left=2)
    assert report.main([str(run.results), "--no_viewer", "-np", "1", "--serve", "--port", "8123"]) == 1
    told = capsys.readouterr()
    assert "b: no CT" in told.err.splitlines()
    assert "2 of the run's cases are not through" in told.err
    assert (run.results / "report/index.html").is_file()
    assert served == [(run.results / "report", 8123)]


def test_two_folders_are_compared(run, tmp_path, capsys):
    other = DrawnRun(tmp_path, "other").write("a", agreeing=4).finish()
    assert report.main([str(run.results), str(other.results), "-o", str(tmp_path / "both"), "-np", "1"]) == 0
    assert "2 cases; open " in capsys.readouterr().out
    assert (tmp_path / "both/index.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{empty}"], "no results to report on"),
        (["{empty}/nothing"], "is no folder"),
        (["{run}", "{run}"], "same folder"),
        (["{run}", "{run}", "{run}"], "expected one, or two"),
        (["{run}", "--port", "8000"], "--serve"),
        (["{run}", "--tumor_label", "2"], "-gt"),
        (["{run}", "--niivue", "x.js", "--no_viewer"], "exclude each other"),
        (["{run}", "-np", "0"], "at least 1"),
        (["{run}", "-o", "{run}"], "is not a report of nnc-report"),
    ],
)
def test_wrong_usage_ends_with_2_in_one_line(run, tmp_path, capsys, arguments, message):
    before = sorted(path.name for path in run.results.iterdir())
    assert report.main([argument.format(empty=tmp_path, run=run.results) for argument in arguments]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert len(told.splitlines()) == 1
    assert sorted(path.name for path in run.results.iterdir()) == before
