"""One case of an nnU-Net raw dataset: image and labels, whole or not at all, and its record last."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from nnunet_cascade.dataset_conversion.patient import Converted, convert_patient
from nnunet_cascade.dataset_conversion.record import Record, describe
from nnunet_cascade.dataset_conversion.settings import ConversionSettings
from nnunet_cascade.dicom.folder import DicomPatient
from nnunet_cascade.dicom.headers import reason_of
from nnunet_cascade.errors import CascadeError, one_line
from nnunet_cascade.files import sweep_unfinished, write_json
from nnunet_cascade.images import ENDING, write_image

_log = logging.getLogger(__name__)
Split = Literal["Tr", "Ts"]
SPLITS: tuple[Split, Split] = ("Tr", "Ts")
RECORDS = "conversion"
CONVERTED, LEFT_OUT, UNFINISHED = "converted", "left_out", "unfinished"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionJob:
    """A patient to be converted.

    Attributes:
        case: Safe name of the case.
        group: Name shared by all cases of one person.
        patient: Whose files.
        settings: How.
        dataset: nnU-Net raw dataset folder.
        split: Tr to train on, Ts to test on.
    """

    case: str
    group: str
    patient: DicomPatient
    settings: ConversionSettings
    dataset: Path
    split: Split = "Tr"

    def fingerprint(self) -> str:
        """Return a hash of the settings, the split and the files, without their paths.

        Raises:
            OSError: A file is not there any more.
        """
        files = [(header.sop_uid, header.path.stat().st_size) for header in self.patient.headers]
        content = json.dumps([self.settings.decisive(), self.split, files], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def record(self, status: str, **content: Any) -> Record:
        """Begin a record of the case."""
        return {"case": self.case, "group": self.group, "split": self.split, "status": status, **content}


def case_files(dataset: Path, case: str, split: Split) -> tuple[Path, Path]:
    """Return the paths of image and labels."""
    return dataset / f"images{split}" / f"{case}_0000{ENDING}", dataset / f"labels{split}" / f"{case}{ENDING}"


def record_path(dataset: Path, case: str) -> Path:
    """Return the path of a case's record."""
    return dataset / RECORDS / f"{case}.json"


def convert_case(job: ConversionJob) -> Record:
    """Convert a patient and write the case; trouble becomes a record with the reason.

    What an earlier run made of the case is removed first: from other files, with other
    settings, or for the other split.
    """
    try:
        remove_case(job.dataset, job.case)
        fingerprint = job.fingerprint()
        converted = convert_patient(job.patient, job.settings)
        made_from = {"fingerprint": fingerprint, "package_version": version("nnunet-cascade")}
        record = job.record(CONVERTED, **made_from, **describe(converted))
        _write(job, converted, record)
    except Exception as error:  # noqa: BLE001 - whatever one patient does, the others go on
        return job.record(LEFT_OUT, reason=_reason(error, job))
    return record


def finished_record(job: ConversionJob) -> Record | None:
    """Return the record of an earlier run if the case is complete, from the same files and settings."""
    record = read_record(record_path(job.dataset, job.case))
    try:
        is_same = record.get("fingerprint") == job.fingerprint()
    except OSError:
        return None
    return record if is_same and is_complete(job.dataset, record) else None


def is_complete(dataset: Path, record: Record) -> bool:
    """Return whether a record is that of a converted case whose files are there."""
    if record.get("status") != CONVERTED or record.get("split") not in SPLITS:
        return False
    return all(path.is_file() for path in case_files(dataset, record["case"], record["split"]))


def remove_case(dataset: Path, case: str) -> None:
    """Remove image, labels and record; no image is ever without labels, no record goes before them.

    Raises:
        OSError: A file cannot be removed.
    """
    for split in SPLITS:
        for path in case_files(dataset, case, split):
            path.unlink(missing_ok=True)
    record_path(dataset, case).unlink(missing_ok=True)


def remove_unfinished(dataset: Path) -> None:
    """Remove what a run left behind that was killed; one run at a time works on a dataset.

    Raises:
        OSError: A file cannot be removed.
    """
    folders = (f"{kind}{split}" for kind in ("images", "labels") for split in SPLITS)
    for folder in (".", RECORDS, *folders):
        sweep_unfinished(dataset / folder, lambda name: name.endswith((".json", ENDING)))
    for path in (dataset / RECORDS).glob("*.json"):
        if read_record(path).get("status") == UNFINISHED:
            remove_case(dataset, path.stem)


def read_record(path: Path) -> Record:
    """Read a record; what is missing or broken gives an empty one."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write(job: ConversionJob, converted: Converted, record: Record) -> None:
    """Write labels, image and record, or none of them: nnU-Net refuses a dataset with one without the other."""
    image, labels = case_files(job.dataset, job.case, job.split)
    try:
        # Tells a run that goes on, should this one be killed, that the images are its own to remove.
        write_json(record_path(job.dataset, job.case), job.record(UNFINISHED))
        for array, path in ((converted.labels, labels), (converted.ct.voxels, image)):
            write_image(array, converted.ct.stack.grid, path)
        write_json(record_path(job.dataset, job.case), record)
    except BaseException:
        remove_case(job.dataset, job.case)
        raise


def _reason(error: Exception, job: ConversionJob) -> str:
    """Return in one line what went wrong, without the paths of files, which may name a person."""
    if isinstance(error, CascadeError):
        return one_line(error).replace(f"{job.dataset}{os.sep}", "")
    if isinstance(error, MemoryError):
        return "found not enough memory; run again with fewer processes"
    if isinstance(error, OSError):
        return f"a file cannot be read or written ({reason_of(error)}); check the disks and run again"
    _log.error("%s met what was not expected", job.case, exc_info=error)
    return f"{type(error).__name__}, which was not expected; please report what stands on the screen"
