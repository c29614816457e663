"""Results and a bundle that were written before records had a version are read by all that reads results."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from builders.dicom_results import scan_of
from builders.drawn_chests import GRID, chest_ct

from nnunet_cascade.bundles.bundle import load_cascade
from nnunet_cascade.case_folders.case_record import CaseRecord, read_record
from nnunet_cascade.case_folders.records import CaseFingerprint, read_finished
from nnunet_cascade.dicom_export.export import ExportRequest, export_folder
from nnunet_cascade.flags import Flag
from nnunet_cascade.prediction.spec import CascadeSpec
from nnunet_cascade.report.build import make_report
from nnunet_cascade.report.collect import ReportRequest
from nnunet_cascade.report.reading.run_folder import read_run
from nnunet_cascade.scans.recorded import recorded_scan
from nnunet_cascade.workflows.calibration import CalibrationRequest, find_results, measure_results
from nnunet_cascade.workflows.evaluation import recorded_uncertainty

EARLIER = Path(__file__).parents[1] / "data" / "before_versions"


@pytest.fixture
def earlier(tmp_path):
    """A copy whose records name its own CTs."""
    shutil.copytree(EARLIER, tmp_path, dirs_exist_ok=True)
    for path in (tmp_path / "run").glob("*.json"):
        path.write_text(path.read_text().replace("/data/old", str(tmp_path)))
    return tmp_path


def test_old_words_became_new_ones(earlier):
    flagged, plain = (read_record(earlier / "run" / f"{case}.json") for case in ("b", "a"))
    assert (flagged.version, plain.flags) == (0, ())
    assert flagged.flags == flagged.lungs.flags == (Flag.LUNGS_MISPLACED,)
    assert plain.uncertainty.total_samples == plain.uncertainty.mc_samples == 8
    assert plain.grid == GRID
    assert recorded_scan(plain).path.is_file()


def test_a_report_shows_them(earlier):
    run = read_run(earlier / "run")
    assert [(row.case, row.status, row.flags) for row in run.rows] == [
        ("a", "done", ()),
        ("b", "done", ("lungs_misplaced",)),
    ]
    assert [row.problems for row in run.rows] == [(), ()]
    assert run.rows[0].uncertainty.total_samples == 8
    made = make_report(ReportRequest(results=earlier / "run", output=earlier / "report", viewer=False, processes=1))
    assert (made.cases, made.problems) == (2, ())
    assert "the lung mask does not match the scan" in (earlier / "report" / "cases" / "b" / "index.html").read_text()


def test_they_are_exported_as_dicom(earlier):
    pytest.importorskip("highdicom")
    scan = scan_of(earlier / "ct", GRID)
    (outcome,) = export_folder(ExportRequest(results=earlier / "run"), {"b": scan})
    assert outcome.error == ""
    assert json.loads((earlier / "run" / "dicom" / "b" / "summary.json").read_text())["flags"] == ["lungs_misplaced"]


def test_they_are_evaluated_and_calibrated(earlier):
    assert recorded_uncertainty(earlier / "run" / "a.json")["mean_variance_in_tumor"] > 0
    request = CalibrationRequest(bundle=earlier, results=earlier / "run", truths=earlier / "labels")
    found = find_results(earlier / "run")
    assert [files.temperature for files in found] == [1.0, 1.0]
    assert [case.error for case in measure_results(found, request)] == ["", ""]


def test_they_are_not_predicted_again(earlier):
    content = json.loads((earlier / "run" / "a.json").read_text())
    spec = CascadeSpec.from_json(content["settings"], where="a.json")
    assert (spec.anatomy.top_k, spec.roi.max_candidates, spec.scoring) == (1, None, None)
    made_from = CaseFingerprint(settings=spec.to_json())
    assert read_finished(earlier / "run", "a", made_from) == CaseRecord.from_json(content)


def test_a_bundle_is_loaded(tmp_path):
    with zipfile.ZipFile(EARLIER / "bundle.zip") as packed:
        packed.extractall(tmp_path)
    loaded = load_cascade(tmp_path, device=torch.device("cpu"))
    found = loaded.stage1.predict_everywhere(loaded.stage1.prepare_coarse(chest_ct(), GRID.spacing_mm))
    assert np.isfinite(found.mask).all()
