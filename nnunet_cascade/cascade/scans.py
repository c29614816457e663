"""The CTs a cascade is run on: image files, or series of DICOM slices."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_cascade.errors import DicomError
from nnunet_cascade.images import Volume, read_ct, require_ct

if TYPE_CHECKING:
    from nnunet_cascade.dataset_conversion.ct.reading import SliceFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """Where one CT lies.

    Attributes:
        case: Its name, which no tag of a DICOM file goes into unchecked.
        path: The image file, or the folder below which the slices lie.
        series_uid: Of a DICOM series; "" where it is an image file.
        slices: Files of the series, in any order; none where it is an image file.
    """

    case: str
    path: Path
    series_uid: str = ""
    slices: tuple[Path, ...] = ()

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
        if not self.is_dicom:
            return read_ct(self.path)
        from nnunet_cascade.dataset_conversion.ct.reading import read_ct_series  # noqa: PLC0415 - for DICOM alone

        series = read_ct_series(self.stacked())
        require_ct(series.voxels, name=self.case)
        return Volume(series.voxels, series.stack.grid)

    def stacked(self) -> SliceFiles:
        """Put the slices in order by their headers, without reading a voxel.

        Raises:
            DicomError: The CT is an image file, or the slices make no volume.
        """
        from nnunet_cascade.dataset_conversion.ct.reading import stack_files  # noqa: PLC0415
        from nnunet_cascade.dataset_conversion.dicom.headers import read_header  # noqa: PLC0415

        if not self.is_dicom:
            raise DicomError(f"the CT of {self.case} is {self.path.name}, no DICOM series; give the series' folder")
        headers = [read_header(path) for path in self.slices]
        return stack_files([header for header in headers if header is not None])

    def to_json(self) -> dict[str, str]:
        """Give what a record's `varying` says of it under "image": the file, or the folder that holds all slices."""
        parents = {str(path.absolute().parent) for path in self.slices}
        folder = os.path.commonpath(parents) if parents else str(self.path.absolute())
        return {"path": folder, "series_uid": self.series_uid}


def recorded_scan(record: Mapping[str, Any]) -> Scan | None:
    """Give the CT that a case was predicted from, as its record tells; None where it does not.

    The file may be gone since. The slices of a series are searched below the folder they lay in.
    """
    told = record.get("varying", {}).get("image")
    if not isinstance(told, dict) or not told.get("path"):
        return None
    case, path, uid = str(record["case"]), Path(told["path"]), str(told.get("series_uid", ""))
    if not uid:
        return Scan(case=case, path=path)
    return Scan(case=case, path=path, series_uid=uid, slices=_slices_of(path, uid))


@lru_cache(maxsize=8)
def _slices_of(folder: Path, series_uid: str) -> tuple[Path, ...]:
    """Find the files of a series below a folder; none where the folder is gone."""
    from nnunet_cascade.dataset_conversion.dicom.folder import scan_folder  # noqa: PLC0415

    try:
        found = scan_folder(folder)
    except DicomError:
        return ()
    headers = (header for patient in found.patients for header in patient.headers)
    return tuple(header.path for header in headers if header.series_uid == series_uid)
