"""Which DICOM series a case belongs to: the one its record names, or one it lies on that is shown to be its CT."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import numpy as np

from nnunet_cascade.case_folders.case_record import CaseRecord
from nnunet_cascade.dataset_conversion.case_names import short_hash
from nnunet_cascade.dicom.ct.reading import read_slice
from nnunet_cascade.dicom.headers import read_header
from nnunet_cascade.dicom_export.series_geometry import ReferencedSeries
from nnunet_cascade.errors import CascadeError, DicomError
from nnunet_cascade.images import Volume
from nnunet_cascade.scans.recorded import recorded_scan
from nnunet_cascade.scans.scans import Scan
from nnunet_cascade.scans.search import find_scans

_PLANES_COMPARED = 9
_COMPARED_HU = (-1000.0, 3000.0)  # what lies beyond, programs that convert DICOM cut off or fill in
_ROUNDING_HU = 1.0
_SHARE_ALIKE = 0.99


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

    def series_of(self, case: str, record: CaseRecord) -> Scan:
        """Return the series of a case: the one its record names, else one on whose slices its maps lie.

        CTs of two patients may lie alike. So the series must show what the case's image file does, where that is
        still there, or else be called as the case: by Patient ID, or by the hash that stands for a UID.

        Raises:
            DicomError: There is none, or there are several, or the record tells no grid.
        """
        uid = "" if record.varying.image is None else record.varying.image.series_uid
        if uid in self._scans:
            return self._scans[uid]
        if uid:
            raise DicomError(f"none of {len(self._scans)} series is {uid}, its CT; give the folder it lies in")
        grid = record.grid
        if grid is None:
            raise DicomError("its record tells no grid; expected one of this version: predict the case again")
        fitting = [self._scans[uid] for uid, place in self._places.items() if place.turn_of(grid)[1] is None]
        if not fitting:
            raise DicomError(
                f"its maps lie on the slices of none of {len(self._scans)} series ({grid.shape} voxels of "
                f"{' × '.join(f'{size:g}' for size in grid.spacing_mm)} mm); give the series its CT was made from"
            )
        return _only(fitting, case, _image(record))

    @cached_property
    def _places(self) -> dict[str, ReferencedSeries]:
        """Where the series that can be read lie, by UID."""
        places: dict[str, ReferencedSeries] = {}
        for uid, scan in self._scans.items():
            with suppress(CascadeError):
                places[uid] = ReferencedSeries.of(scan)
        return places


def _only(fitting: Sequence[Scan], case: str, image: Volume | None) -> Scan:
    """Choose among series on whose slices a case lies."""
    named = [scan for scan in fitting if case in _names(scan)]
    alike = [scan for scan in fitting if image is not None and _shows(scan, image)]
    chosen = named if image is None else [scan for scan in alike if scan in named] or alike
    if len(chosen) == 1:
        return chosen[0]
    lies = f"it lies on the slices of {len(fitting)} series"
    if chosen:
        raise DicomError(f"{lies}, of which {len(chosen)} may be its CT; expected one: give its series alone")
    if image is None:
        raise DicomError(
            f"{lies}, but nothing shows that one is its CT: the image file it was predicted from is not where its "
            "record says, and no Patient ID is the case's name; put the image there again, or predict it from DICOM"
        )
    raise DicomError(f"{lies}, but its image shows another CT; give the series that image was made from")


def _names(scan: Scan) -> tuple[str, ...]:
    header = read_header(scan.slices[0])
    return (scan.case,) if header is None else (scan.case, header.patient_id, f"case_{short_hash(header.study_uid)}")


def _image(record: CaseRecord) -> Volume | None:
    """Read the image file a case was predicted from; None where it is not there any more, or another one is."""
    scan = recorded_scan(record)
    if scan is None or scan.is_dicom:
        return None
    try:
        return scan.read() if record.inputs and tuple(scan.fingerprint()) == record.inputs[0] else None
    except CascadeError:
        return None


def _shows(scan: Scan, image: Volume) -> bool:
    """Tell whether a series shows what an image on its slices does, by some of these; its edges may be cut off."""
    place = ReferencedSeries.of(scan)
    expected = place.reorient_to_series(image.array, image.grid, what="the image")
    planes = np.unique(np.linspace(0, len(expected) - 1, _PLANES_COMPARED).round().astype(int))
    try:
        if place.files.stack.irregularities:
            found = scan.read().array[planes]
        else:
            found = np.stack([read_slice(place.headers[plane]) for plane in planes])
    except CascadeError:
        return False
    difference = np.abs(np.clip(found, *_COMPARED_HU) - np.clip(expected[planes], *_COMPARED_HU).astype(np.float32))
    return bool(np.mean(difference <= _ROUNDING_HU) >= _SHARE_ALIKE)
