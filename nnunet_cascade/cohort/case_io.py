"""The files of one case: read before its prediction, and written after it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nnunet_cascade.cohort.jobs import CaseFiles, CohortJob
from nnunet_cascade.files import InputChecksums
from nnunet_cascade.images import read_labels
from nnunet_cascade.prediction.case import PrecomputedInputs
from nnunet_cascade.prediction.outputs import write_case
from nnunet_cascade.prediction.result import CaseResult
from nnunet_cascade.scans.scans import LoadedScan, Scan


def read_case(files: CaseFiles) -> tuple[LoadedScan, PrecomputedInputs]:
    """Read the CT of a case, and the mask to take instead of stage 1 if there is one.

    Raises:
        InputImageError, DicomError: The CT or the mask cannot be read.
        GridMismatchError: The mask lies on another grid.
    """
    scan, given = files.scan.load(), PrecomputedInputs(case=files.case)
    if files.stage1_mask is None:
        return scan, given
    return scan, replace(given, stage1=read_labels(files.stage1_mask, scan.volume.grid, what="stage-1 mask") > 0)


def run_facts(scan: Scan | None, device: str, threads: int) -> dict[str, Any]:
    """Return what a record tells of this very run, once its case is predicted; without a scan no place of the CT."""
    told = {"device": device, "threads": threads, "predicted_at": time.strftime("%FT%TZ", time.gmtime())}
    return told if scan is None else {**told, "image": scan.to_json()}


def write_result(
    result: CaseResult, case: str, job: CohortJob, checksums: InputChecksums | None, *, varying: Mapping[str, Any]
) -> None:
    """Write the maps and the record of a case; there are no checksums of what was in memory.

    Raises:
        InputImageError, OSError: A file cannot be written.
    """
    made_from = job.made_from(checksums)
    write_case(result, job.output, case, spec=job.spec, notes=job.notes, made_from=made_from, varying=varying)
