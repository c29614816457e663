"""A whole download to an nnU-Net raw dataset, to be gone on with where it was interrupted."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from tqdm import tqdm

from nnunet_cascade.dataset_conversion.case_names import Unnamed, name_cases
from nnunet_cascade.dataset_conversion.manifest import (
    MANIFEST,
    begin_dataset,
    converted_records,
    finish_dataset,
    warn_of_other_folds,
    write_folds,
)
from nnunet_cascade.dataset_conversion.record import Record
from nnunet_cascade.dataset_conversion.settings import ConversionSettings
from nnunet_cascade.dataset_conversion.workers import convert_in_processes
from nnunet_cascade.dataset_conversion.writing import (
    LEFT_OUT,
    RECORDS,
    ConversionJob,
    finished_record,
    read_record,
    record_path,
)
from nnunet_cascade.dicom.folder import DicomPatient, FolderIndex, index_folder
from nnunet_cascade.errors import DicomError, SettingsError
from nnunet_cascade.files import write_json

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionRequest:
    """A download to be converted.

    Attributes:
        source: Folder of DICOM files in any layout.
        dataset: nnU-Net raw dataset folder, such as nnUNet_raw/Dataset501_NSCLCRadiomics.
        settings: How.
        patients: Patient IDs to be converted; empty for all.
        test_patients: Patient IDs that go to imagesTs and labelsTs, if they are converted.
        processes: That convert side by side, each with one patient in memory.
        folds: Folds to be written to splits_final.json; 0 for none.

    Raises:
        SettingsError: There is to be one fold, or no process.
    """

    source: Path
    dataset: Path
    settings: ConversionSettings
    patients: frozenset[str] = frozenset()
    test_patients: frozenset[str] = frozenset()
    processes: int = 1
    folds: int = 0

    def __post_init__(self) -> None:
        if self.folds < 0 or self.folds == 1:
            raise SettingsError(f"{self.folds} folds; expected 0 for none, or at least 2")
        if self.processes < 1:
            raise SettingsError(f"{self.processes} processes; expected at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionResult:
    """What became of a download.

    Attributes:
        converted: Records of all cases of the dataset, those of earlier runs too.
        left_out: Records of this run's patients that could not be converted, each with its reason.
        stray: How many unreadable files may be anyone's.
        manifest: conversion.json.
        folds_problem: Why folds that were asked for were not written; else "".
    """

    converted: tuple[Record, ...]
    left_out: tuple[Record, ...]
    stray: int
    manifest: Path
    folds_problem: str = ""


def convert_download(request: ConversionRequest) -> ConversionResult:
    """Convert every patient of a download; trouble with one costs that one.

    Writes imagesTr, labelsTr (imagesTs, labelsTs), dataset.json, conversion.json and,
    if asked for, splits_final.json. A case that is there, made from the same files with
    the same settings for the same split, is left as it is.

    Raises:
        DicomError: The folder holds no DICOM file, or not the patients asked for.
        DatasetError: The dataset folder holds cases converted otherwise, or images of
            another origin.
        SettingsError: There are more folds than patients to train on.
        OSError: The dataset folder cannot be written.
    """
    scan = index_folder(request.source, by_study=request.settings.by_study)
    jobs, unnamed = _jobs(scan, request)
    _require_enough_for_folds(jobs, request)
    begin_dataset(request.dataset, request.settings)
    for folder in ("imagesTr", "labelsTr", RECORDS, *(("imagesTs", "labelsTs") if request.test_patients else ())):
        (request.dataset / folder).mkdir(exist_ok=True)
    patients = {job.case: job.patient for job in jobs} | {case: item.patient for case, item in unnamed.items()}
    for broken in (*scan.stray, *(file for patient in patients.values() for file in patient.broken)):
        _log.warning("%s %s", broken.path, broken.reason)
    records = chain(
        ({"case": case, "status": LEFT_OUT, "reason": item.reason} for case, item in unnamed.items()),
        tqdm(_converted(jobs, request), total=len(jobs), desc="convert", unit="patient"),
    )
    left_out = [_noted(record, patients[record["case"]]) for record in records if record["status"] == LEFT_OUT]
    return _finish(request, scan, sorted(left_out, key=lambda record: record["case"]))


def _noted(record: Record, patient: DicomPatient) -> Record:
    """Say at once that a patient is left out, for a night is long; who it is, the screen alone is told."""
    folder = os.path.commonpath([header.path.parent for header in patient.headers])
    whose = f"Patient ID {patient.patient_id!r}, files in {folder}"
    _log.warning("%s (%s) is left out: %s", record["case"], whose, record["reason"])
    return record


def _jobs(scan: FolderIndex, request: ConversionRequest) -> tuple[list[ConversionJob], dict[str, Unnamed]]:
    wanted = _wanted(scan, request)
    # All are named, also those not asked for: a name must not depend on who is.
    named, unnamed = name_cases(scan.patients, request.settings.case_names, by_study=request.settings.by_study)
    first_case: dict[str, str] = {}
    for case, patient in sorted(named.items()):
        first_case.setdefault(patient.patient_id, case)
    jobs = [
        ConversionJob(
            case=case,
            # Files without a Patient ID need not be one person's.
            group=first_case[patient.patient_id] if patient.patient_id else case,
            patient=patient,
            settings=request.settings,
            dataset=request.dataset,
            split="Ts" if patient.patient_id in request.test_patients else "Tr",
        )
        for case, patient in named.items()
        if patient.patient_id in wanted
    ]
    return jobs, {case: item for case, item in unnamed.items() if item.patient.patient_id in wanted}


def _wanted(scan: FolderIndex, request: ConversionRequest) -> frozenset[str]:
    there = frozenset(patient.patient_id for patient in scan.patients)
    missing = sorted((request.patients | request.test_patients) - there)
    if missing:
        raise DicomError(
            f"{request.source} holds {len(there)} patient(s), but not {', '.join(missing[:5])}"
            f"{' …' if len(missing) > 5 else ''}; give Patient IDs as they stand in the files"
        )
    return request.patients or there


def _require_enough_for_folds(jobs: Sequence[ConversionJob], request: ConversionRequest) -> None:
    """Refuse folds at once that could not be written in the end."""
    mine = {job.case for job in jobs}
    groups = {job.group for job in jobs if job.split == "Tr"}
    groups |= {r["group"] for r in converted_records(request.dataset) if r["split"] == "Tr" and r["case"] not in mine}
    if request.folds > len(groups):
        raise SettingsError(f"{request.folds} folds for {len(groups)} patients to train on; give fewer folds")


def _converted(jobs: Sequence[ConversionJob], request: ConversionRequest) -> Iterator[Record]:
    """Yield records as they come, those of an earlier run first."""
    todo: list[ConversionJob] = []
    for job in jobs:
        record = _earlier(job)
        if record is None:
            todo.append(job)
        else:
            yield record
    if len(todo) < len(jobs):
        _log.info("%d of %d cases are there already", len(jobs) - len(todo), len(jobs))
    yield from convert_in_processes(todo, request.processes if len(todo) > 1 else 1)


def _earlier(job: ConversionJob) -> Record | None:
    """Return the record of a case that is done, with the group it has today."""
    record = finished_record(job)
    if record is None:
        split = read_record(record_path(job.dataset, job.case)).get("split", job.split)
        if split != job.split:
            _log.warning("%s moves from images%s to images%s", job.case, split, job.split)
        return None
    if record["group"] != job.group:
        record = {**record, "group": job.group}
        write_json(record_path(job.dataset, job.case), record)
    return record


def _finish(request: ConversionRequest, scan: FolderIndex, left_out: Sequence[Record]) -> ConversionResult:
    reasons = {record["case"]: record["reason"] for record in left_out}
    converted = finish_dataset(request.dataset, request.settings, reasons, scan)
    problem = ""
    try:
        if request.folds:
            write_folds(request.dataset, converted, request.folds)
    except SettingsError as error:
        problem = str(error)
    warn_of_other_folds(request.dataset, converted)
    return ConversionResult(
        converted=tuple(converted),
        left_out=tuple(left_out),
        stray=len(scan.stray),
        manifest=request.dataset / MANIFEST,
        folds_problem=problem,
    )
