"""Which DICOM series a case belongs to: the one its record names, or the one whose slices its maps lie on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nnunet_cascade.cascade.dicom.placing import SeriesPlace, code_of, recorded_grid, turned_grid
from nnunet_cascade.cascade.scans import Scan, find_scans
from nnunet_cascade.dataset_conversion.dicom.headers import read_header
from nnunet_cascade.errors import CascadeError, DicomError
from nnunet_cascade.geometry import AxisTurn, Grid


class KnownSeries:
    """The CT series below a folder, by which cases find theirs.

    Args:
        folder: In any layout.

    Raises:
        DicomError: It holds no CT series that is a volume.
    """

    def __init__(self, folder: Path) -> None:
        scans = find_scans(folder)
        if not all(scan.is_dicom for scan in scans.values()):
            raise DicomError(f"{folder} holds image files; expected DICOM series: give the folder of the CTs' slices")
        self._scans = {scan.series_uid: scan for scan in scans.values()}
        self._places: dict[str, SeriesPlace | None] = {}

    def series_of(self, case: str, record: Mapping[str, Any]) -> Scan:
        """Give the series of a case: the one its record names, else the only one it lies on.

        Of several that it lies on, the one whose Patient ID, or whose name as a case, is the case's.

        Raises:
            DicomError: There is none, or there are several, or the record tells no grid.
        """
        image = record.get("varying", {}).get("image")
        uid = image.get("series_uid", "") if isinstance(image, Mapping) else ""
        if uid in self._scans:
            return self._scans[uid]
        if uid:
            raise DicomError(f"none of {len(self._scans)} series is {uid}, its CT; give the folder it lies in")
        grid = recorded_grid(record)
        fitting = [scan for scan in self._scans.values() if self._fits(scan, grid)]
        named = [scan for scan in fitting if case in (scan.case, _patient(scan))]
        chosen = fitting if len(fitting) == 1 else named
        if len(chosen) == 1:
            return chosen[0]
        if fitting:
            raise DicomError(f"it lies on the slices of {len(fitting)} series; expected one: give its series alone")
        raise DicomError(
            f"it lies on the slices of none of {len(self._scans)} series ({grid.shape} voxels of "
            f"{_told(grid.spacing_mm)} mm); give the series its CT was made from"
        )

    def _fits(self, scan: Scan, grid: Grid) -> bool:
        if scan.series_uid not in self._places:
            try:
                self._places[scan.series_uid] = SeriesPlace.of(scan)
            except CascadeError:
                self._places[scan.series_uid] = None
        place = self._places[scan.series_uid]
        if place is None:
            return False
        return place.grid.difference(turned_grid(grid, AxisTurn.to_code(grid, code_of(place.grid)))) is None


def _patient(scan: Scan) -> str:
    header = read_header(scan.slices[0])
    return "" if header is None else header.patient_id


def _told(spacing_mm: Iterable[float]) -> str:
    return " × ".join(f"{size:g}" for size in spacing_mm)
