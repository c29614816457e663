"""Pages of a run: what they show, that they show it as text, and that a report appears whole or not at all."""

import json
import math
import os
import re
import shutil
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from builders.drawn_runs import DrawnRun
from builders.dying_report_workers import die_over_a

from nnunet_cascade.errors import ReportError, RunError, SettingsError
from nnunet_cascade.evaluation.case import score_case
from nnunet_cascade.geometry import Grid
from nnunet_cascade.images import read_volume, write_image
from nnunet_cascade.report import case_assets, collect
from nnunet_cascade.report.build import make_report
from nnunet_cascade.report.collect import ReportRequest
from nnunet_cascade.report.pages.histogram import histogram
from nnunet_cascade.report.pages.wording import number, percent, size
from nnunet_cascade.report.reading.dicom_state import dicom_states
from nnunet_cascade.report.reading.run_folder import read_run
from nnunet_cascade.report.report_folder import MARK, atomic_report
from nnunet_cascade.report.viewing import niivue
from nnunet_cascade.versions import NOTICE

EVIL = "<script>alert(1)</script>"
EVIL_NAME = "x'\"><img src=y onerror=alert(1)>&amp;"


class Page(HTMLParser):
    """A page's text, links, elements, and what of it would run."""

    def __init__(self, path):
        super().__init__()
        self.path, self.text, self.links, self.tags, self.attributes = path, "", [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        values = dict(attrs)
        if tag == "script" and "src" not in values and values.get("type") != "application/json":
            self.attributes.append("inline script")
        self.links += [values[name] for name in ("href", "src") if name in values]

    def handle_data(self, data):
        if self.cdata_elem != "script":
            self.text += f"{data} "


def pages(folder):
    return {str(path.relative_to(folder)): Page(path) for path in sorted(folder.rglob("*.html"))}


def report(run, **changed):
    told = {"results": run.results, "output": run.root / "report", "viewer": False, "processes": 1, **changed}
    return make_report(ReportRequest(**told))


def page_of(run, case):
    return Page(run.root / f"report/cases/{case}/index.html")


@pytest.fixture
def run(tmp_path):
    """A run with a case."""
    return DrawnRun(tmp_path).write("a").finish()


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A run with everything, and its report with metrics, DICOM exports and a viewer whose library is empty."""
    run = DrawnRun(tmp_path_factory.mktemp("reported"))
    run.write("sure", agreeing=8, thinner=1).write("doubtful", found=(), sampled=False).write("spread", agreeing=5)
    run.finish(failed={"bad": "/data/Jane Doe/bad_0000.nii.gz holds values that are NaN"})
    (run.labels / "spread.nii.gz").unlink()
    exported = {"sure": {"files": ["dicom/sure/seg.dcm"]}, "spread": {"error": "/x/Doe/1.dcm is cut"}}
    (run.results / "dicom_export.json").write_text(json.dumps({"cases": exported}))
    (run.results / "dicom/sure").mkdir(parents=True)
    (run.results / "dicom/sure/seg.dcm").touch()
    lesions = [{"segment": 1, "lesions": 1, "long_axis_mm": 23.456}]
    (run.results / "dicom/sure/summary.json").write_text(json.dumps({"lesions": lesions}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(niivue, "place_niivue", lambda assets, _: (assets / "lib.js").write_text("") or "lib.js")
        made = report(run, truths=run.labels, viewer=True)
    return run, made, pages(run.root / "report")


def test_the_table_has_the_most_doubtful_case_first_and_each_page_leads_to_the_next(reported):
    _, _, shown = reported
    index = shown["index.html"]
    table = index.path.read_text().split('id="cases"')[1]
    assert re.findall(r'href="cases/(\w+)/', table) == ["bad", "doubtful", "spread", "sure"]
    assert [link for link in shown["cases/doubtful/index.html"].links if link.startswith("../") and "assets" not in link
            ] == ["../../index.html", "../bad/index.html", "../spread/index.html"]  # fmt: skip


def test_volumes_verdicts_flags_metrics_and_the_notice_are_on_the_pages(reported):
    run, _, shown = reported
    page, record = shown["cases/sure/index.html"].text, run.record("sure")
    assert f"{record['tumor']['volume_ml']:.2f} ml" in page
    for candidate in record["candidates"]:
        assert candidate["verdict"]["reason"] in page
    assert "Dice" in page
    assert "HD95" in page
    assert "Dice" not in shown["cases/spread/index.html"].text
    assert re.search(r"Flags\s+None\.", page)
    assert "the final mask is empty" in shown["cases/doubtful/index.html"].text
    assert all(NOTICE in page.text for page in shown.values())
    scores = re.findall(r"Dice ↑</td><td class=\"number\">(\d+)</td>", shown["index.html"].path.read_text())
    assert scores == ["2"]


def test_metrics_are_those_of_the_evaluation(reported):
    run, _, shown = reported
    truth, found = (read_volume(folder / "sure.nii.gz") for folder in (run.labels, run.results))
    score = score_case("sure", truth.array > 0, found.array > 0, truth.grid.spacing_mm)
    assert 0 < score.dice < 1
    cell = f'data-sort="{score.dice:.8g}">{score.dice:.3f}</td>'
    assert cell in shown["index.html"].path.read_text()


def test_a_figure_has_words_for_those_who_do_not_see_it_and_volumes_for_the_viewer_lie_beside_it(reported):
    run, _, shown = reported
    page = shown["cases/sure/index.html"]
    assert {f"{name}.nii.gz" for name in ("ct", "tumor", "lungs", "stage1", "uncertainty", "truth")} <= {*page.links}
    assert "viewer-data" in page.path.read_text()
    assert (run.root / "report/cases/sure/figure.png").read_bytes().startswith(b"\x89PNG")
    assert re.search(r'<img src="figure.png" alt="CT slices of case sure, [^"]+ ml\."', page.path.read_text())
    assert "img" not in shown["cases/bad/index.html"].tags


def test_problems_are_on_the_pages_and_in_what_is_returned_without_paths(reported):
    _, made, shown = reported
    assert made.problems == ("bad: [path] holds values that are NaN",)
    for page in ("index.html", "cases/bad/index.html"):
        assert "[path] holds values that are NaN" in shown[page].text
    assert "Doe" not in "".join(page.path.read_text() for page in shown.values())


def test_nothing_is_loaded_from_elsewhere_and_nothing_runs_that_stands_in_a_page(reported):
    run, _, shown = reported
    for page in shown.values():
        assert "style" not in page.tags
        assert not {name for name in page.attributes if name.startswith("on") or name in {"style", "inline script"}}
        for link in page.links:
            parts = urlsplit(link)
            assert not parts.scheme
            assert not parts.netloc
            target = (page.path.parent / unquote(parts.path)).resolve()
            assert target.is_file(), link
            assert target.is_relative_to(run.root / "report")


def test_a_dicom_export_is_told_with_its_diameters(reported, run):
    first, second = (reported[2][f"cases/{case}/index.html"].text for case in ("sure", "spread"))
    assert "seg.dcm" in first
    assert "23.5" in first
    assert "[path] is cut" in second
    (run.results / "dicom_export.json").write_text('{"cases": {"a": {"files": ["dicom/a/gone.dcm"]}}}')
    assert "export it again" in dicom_states(run.results)[0]["a"].error


def test_heads_are_buttons_and_say_how_the_table_is_sorted(reported):
    _, _, shown = reported
    table = shown["index.html"].path.read_text().split('id="cases"')[1].split("</thead>")[0]
    heads = re.findall(r"<th scope=\"col\".*?</th>", table)
    assert len(heads) > 12
    assert all("<button" in head and "aria-sort=" in head for head in heads)
    (sorted_by,) = [head for head in heads if 'aria-sort="descending"' in head]
    assert "Review priority" in sorted_by


def test_names_reasons_and_flags_that_hold_markup_or_lead_elsewhere_are_shown_as_text(run, tmp_path):
    candidates = run.record("a")["candidates"]
    candidates[0]["verdict"] |= {"reason": EVIL, "rule": EVIL}
    changed = {"candidates": candidates, "lungs": {"source": EVIL, "volume_ml": 2}, "files": {"y" * 300: 1}}
    run.change("a", flags=[EVIL], notes=[EVIL], **changed)
    (tmp_path / "other").mkdir()
    for path in run.results.glob("a*.nii.gz"):
        shutil.copy(path, tmp_path / "other" / path.name)
    names = (EVIL_NAME, "../../outside", "../other/a", "..", "a b#?%2e", "x" * 300)
    run.finish(failed=dict.fromkeys(names, EVIL))
    report(run)
    shown = pages(tmp_path / "report")
    assert len(shown) == 2 + len(names)
    for page in shown.values():
        assert page.tags.count("script") == 1
        assert "onerror" not in page.attributes
        assert "img" not in page.tags or "alt" in page.attributes
    assert EVIL in shown["cases/a/index.html"].text
    assert EVIL_NAME in shown["index.html"].text
    assert all(link.startswith(("cases/", "assets/")) and ".." not in link for link in shown["index.html"].links)
    assert [path.parent.name for path in (tmp_path / "report").rglob("figure.png")] == ["a"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "labels", "other", "report", "run"]


def test_nobody_is_named_by_keys_that_are_not_known_or_by_where_a_ct_lay(run, tmp_path):
    person = {"PatientName": "Doe^Jane", "PatientBirthDate": "19500131"}
    record = run.record("a")
    for name in ("tumor", "versions"):
        record[name] |= person
    record["settings"]["lungs"]["path"] = "/x/Doe^Jane"
    record["settings"]["patient"] = person
    record["varying"]["image"] = {"path": "/data/Doe^Jane 19500131", "series_uid": ""}
    run.change(**record, **person)
    run.finish(command=["-i", "/data/Doe^Jane 19500131"], failed={"b": "/data/Doe^Jane 19500131/b.nii.gz is empty"})
    made = report(run)
    everything = [*made.problems, *(page.path.read_text() for page in pages(tmp_path / "report").values())]
    assert not [text for text in everything if re.search("Doe|19500131", text)]
    assert not [path for path in (tmp_path / "report").rglob("*") if re.search("Doe|1950", str(path))]


def test_a_ct_that_is_gone_costs_nothing_but_itself(run, tmp_path):
    moved = run.images.rename(tmp_path / "elsewhere")
    made = report(run)
    assert [line.split(":")[0] for line in made.problems] == ["a"]
    assert "--images" in made.problems[0]
    assert "--images" in page_of(run, "a").text
    assert report(run, images=moved).problems == ()


def test_masks_alone_are_measured_and_shown_with_what_is_missing(run):
    """Also one of a single row, of which nothing can be drawn."""
    record = run.record("a")
    for path in run.results.iterdir():
        if path.name != "a.nii.gz":
            path.unlink()
    row = np.array([[[1, 0, 0, 1, 0, 1, 0, 1, 1]]], dtype=np.uint8)
    write_image(row, Grid(shape=(1, 1, 9), spacing_mm=(2.0, 1.0, 1.0)), run.results / "thin.nii.gz")
    made = report(run, images=run.images)
    assert [line for line in made.problems if line.startswith("a: ")] == ["a: there is no record beside its mask"]
    assert "cut off" not in " ".join(made.problems)
    page = page_of(run, "a").text
    assert f"{record['tumor']['volume_ml']:.2f} ml" in page
    assert "Nothing is known of them" in page
    assert "0.01 ml" in page_of(run, "thin").text


def test_a_case_whose_figure_or_true_label_fails_says_so_and_the_others_are_shown(tmp_path):
    run = DrawnRun(tmp_path).write("a").write("b").finish()
    for path in (run.labels / "a.nii.gz", run.results / "b.nii.gz", run.results / "c.nii.gz"):
        path.write_bytes(b"nothing")
    made = report(run, truths=run.labels)
    assert {line.split(":")[0] for line in made.problems} == {"a", "b", "c"}
    first = [link for link in Page(tmp_path / "report/index.html").links if link.startswith("cases/")][-3]
    assert first == "cases/c/index.html"  # without a usable result
    assert "true labels" in " ".join(made.problems)
    assert "another size" in page_of(run, "b").text


def test_two_reports_are_not_made_in_the_same_place_at_once(tmp_path):
    with atomic_report(tmp_path / "report") as folder:
        (folder / "index.html").write_text("first")
        with pytest.raises(RunError, match="another process is writing"), atomic_report(tmp_path / "report"):
            pass
    assert (tmp_path / "report/index.html").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_a_folder_that_is_no_report_is_not_touched(run, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter1.tex").write_text("dear")
    for output in (tmp_path / "thesis", run.results, tmp_path / "thesis/chapter1.tex"):
        with pytest.raises(SettingsError, match="-o"):
            report(run, output=output)
    assert (tmp_path / "thesis/chapter1.tex").read_text() == "dear"
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter1.tex"]


def test_an_error_or_a_kill_in_the_making_leaves_the_old_report_and_the_next_one_replaces_it_whole(tmp_path):
    output = tmp_path / "report"
    with atomic_report(output) as folder:
        (folder / "index.html").write_text("old")
    with pytest.raises(KeyError), atomic_report(output) as folder:
        (folder / "index.html").write_text({}["half"])
    assert (output / "index.html").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
    (output / "cases").mkdir()
    for left in (".123.0123abcd.report", ".123.0123abcd.report.old"):  # of processes that were killed
        (tmp_path / left).mkdir()
        (tmp_path / left / MARK).write_text("{}")
    with atomic_report(output) as folder:
        (folder / "index.html").write_text("new")
    assert (output / "index.html").read_text() == "new"
    assert sorted(path.name for path in output.iterdir()) == ["index.html", MARK]
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the system's administrator may write everywhere")
def test_a_place_that_cannot_be_written_is_said_in_one_line(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ReportError, match="cannot be written"), atomic_report(tmp_path / "report"):
        pass
    tmp_path.chmod(0o700)


def test_without_the_library_pages_say_why_there_is_no_viewer(run, tmp_path, monkeypatch):
    def fail(*_):
        raise ReportError("the registry is out of reach")

    monkeypatch.setattr(niivue, "place_niivue", fail)
    made = report(run, viewer=True)
    assert made.problems == ()
    assert "out of reach" in made.notices[0]
    assert "out of reach" in page_of(run, "a").text
    with pytest.raises(ReportError):
        report(run, viewer=True, niivue=tmp_path / "given.js")


@pytest.mark.long
def test_a_killed_process_costs_its_own_case(tmp_path, monkeypatch):
    run = DrawnRun(tmp_path).write("a").write("b").finish()
    asked = ReportRequest(results=run.results, output=tmp_path / "report", viewer=False)
    jobs = collect._jobs(read_run(run.results), asked, {case: tmp_path / "places" / case for case in ("a", "b")})
    for job in jobs:
        job.into.mkdir(parents=True)
    monkeypatch.setattr(case_assets, "make_case", die_over_a)
    made = {done.case: done for done in case_assets.make_case_assets(jobs, 2)}
    assert "killed" in made["a"].problems[0]
    assert made["b"].figure


def test_a_histogram_counts_every_case_once_and_needs_some():
    drawn = histogram("volume", [*range(10), None], unit="ml")
    assert sum(int(re.search(r": (\d+) case", bar.title)[1]) for bar in drawn.bars) == drawn.cases == 10
    assert all(bar.y >= 0 and bar.y + bar.height <= drawn.height for bar in drawn.bars)
    few, far, same = [1.0, 2.0, None, 3.0, 4.0], [1e308, -1e308] * 3, [1.0, 1.0 + 2**-52] * 3
    for values in ([], few, far, same, [1.0] * 9, [0.0] * 6):
        assert histogram("volume", values) is None


def test_numbers_that_are_not_known_are_dashes():
    assert [number(None), number(math.nan), percent(None), size(None)] == ["–"] * 4
    assert [number(-1.234), number(1.2, signed=True), number(-0.001), percent(0.5), size(3 << 20)] == [
        "−1.23", "+1.20", "0.00", "50 %", "3.0 MiB"
    ]  # fmt: skip
