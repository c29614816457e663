"""The images that a case's page shows, laid beside it: hard links where the system can, copies elsewhere."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from nnunet_cascade.case_folders.case_record import CaseRecord
from nnunet_cascade.case_folders.prediction_files import read_label_map
from nnunet_cascade.errors import CascadeError
from nnunet_cascade.files import atomic_file
from nnunet_cascade.images import ENDING, Volume, read_volume, write_image
from nnunet_cascade.scans.scans import Scan
from nnunet_cascade.workflows.evaluation_workers import LabelFile

MAPS: Mapping[str, str] = {
    "lungs": "_lungs",
    "roi": "_roi",
    "stage1": "_stage1",
    "candidates": "_candidates",
    "tumor": "",
    "probability": "_probability",
    "uncertainty": "_uncertainty",
}
"""What the maps of a case are called in its page, and what follows the case's name in their files."""
_NIFTI = (ENDING, ".nii")
_BLOCK_BYTES = 1 << 20
_INT16 = np.iinfo(np.int16)


def place_volumes(  # noqa: PLR0913, PLR0917 - a case, where all of it lies, and where it goes
    case: str, folder: Path, record: CaseRecord | None, scan: Scan | None, truth: LabelFile | None, into: Path
) -> dict[str, str]:
    """Lay the images of a case into its page's folder.

    NIfTI files are linked, or copied, as they are; a DICOM series and images of other formats are written as NIfTI.
    Nothing is taken from outside `folder` but the CT and the truth, which the caller names. The images may share
    their content with the files they were made from: whoever changes those in place changes these.

    Args:
        case: Its name.
        folder: Of the run.
        record: Of the case; where it lists its files, no others are taken.
        scan: The CT; None where nobody knows it.
        truth: A label map and what of it is tumor, which alone is shown; None where there is none. What
            cannot be read is left out: who compares with it says why.
        into: Of the page; it is there.

    Returns:
        For each image that there is, of "ct", "truth" and those of `MAPS`, the file's name in `into`.

    Raises:
        InputImageError, DicomError: The CT is there and cannot be read.
        OSError: A file cannot be written.
    """
    placed: dict[str, str] = {}
    if scan is not None and any(path.is_file() for path in scan.files):
        placed["ct"] = _write_narrow(scan.read(), "ct", into) if scan.is_dicom else _place_image(scan.path, "ct", into)
    for name, suffix in MAPS.items():
        source = _own_file(folder, f"{case}{suffix}{ENDING}", record)
        if source is not None:
            placed[name] = _share(source, into / f"{name}{ENDING}")
    if truth is not None and truth.path.is_file():
        with suppress(CascadeError):
            placed["truth"] = _place_truth(truth, into)
    return placed


def _own_file(folder: Path, name: str, record: CaseRecord | None) -> Path | None:
    """Find one of the case's maps; neither its name nor a symbolic link leads out of the folder."""
    if record is not None and record.files and name not in record.files:
        return None
    path = folder / name
    try:
        inside = path.resolve(strict=True).parent == folder.resolve(strict=True)
    except OSError:
        return None
    return path if inside and path.is_file() else None


def _place_image(source: Path, name: str, into: Path) -> str:
    ending = next((ending for ending in _NIFTI if source.name.endswith(ending)), None)
    if ending is None:
        return _write_narrow(read_volume(source), name, into)
    return _share(source, into / f"{name}{ending}")


def _place_truth(truth: LabelFile, into: Path) -> str:
    """Share true labels where they are tumor alone, else write the tumor of them."""
    volume = read_volume(truth.path)
    labels = read_label_map(truth.path, volume.grid, truth.tumor, what="true labels")
    mask = truth.tumor.mask(labels)
    if np.array_equal(mask, labels != 0) and truth.path.name.endswith(_NIFTI):
        return _place_image(truth.path, "truth", into)
    return _write_narrow(Volume(mask.astype(np.int16), volume.grid), "truth", into)


def _write_narrow(volume: Volume, name: str, into: Path) -> str:
    """Write an image in whole numbers of 16 bits, compressed in haste: half a Hounsfield unit is nothing one sees."""
    array, path, plain = volume.array, into / f"{name}{ENDING}", into / f".{name}.nii"
    whole = array if array.dtype == np.int16 else np.rint(array).clip(_INT16.min, _INT16.max).astype(np.int16)
    try:
        write_image(whole, volume.grid, plain)
        with (
            atomic_file(path) as beside,
            plain.open("rb") as source,
            gzip.open(beside, "wb", compresslevel=1) as target,
        ):
            shutil.copyfileobj(source, target, _BLOCK_BYTES)
    finally:
        plain.unlink(missing_ok=True)
    return path.name


def _share(source: Path, target: Path) -> str:
    """Return a file a second name, or copy it where the system has no such thing; the name appears at once."""
    real = source.resolve(strict=True)
    beside = target.with_name(f".{os.getpid()}.{target.name}")
    beside.unlink(missing_ok=True)
    try:
        try:
            os.link(real, beside)
        except (OSError, NotImplementedError):  # another file system, or another user's file
            with atomic_file(target) as copy:
                shutil.copyfile(real, copy)
        else:
            beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)  # it stays where both were names of one file before
    return target.name
