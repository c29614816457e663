"""DICOM of cases beside a run, in a process that may end before it should."""

import os
import signal

import pytest
from builders.dicom_results import scan_of, write_results

from nnunet_cascade.cohort import dicom_exports
from nnunet_cascade.cohort.dicom_exports import DicomExports
from nnunet_cascade.dicom_export.export import ExportRequest

pytest.importorskip("highdicom")
# highdicom and pydicom warn about what they read and write.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def scan(tmp_path):
    scan = scan_of(tmp_path / "ct", name="a")
    write_results(tmp_path / "out", "a", scan=scan)
    return scan


@pytest.fixture
def exports(tmp_path):
    made = DicomExports(ExportRequest(results=tmp_path / "out", kinds=("seg",)))
    yield made
    made.close()


def seg(tmp_path):
    return tmp_path / "out" / "dicom" / "a" / "seg.dcm"


def test_a_case_that_was_begun_is_there_at_the_end_and_is_not_done_twice(exports, scan, tmp_path):
    exports.begin(scan)
    exports.finish({})
    before = seg(tmp_path).stat().st_mtime_ns
    exports.finish({"a": scan})
    assert exports.failed == {}
    assert seg(tmp_path).stat().st_mtime_ns == before


def test_a_process_that_was_killed_costs_nothing(exports, scan, tmp_path):
    exports.begin(scan)
    for process in list(exports._pool._processes.values()):
        os.kill(process.pid, signal.SIGKILL)
    for _ in range(3):
        exports.begin(scan)
    exports.finish({"a": scan})
    assert exports.failed == {}
    assert seg(tmp_path).is_file()


def test_what_fails_is_told_at_the_end(exports, scan, tmp_path, caplog):
    (tmp_path / "out" / "a.nii.gz").write_bytes(b"")
    exports.begin(scan)
    exports.finish({"a": scan})
    assert "a.nii.gz is 0 bytes long" in exports.failed["a"]
    assert exports.to_json() == {"kinds": ["seg"], "failed": exports.failed}
    assert "a is not exported as DICOM" in caplog.text


def test_nothing_is_started_for_a_run_without_cases(exports, monkeypatch):
    monkeypatch.setattr(dicom_exports, "worker_pool", None)
    exports.finish({})
    exports.close()
    assert exports.failed == {}
