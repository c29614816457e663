"""The CT that a case was predicted from, by what its record tells of it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from nnunet_cascade.case_folders.case_record import CaseRecord
from nnunet_cascade.errors import DicomError
from nnunet_cascade.scans.scans import READING, Scan, hash_of_folder


def recorded_scan(record: CaseRecord) -> Scan | None:
    """Return the CT that a case was predicted from; None if the record does not tell.

    The file may be gone since. The slices of a series are searched in the folders that they lay in. If these have
    other names, they are searched everywhere below the folder that they were found in.
    """
    image = record.varying.image
    if image is None or not image.path:
        return None
    path, uid = Path(image.path), image.series_uid
    slices = _slices_of(path, uid, frozenset(image.folders or ())) if uid else ()
    return Scan(case=record.case, path=path, series_uid=uid, slices=slices)


@lru_cache(maxsize=8)
def _slices_of(root: Path, series_uid: str, hashes: frozenset[str]) -> tuple[Path, ...]:
    """Find the files of a series; none where its folder is gone."""
    below = (Path(folder) for folder, _, _ in os.walk(root))
    known = [folder for folder in below if hash_of_folder(folder, root) in hashes]
    return _files_of(known, series_uid, bar=False) or _files_of([root], series_uid, bar=True)


def _files_of(folders: Iterable[Path], series_uid: str, *, bar: bool) -> tuple[Path, ...]:
    from nnunet_cascade.dicom.folder import index_folder  # noqa: PLC0415 - for DICOM alone

    found: dict[str, Path] = {}
    for folder in folders:
        try:
            with READING:
                patients = index_folder(folder, bar=bar).patients
        except DicomError:
            continue
        headers = (header for patient in patients for header in patient.headers)
        found.update({header.sop_uid: header.path for header in headers if header.series_uid == series_uid})
    return tuple(found.values())
