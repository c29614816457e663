"""The CTs a cascade is run on: image files, or series of DICOM slices."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_cascade.errors import DicomError
from nnunet_cascade.files import input_checksums, sha256_of
from nnunet_cascade.images import Volume, read_ct, require_ct
from nnunet_cascade.scans.flags import series_flags

if TYPE_CHECKING:
    from nnunet_cascade.dicom.ct.reading import SliceFiles

READING = threading.Lock()
"""Held while headers are read: what pydicom is told to put up with, it is told for all threads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedScan:
    """A CT as it was read.

    Attributes:
        volume: Its voxels.
        flags: What a reader should look at, in words that stay the same.
        notes: What explains them, in one line each.
    """

    volume: Volume
    flags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """Where one CT lies.

    Attributes:
        case: Its name, which no tag of a DICOM file goes into unchecked.
        path: The image file, or the folder below which the slices lie.
        series_uid: Of a DICOM series; "" where it is an image file.
        slices: Files of the series, in any order; none where it is an image file.
        trouble: Why it cannot be read, where that is known before; else "".

    Example:
        >>> scan = nnc.find_scans("ct.nii.gz")["ct"]
        >>> scan.is_dicom, scan.read().array.ndim
        (False, 3)
    """

    case: str
    path: Path
    series_uid: str = ""
    slices: tuple[Path, ...] = ()
    trouble: str = ""

    @property
    def is_dicom(self) -> bool:
        """Whether it is a series of DICOM slices."""
        return bool(self.series_uid)

    @property
    def files(self) -> tuple[Path, ...]:
        """All that it is read from."""
        return self.slices if self.is_dicom else (self.path,)

    def read(self) -> Volume:
        """Read the CT in Hounsfield units; a series on the grid that its slices' own positions give.

        Raises:
            InputImageError: The file cannot be read, or the values are no CT's.
            DicomError: The slices cannot be read, or make no volume.
        """
        return self.load().volume

    def load(self) -> LoadedScan:
        """Read the CT as `read` does, with what is to be said of its slices.

        Raises:
            InputImageError, DicomError: As `read`.
        """
        if not self.is_dicom:
            return LoadedScan(volume=read_ct(self.path))
        from nnunet_cascade.dicom.ct.reading import read_ct_series  # noqa: PLC0415 - for DICOM alone

        files = self.stacked()
        series = read_ct_series(files)
        require_ct(series.voxels, name="the series")
        told = series_flags(files)
        return LoadedScan(
            volume=Volume(series.voxels, series.stack.grid), flags=tuple(told), notes=tuple(told.values())
        )

    def stacked(self) -> SliceFiles:
        """Put the slices in order by their headers, without reading a voxel.

        Raises:
            DicomError: The CT is an image file, or the slices cannot be read or make no volume.
        """
        from nnunet_cascade.dicom.ct.reading import stack_files  # noqa: PLC0415 - for DICOM alone
        from nnunet_cascade.dicom.headers import lenient, read_header  # noqa: PLC0415

        if not self.is_dicom:
            raise DicomError(f"the CT of {self.case} is {self.path.name}, no DICOM series; give the series' folder")
        self.require_readable()
        with READING, lenient():
            headers = [read_header(path) for path in self.slices]
        known = [header for header in headers if header is not None and header.series_uid == self.series_uid]
        if len(known) < len(headers):
            raise DicomError(
                f"{len(headers) - len(known)} file(s) of the series were replaced by others since the run began; "
                "expected the same: run again"
            )
        return stack_files(known)

    def require_readable(self) -> None:
        """Raise where it is known before that the CT cannot be read.

        Raises:
            DicomError: Something is wrong with the series, or none of its files is there.
        """
        if self.is_dicom and (self.trouble or not self.slices):
            raise DicomError(self.trouble or "no file of the CT series is there any more; expected them where they lay")

    def fingerprint(self) -> list[str]:
        """Return name and SHA-256 of what it is read from.

        A series has one for the contents of all its files, whatever they are called and wherever they lie.

        Raises:
            InputImageError, DicomError: A file cannot be read.
        """
        if not self.is_dicom:
            return input_checksums([self.path])[0]
        try:
            sums = sorted(map(sha256_of, self.slices))
        except OSError as error:  # its path may name a person
            raise DicomError(f"a file of the series cannot be read ({error.strerror}); check the disk") from error
        return [f"CT series of {len(sums)} files", hashlib.sha256("\n".join(sums).encode()).hexdigest()]

    def to_json(self) -> dict[str, Any]:
        """Return what a record's `varying` says of it under "image", by which `recorded_scan` finds it again.

        Of a series the folder it was found below, its UID, and hashes of the folders its files lie in: their names
        may be a person's.
        """
        root = self.path.absolute()
        told: dict[str, Any] = {"path": str(root), "series_uid": self.series_uid}
        if self.is_dicom:
            told["folders"] = sorted({hash_of_folder(path.absolute().parent, root) for path in self.slices})
        return told


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A CT series that is none of the cases.

    Attributes:
        series_uid: Its UID.
        images: How many there are.
        reason: Why it is left out.
    """

    series_uid: str
    images: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundScans:
    """What there is to predict.

    Attributes:
        scans: By case, in the order of the names; those that are known not to be readable too.
        left_out: CT series that are no volumes.
        unreadable: Number of files that cannot be read and may be anybody's.
    """

    scans: Mapping[str, Scan]
    left_out: tuple[LeftOut, ...] = ()
    unreadable: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return what the `varying` of `run.json` says of it besides the cases."""
        return {"left_out": [asdict(series) for series in self.left_out], "unreadable_files": self.unreadable}


def hash_of_folder(folder: Path, root: Path) -> str:
    """Return what stands for the name of a folder below another one."""
    below = Path(os.path.relpath(folder, root)).as_posix()
    return hashlib.sha256(below.encode("utf-8", "surrogateescape")).hexdigest()[:16]
