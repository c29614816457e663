"""Results as DICOM while a run goes on: each case in a process beside it, as soon as it is done."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any

from tqdm import tqdm

from nnunet_cascade.case_folders.case_record import read_record
from nnunet_cascade.case_folders.records import record_path
from nnunet_cascade.dicom_export.export import ExportRequest, export_case, export_folder
from nnunet_cascade.processes import interrupts_ignored, worker_pool
from nnunet_cascade.scans.scans import Scan

_log = logging.getLogger(__name__)


class DicomExports:
    """Exports the cases of a run.

    The process beside the run, which may end before it should, does what it can. When all cases are through,
    those that are not exported yet, of an earlier run too, are done, and what fails then is told.
    """

    def __init__(self, request: ExportRequest) -> None:
        self.failed: dict[str, str] = {}
        """Why cases could not be exported, known when the run is through."""
        self._request = replace(request, existing="skip", processes=2)
        self._pool: ProcessPoolExecutor | None = None

    def begin(self, scan: Scan) -> None:
        """Have a case exported whose record is there; it waits for those before it."""
        with interrupts_ignored(), suppress(BrokenProcessPool):
            self._pool = self._pool or worker_pool(1, preload=export_case.__module__)
            self._pool.submit(_export, self._request, scan)

    def finish(self, scans: Mapping[str, Scan]) -> None:
        """Wait for the cases under way, and do what is left of these."""
        if self._pool is not None:
            self._pool.shutdown()
        with closing(tqdm(export_folder(self._request, scans), total=len(scans), desc="DICOM", unit="case")) as bar:
            for outcome in bar:
                if outcome.status == "failed":
                    self.failed[outcome.case] = outcome.error
                    _log.error("%s is not exported as DICOM: %s", outcome.case, outcome.error)

    def close(self) -> None:
        """End the process when it is through with its case."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def to_json(self) -> dict[str, Any]:
        """Return what `run.json` tells of it."""
        return {"kinds": list(self._request.kinds), "failed": dict(sorted(self.failed.items()))}


def _export(request: ExportRequest, scan: Scan) -> None:
    """Export a case; an error is nobody's to hear, for `finish` meets it again."""
    record = read_record(record_path(request.results, scan.case))
    export_case(request, scan.case, record, scan)
