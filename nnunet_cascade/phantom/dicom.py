"""Phantoms as DICOM, laid out as public collections are."""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nnunet_cascade.atomic_folder import scratch_folder
from nnunet_cascade.dicom.ct.writing import write_ct_series
from nnunet_cascade.dicom.headers import read_header
from nnunet_cascade.dicom.rtstruct.writing import InterpretedType, RoiToWrite, write_structure_set
from nnunet_cascade.dicom.writing import Identity, Series, uid_from
from nnunet_cascade.errors import DatasetError, DicomError
from nnunet_cascade.phantom.record import CohortRecord, made_with, planned_phantoms, read_record, write_record
from nnunet_cascade.phantom.settings import PhantomSettings
from nnunet_cascade.phantom.thorax import Phantom, make_phantom

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_CT, _STRUCTURE_SET = (1, "Phantom CT"), (3, "Phantom contours")
_COLORS = {"GTV-1": (255, 0, 0), "Lung-Left": (0, 160, 255), "Lung-Right": (0, 200, 80)}
_TYPES: dict[str, InterpretedType] = {"GTV-1": "GTV", "Lung-Left": "ORGAN", "Lung-Right": "ORGAN"}
_log = logging.getLogger(__name__)


def write_phantom_dicom(phantom: Phantom, folder: Path, *, patient_id: str) -> None:
    """Write a phantom as a CT series and an RTSTRUCT, the way the NBIA lays out a patient.

    The RTSTRUCT has the ROIs `GTV-1` (all tumors; without contours where there is
    none), `Lung-Left` and `Lung-Right`. The same phantom gets the same UIDs and the same
    bytes. The patient's folder appears whole or not at all.

    Args:
        phantom: What to write.
        folder: Of the collection; made where missing. The patient gets the folder
            `patient_id` in it.
        patient_id: Letters, digits, dots, dashes and underscores.

    Raises:
        DicomError: The patient is there already, or a file cannot be written.
    """
    if not _NAME.fullmatch(patient_id):
        raise DicomError(f"patient_id is {patient_id!r}; expected letters, digits, dots, dashes and underscores")
    target = folder / patient_id
    if target.exists():
        raise DicomError(f"{target} exists already; remove it or choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with scratch_folder(target, alone=True) as beside:
            _write_study(phantom, beside, patient_id=patient_id)
            beside.rename(target)
    except OSError as error:
        raise DicomError(
            f"{target} cannot be written ({error.strerror}); check the folder and the space left"
        ) from error


def write_dicom_cohort(
    folder: Path, *, train_seeds: Sequence[int], test_seeds: Sequence[int], settings: PhantomSettings
) -> None:
    """Write phantoms as a DICOM collection, to be resumed where it was interrupted.

    Patients are named as the cases of `write_cohort`, such as `phantom_2000`. Beside
    them stands `phantoms.json`: settings, and seed and split ("Tr", "Ts") of each. A
    phantom that is there is not drawn again while settings and package version agree;
    otherwise all are.

    Args:
        folder: Made where missing.
        train_seeds: One patient each; may be empty.
        test_seeds: One patient each; may be empty.
        settings: Of every phantom.

    Raises:
        SettingsError: A seed is given twice.
        DatasetError: The folder holds patients that were not asked for, or a
            `phantoms.json` that cannot be read.
        DicomError: A file cannot be written.
    """
    planned = planned_phantoms(train_seeds, test_seeds)
    cases = {plan.name: {"seed": plan.seed, "split": plan.split} for plan in planned}
    # No SEG is written; the record says so, as those of earlier collections do.
    record = CohortRecord(made_with(settings, with_seg=False), cases)
    folder.mkdir(parents=True, exist_ok=True)
    earlier = read_record(folder)
    _require_no_others(folder, set(cases) & set(earlier.cases))
    if earlier.cases and earlier.made_with != record.made_with:
        _log.warning("%s was made with other settings or another version: all phantoms are drawn again", folder)
        for name in earlier.cases:
            shutil.rmtree(folder / name, ignore_errors=True)
    write_record(folder, record)
    for plan in tqdm(planned, desc="phantoms", unit="phantom"):
        if not (folder / plan.name).is_dir():
            phantom = make_phantom(plan.seed, settings)
            write_phantom_dicom(phantom, folder, patient_id=plan.name)


def _write_study(phantom: Phantom, folder: Path, *, patient_id: str) -> None:
    names = (patient_id, _fingerprint(phantom))
    identity = Identity(
        patient_id=patient_id,
        patient_name="PHANTOM",
        study_uid=uid_from(*names, "study"),
        frame_of_reference_uid=uid_from(*names, "frame of reference"),
        study_description="Phantom",
    )
    study = folder / f"01-01-2000-Phantom-{identity.study_uid[-5:]}"
    ct, structures = (
        Series(identity=identity, uid=uid_from(*names, description), number=number, description=description)
        for number, description in (_CT, _STRUCTURE_SET)
    )
    slices = write_ct_series(phantom.ct.astype(np.int16), phantom.grid, study / _folder_name(ct), series=ct)
    regions = {"GTV-1": phantom.tumors > 0, "Lung-Left": phantom.lungs == 2, "Lung-Right": phantom.lungs == 1}
    headers = [header for path in slices if (header := read_header(path)) is not None]
    rois = [
        RoiToWrite(name=name, mask=mask, color=_COLORS[name], interpreted_type=_TYPES[name], algorithm="AUTOMATIC")
        for name, mask in regions.items()
    ]
    write_structure_set(rois, phantom.grid, headers, study / _folder_name(structures) / "1-1.dcm", series=structures)


def _folder_name(series: Series) -> str:
    return f"{series.number}.000000-{series.description}-{series.uid[-5:]}"


def _fingerprint(phantom: Phantom) -> str:
    """Tell apart what differs in any voxel or in its place."""
    grid = phantom.grid
    place = np.array([*grid.shape, *grid.spacing_mm, *grid.origin_mm, *np.ravel(grid.axes)], dtype=np.float64)
    digest = hashlib.sha256(place.tobytes())
    for array in (phantom.ct, phantom.tumors, phantom.lungs):
        digest.update(array.astype(np.int16).tobytes())
    return digest.hexdigest()


def _require_no_others(folder: Path, ours: set[str]) -> None:
    found = (path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    others = sorted(set(found) - ours)
    if others:
        raise DatasetError(
            f"{folder} holds {len(others)} patients that were not asked for, such as {others[0]}; "
            "ask for their seeds too or choose an empty folder"
        )
