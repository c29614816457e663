"""Two runs beside each other: differences are the second's less the first's, over the cases of both."""

import re
import shutil
from dataclasses import replace

import pytest
from builders.drawn_chests import GRID, IN_LEFT, IN_RIGHT
from builders.drawn_runs import SPEC, DrawnRun

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.report.build import make_comparison
from nnunet_cascade.report.collect import ReportRequest

FIRST_ML, SECOND_ML = (64 * GRID.voxel_volume_mm3 / 1000, 32 * GRID.voxel_volume_mm3 / 1000)


def requests(first, second):
    told = {"output": first.root / "both", "viewer": False, "processes": 1}
    return [ReportRequest(results=run.results, truths=run.labels, **told) for run in (first, second)]


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Run `paper` finds all of a tumor of 4 × 4 × 4 voxels, run `mine` half of it."""
    root = tmp_path_factory.mktemp("compared")
    paper, mine = DrawnRun(root, "paper"), DrawnRun(root, "mine", replace(SPEC, roi=replace(SPEC.roi, margin_mm=9.0)))
    for case in ("a", "b", "c"):
        paper.write(case, found=(IN_LEFT,), agreeing=8)
        mine.write(case, found=(IN_LEFT,), agreeing=8, thinner=2 if case == "b" else 0)
    paper.write("only_paper", found=(IN_RIGHT,)).finish()
    mine.finish(failed={"<b>only mine</b>": "no CT"})
    return root, make_comparison(*requests(paper, mine)), (root / "both/index.html").read_text()


def test_the_paired_difference_is_the_second_less_the_first_over_the_cases_of_both(compared):
    _, _, index = compared
    (row,) = re.findall(r"<td title=\"volume of the prediction\">.*?</tr>", index)
    cells = re.findall(r"<td class=\"number\">(.*?)</td>", row)
    assert cells[:2] == ["3", "0"]
    assert cells[2].startswith(f"{(SECOND_ML - FIRST_ML) / 3:.2f}".replace("-", "−"))
    assert cells[3:6] == ["0.00", "0", "1"]
    assert "Dice" in index


def test_each_case_has_both_values_and_its_difference_the_largest_first(compared):
    _, _, index = compared
    table = index.split('id="cases"')[1]
    assert re.findall(r'href="cases/([^"/]+)/', table)[:3] == ["b", "a", "c"]
    keys = re.findall(r'data-sort="([^"]*)"', table.split('href="cases/b/')[1].split("</tr>")[0])
    assert [float(key) for key in keys[:3]] == [FIRST_ML, SECOND_ML, SECOND_ML - FIRST_ML]


def test_cases_of_one_run_alone_are_shown_as_such_and_count_nowhere(compared):
    root, made, index = compared
    assert made.cases == 5
    assert 'data-status="A"' in index
    assert 'data-status="B"' in index
    assert "&lt;b&gt;only mine&lt;/b&gt;" in index
    assert made.problems == ("mine: <b>only mine</b>: no CT",)
    assert "This run has no such case" in (root / "both/cases/only_paper/index.html").read_text()


def test_settings_that_differ_are_listed_and_no_others(compared):
    _, _, index = compared
    table = index.split('aria-label="Settings that differ"')[1].split("</table>")[0]
    assert re.findall(r"<tr><td><code>(.*?)</code></td><td>(.*?)</td><td>(.*?)</td>", table) == [
        ("roi.margin_mm", "16", "9")
    ]


def test_the_page_of_a_case_has_both_figures_and_both_verdicts(compared):
    root, _, _ = compared
    page = (root / "both/cases/b/index.html").read_text()
    for side in ("A", "B"):
        assert f'src="{side}/figure.png"' in page
        assert (root / f"both/cases/b/{side}/figure.png").is_file()
    assert page.count("✓ kept") == 2


def test_two_measures_of_uncertainty_and_what_is_not_known_of_one_run_are_not_subtracted(tmp_path):
    first, second = (DrawnRun(tmp_path, name).write("a").write("b") for name in ("one", "two"))
    for case in ("a", "b"):
        measured = {**second.record(case)["uncertainty"], "measure": "mutual_information"}
        second.change(case, uncertainty=measured)
    second.change("a", tumor={"volume_ml": None})
    make_comparison(*requests(first.finish(), second.finish()))
    index = (tmp_path / "both/index.html").read_text()
    assert "variance in tumor" not in index
    assert "mutual information in tumor" not in index
    page = (tmp_path / "both/cases/a/index.html").read_text()
    (row,) = re.findall(r"<td title=\"volume of the prediction\">.*?</tr>", page)
    assert re.findall(r"<td class=\"number\">(.*?)</td>", row)[1:] == ["–", "–"]


def test_a_run_is_not_compared_with_itself_and_runs_of_one_name_are_called_a_and_b(tmp_path):
    run = DrawnRun(tmp_path).write("a").finish()
    with pytest.raises(SettingsError, match="same folder"):
        make_comparison(*requests(run, run))
    shutil.copytree(run.results, tmp_path / "copy" / "run")
    other = DrawnRun(tmp_path)
    other.results = tmp_path / "copy" / "run"
    made = make_comparison(*requests(run, other.finish(left=1)))
    assert [problem.split(":")[0] for problem in made.problems] == ["B"]
