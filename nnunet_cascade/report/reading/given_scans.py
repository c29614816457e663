"""The CTs of a run, where a user says they are."""

from __future__ import annotations

from pathlib import Path

from nnunet_cascade.report.reading.run_folder import RunFolder
from nnunet_cascade.scans.scans import Scan
from nnunet_cascade.scans.search import find_scans


def given_scans(images: Path, run: RunFolder) -> dict[str, Scan]:
    """Find the CTs of a run in a folder: by name, DICOM series by the UID of the record too.

    Raises:
        InputImageError, DicomError: There is none at all.
    """
    found = find_scans(images)
    by_uid = {scan.series_uid: scan for scan in found.values() if scan.is_dicom}
    images_of = {case: record.varying.image for case, record in run.records.items()}
    uids = {case: image.series_uid for case, image in images_of.items() if image is not None}
    named = {row.case: found.get(row.case) or by_uid.get(uids.get(row.case, "")) for row in run.rows}
    return {case: scan for case, scan in named.items() if scan is not None}
