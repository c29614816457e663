"""Lung masks of a folder of CTs, each with a record, so that nothing needs to be found twice."""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_cascade.case_folders.case_record import CaseRecord
from nnunet_cascade.case_folders.record_parts import LungRecord, VaryingRecord
from nnunet_cascade.case_folders.records import CaseFingerprint, read_finished, record_path, write_record
from nnunet_cascade.case_folders.run import FolderTask
from nnunet_cascade.errors import CascadeError, InputImageError, LungMaskError
from nnunet_cascade.files import write_json
from nnunet_cascade.geometry import MM3_PER_ML, Grid
from nnunet_cascade.images import ENDING, Volume, read_ct, read_labels, write_image
from nnunet_cascade.postprocessing.lungs.inputs import deciding_settings, lung_files, weights_checksum
from nnunet_cascade.postprocessing.lungs.result import LEFT, RIGHT, UNKNOWN_SIDE, LungMask
from nnunet_cascade.postprocessing.lungs.source import LungSource, find_lungs
from nnunet_cascade.settings.serialization import to_json
from nnunet_cascade.versions import NOTICE

_STORE = "lung_masks.json"


def lung_task(output: Path, source: LungSource, *, resume: bool = False) -> FolderTask:
    """Return the task that writes a lung mask `<case>.nii.gz` for each CT: 1 right, 2 left, 3 of unknown side."""

    def work(case: str, path: Path) -> CaseRecord:
        return _find_and_write(read_thorax(path), source, output, case=case)[1]

    def inputs(case: str, path: Path) -> list[Path]:
        return [path, *lung_files(source, case)]

    return FolderTask(output=output, settings=_settings(source), work=work, inputs=inputs, resume=resume)


def lung_figures(record: CaseRecord) -> Mapping[str, Any]:
    """Return what a run's files tell of a case."""
    return {} if record.lungs is None else record.lungs.to_json()


def read_thorax(path: Path) -> Volume:
    """Read a CT that has an extent along every axis.

    Raises:
        InputImageError: As `read_ct`, or it is a single slice.
    """
    ct = read_ct(path)
    if min(ct.grid.shape) < 2:
        raise InputImageError(f"{path} has the shape {ct.grid.shape}, a single slice; expected a volume")
    return ct


def kept_lungs(ct: Volume, source: LungSource, folder: Path, *, case: str) -> LungMask:
    """Return the lungs of a CT, from a folder where they were found before, else found and kept there.

    A mask is taken where its record names the same source and the same CT and it lies
    on the CT's grid. Masks of a `folder` source are read there, not copied.

    Raises:
        LungMaskError, GridMismatchError, InputImageError: As `find_lungs`, or a mask cannot be written.
    """
    if source.kind == "folder":
        return find_lungs(ct, source, case=case)
    record = read_finished(folder, case, CaseFingerprint(settings=_settings(source)))
    if record is not None and record.ct_crc32 == _checksum(ct):
        found = _reread(ct.grid, folder, case, record)
        if found is not None:
            return found
    _prepare_store(folder)
    record_path(folder, case).unlink(missing_ok=True)
    lungs, record = _find_and_write(ct, source, folder, case=case)
    write_record(folder, record, CaseFingerprint(settings=_settings(source)))
    return lungs


def _prepare_store(folder: Path) -> None:
    """Make the folder of kept masks, or see that it is one: masks of the user's are never overwritten.

    Raises:
        LungMaskError: It holds images and nothing says that they are ours.
    """
    if folder.is_dir() and any(folder.glob(f"*{ENDING}")) and not any(folder.glob("*.json")):
        raise LungMaskError(
            f"{folder} holds images that are not ours, and lung masks would be kept there; "
            "move them, or give ready masks with --lungs"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / _STORE).is_file():
        write_json(folder / _STORE, {"notice": NOTICE, "holds": "lung masks, found once and taken again"})


def _settings(source: LungSource) -> dict[str, Any]:
    return {"lungs": source_settings(source)}


def source_settings(source: LungSource) -> dict[str, Any]:
    """Return what decides a mask besides the files it is read from; given weights are named by their checksum.

    Raises:
        LungMaskError: Weights are given and cannot be read.
    """
    weights = weights_checksum(source)
    return {**deciding_settings(to_json(source)), **({} if weights is None else {"weights_sha256": weights})}


def _reread(grid: Grid, folder: Path, case: str, record: CaseRecord) -> LungMask | None:
    """Read a mask that was kept; one that is broken or on another grid is None, and found anew."""
    if record.lungs is None:
        return None
    try:
        labels = read_labels(folder / f"{case}{ENDING}", grid, what="kept lung mask")
        found = LungMask.of(labels, grid, source=record.lungs.source)
    except (CascadeError, ValueError, IndexError):
        return None
    for flag in record.lungs.flags:
        found = found if flag in found.flags else found.with_flag(flag)
    return found


def _find_and_write(ct: Volume, source: LungSource, folder: Path, *, case: str) -> tuple[LungMask, CaseRecord]:
    begun = time.perf_counter()
    lungs = find_lungs(ct, source, case=case)
    name = f"{case}{ENDING}"
    write_image(lungs.labels, ct.grid, folder / name)
    seconds = round(time.perf_counter() - begun, 3)
    record = CaseRecord(
        case=case,
        files={name: None},
        lungs=lung_record(lungs, ct.grid),
        grid=ct.grid,
        ct_crc32=_checksum(ct),
        varying=VaryingRecord(seconds=seconds),
    )
    return lungs, record


def lung_record(lungs: LungMask, grid: Grid) -> LungRecord:
    """Return what a record holds of a lung mask."""
    counts = np.bincount(lungs.labels.ravel(), minlength=UNKNOWN_SIDE + 1)
    sides = {"right_ml": RIGHT, "left_ml": LEFT, "unknown_side_ml": UNKNOWN_SIDE}
    volumes = {
        name: round(float(counts[value]) * grid.voxel_volume_mm3 / MM3_PER_ML, 3) for name, value in sides.items()
    }
    return LungRecord(source=lungs.source, volume_ml=round(lungs.volume_ml, 3), **volumes, flags=lungs.flags)


def _checksum(ct: Volume) -> str:
    return f"{zlib.crc32(np.ascontiguousarray(ct.array, dtype=np.float32).data):08x}"
