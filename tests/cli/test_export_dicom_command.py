"""`nnc-export-dicom`: which series a case belongs to, exit codes, and one line for each case that fails."""

import json

import pytest
from builders.dicom_results import GRID, scan_of, write_results

from nnunet_cascade.cli import export_dicom
from nnunet_cascade.cli.options import DICOM_KINDS
from nnunet_cascade.dicom_export.provenance import KINDS


@pytest.fixture
def run(tmp_path, capsys):
    """Run the command on the results; gives exit code, output and the lines of errors."""

    def call(*options, results="results"):
        code = export_dicom.main(["-i", str(tmp_path / results), *map(str, options)])
        told = capsys.readouterr()
        lines = [line.strip() for line in told.err.replace("\r", "\n").splitlines()]
        bars = ("export:", "headers:", "series:")
        return code, told.out, [line for line in lines if line and not line.startswith(bars)]

    return call


def written(tmp_path):
    folder = tmp_path / "results" / "dicom"
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_cases_predicted_from_dicom_need_no_series(tmp_path, run):
    scan = scan_of(tmp_path / "ct")
    write_results(tmp_path / "results", "case", scan=scan)
    code, out, errors = run("--kinds", "seg", "rtstruct")
    assert (code, errors) == (0, [])
    assert "1 of 1 cases exported" in out
    assert written(tmp_path) == ["case/rtstruct.dcm", "case/seg.dcm"]


def test_cases_predicted_from_image_files_are_matched_by_where_they_lie(tmp_path, run):
    scan_of(tmp_path / "ct", name="case")
    write_results(tmp_path / "results", "case")
    assert run("--series", tmp_path / "ct", "-o", tmp_path / "out", "--kinds", "report")[0] == 0
    names = sorted(path.name for path in (tmp_path / "out" / "case").iterdir())
    assert names == ["report.dcm", "seg.dcm", "summary.json"]
    story = json.loads((tmp_path / "out" / "dicom_export.json").read_text())
    assert story["cases"]["case"]["files"] == ["case/seg.dcm", "case/report.dcm", "case/summary.json"]


def test_a_case_without_its_series_costs_one_case_and_one_line(tmp_path, run):
    scan = scan_of(tmp_path / "ct")
    gone = scan_of(tmp_path / "gone", name="other")
    write_results(tmp_path / "results", "a", scan=scan)
    write_results(tmp_path / "results", "b", scan=gone)
    write_results(tmp_path / "results", "c")
    write_results(tmp_path / "results", "d", scan=scan)
    (tmp_path / "results" / "d.json").unlink()
    for path in gone.slices:
        path.unlink()
    code, out, errors = run("--kinds", "seg")
    assert code == 1
    assert "1 of 4 cases exported" in out
    assert [line.split(":")[0] for line in errors] == ["b", "c", "d"]
    assert f"series {gone.series_uid}, is there any more" in errors[0]
    assert "--series" in errors[1]
    assert "half done" in errors[2]
    assert written(tmp_path) == ["a/seg.dcm"]


def test_maps_that_lie_on_no_series_are_named_and_the_others_exported(tmp_path, run):
    scan_of(tmp_path / "ct", name="a")
    write_results(tmp_path / "results", "a")
    write_results(tmp_path / "results", "b")
    record = json.loads((tmp_path / "results" / "b.json").read_text())
    record["grid"]["spacing_mm"] = [3.0, 1.0, 1.0]
    (tmp_path / "results" / "b.json").write_text(json.dumps(record))
    code, _, errors = run("--series", tmp_path / "ct", "--kinds", "seg")
    assert (code, len(errors)) == (1, 1)
    assert errors[0].startswith("b: its maps lie on the slices of none of 1 series")
    story = json.loads((tmp_path / "results" / "dicom_export.json").read_text())
    assert {case: told["status"] for case, told in story["cases"].items()} == {"a": "done", "b": "failed"}


def test_what_is_there_is_not_touched_unless_asked_for(tmp_path, run):
    write_results(tmp_path / "results", "case", scan=scan_of(tmp_path / "ct"))
    assert run("--kinds", "seg")[0] == 0
    code, _, errors = run("--kinds", "seg")
    assert code == 1
    assert "give --overwrite or --c" in errors[0]
    assert run("--kinds", "seg", "--c")[0] == 0
    assert run("--kinds", "seg", "--overwrite")[0] == 0


def test_wrong_usage_ends_with_2_and_a_folder_without_cases_with_1(tmp_path, run):
    assert run(results="nowhere")[0] == 2
    (tmp_path / "results").mkdir()
    code, _, errors = run()
    assert (code, "holds no case" in errors[0]) == (1, True)
    write_results(tmp_path / "results", "case", GRID)
    code, _, errors = run("--cases", "nobody")
    assert (code, "holds no case nobody" in errors[-1]) == (2, True)


def test_the_command_offers_every_kind_of_object():
    assert DICOM_KINDS == KINDS
