"""One case's objects, written one after the other into a folder."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.case_folders.case_record import CaseRecord
from nnunet_cascade.case_folders.record_parts import UncertaintyRecord
from nnunet_cascade.dicom.parametric_map.quantities import QUANTITIES, Quantity
from nnunet_cascade.dicom.parametric_map.writing import MapToWrite, write_parametric_map
from nnunet_cascade.dicom.rtstruct.writing import RoiToWrite, mask_contours, write_structure_set
from nnunet_cascade.dicom.seg.writing import (
    FractionToWrite,
    LabeledSegments,
    SegmentDetails,
    write_probability,
    write_segmentation,
)
from nnunet_cascade.dicom.sr.writing import ReportToWrite, write_report
from nnunet_cascade.dicom_export.lesions import (
    COLORS,
    TrackedLesion,
    case_tracking,
    comments,
    dropped_candidates,
    number_segments,
    tracked_lesions,
)
from nnunet_cascade.dicom_export.provenance import DESCRIPTIONS, Kind, ObjectProvenance
from nnunet_cascade.dicom_export.series_geometry import ReferencedSeries
from nnunet_cascade.errors import DicomError
from nnunet_cascade.files import write_json
from nnunet_cascade.geometry import Image
from nnunet_cascade.images import ENDING, read_volume
from nnunet_cascade.versions import NOTICE

SUMMARY = "summary.json"
_PROBABILITY_ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True)
class CaseObjects:
    """A case, ready to be written as DICOM; maps are read when they are asked for.

    Attributes:
        results: The folder of its maps.
        case: Its name.
        record: Of it.
        place: The series it belongs to.
        provenance: Whose it is.
    """

    results: Path
    case: str
    record: CaseRecord
    place: ReferencedSeries
    provenance: ObjectProvenance

    def write(self, kind: Kind, folder: Path) -> None:
        """Write one object, `KIND.dcm`, unless the case has none; with the report goes `summary.json`.

        Raises:
            CascadeError: What is wrong with the series, a map or the record.
        """
        writers: dict[Kind, Callable[[Path], None]] = {
            "seg": self._write_seg,
            "probability": self._write_probability,
            "uncertainty": self._write_uncertainty,
            "rtstruct": self._write_rtstruct,
            "report": self._write_report,
        }
        writers[kind](folder / f"{kind}.dcm")

    def has_none_of(self, kinds: AbstractSet[Kind]) -> bool:
        """Tell whether the case has nothing to write of these kinds of maps."""
        suffixes = [f"_{kind}" for kind in kinds]
        held = [suffix for suffix in suffixes if map_path(self.results, self.case, suffix).is_file()]
        return not any(self._map(suffix).any() for suffix in held)

    def _map(self, suffix: str) -> Image:
        """Read a map onto the series' grid."""
        path = map_path(self.results, self.case, suffix)
        volume = read_volume(path)
        return self.place.reorient_to_series(volume.array, volume.grid, what=path.name)

    @cached_property
    def _numbered(self) -> tuple[NDArray[np.uint8], int]:
        path = map_path(self.results, self.case, "")
        volume = read_volume(path)
        segments, count = number_segments(volume.array > 0, self.record)
        return np.ascontiguousarray(self.place.reorient_to_series(segments, volume.grid, what=path.name)), count

    @cached_property
    def lesions(self) -> tuple[TrackedLesion, ...]:
        """The segments of the tumor; none where there is none."""
        segments, count = self._numbered
        return tracked_lesions(segments, self.place.grid, self.provenance.series_uid, count, self.record)

    @cached_property
    def _quantity(self) -> Quantity:
        measure = (self.record.uncertainty or UncertaintyRecord()).measure or "variance"
        if measure not in QUANTITIES:
            raise DicomError(f"its uncertainty is {measure!r}; expected one of {', '.join(QUANTITIES)}")
        return QUANTITIES[cast(Any, measure)]

    def _identified(self, kind: Kind) -> dict[str, Any]:
        return {"description": DESCRIPTIONS[kind], "identity": self.provenance.identity(kind)}

    def _write_seg(self, path: Path) -> None:
        algorithm = self.provenance.algorithm
        told = [
            SegmentDetails(name=x.name, algorithm=algorithm, tracking=x.tracking, color=x.color) for x in self.lesions
        ]
        segments = told or [SegmentDetails(name="Tumor", algorithm=algorithm)]
        labeled = LabeledSegments(labels=self._numbered[0], segments=tuple(segments))
        write_segmentation(labeled, self.place.paths, path, **self._identified("seg"))

    def _write_probability(self, path: Path) -> None:
        probability = self._map("_probability")
        if not probability.any():
            return
        low, high = float(probability.min()), float(probability.max())
        if low < -_PROBABILITY_ROUNDING or high > 1 + _PROBABILITY_ROUNDING:
            raise DicomError(f"its probabilities reach from {low:g} to {high:g}; expected 0 to 1: predict it again")
        segment = FractionToWrite(
            name="Tumor",
            probability=np.clip(probability, 0, 1),
            algorithm=self.provenance.algorithm,
            color=COLORS[0],
        )
        write_probability(segment, self.place.paths, path, **self._identified("probability"))

    def _write_uncertainty(self, path: Path) -> None:
        if not map_path(self.results, self.case, "_uncertainty").is_file():
            return
        values, quantity = self._map("_uncertainty"), self._quantity
        planes = np.flatnonzero(values.any(axis=(1, 2)))
        if not planes.size:
            return
        held = slice(None) if self.provenance.every_slice else slice(int(planes[0]), int(planes[-1]) + 1)
        content = MapToWrite(values=np.ascontiguousarray(values[held]), quantity=quantity)
        write_parametric_map(content, self.place.paths[held], path, **self._identified("uncertainty"))

    def _write_rtstruct(self, path: Path) -> None:
        segments, grid = self._numbered[0], self.place.grid
        rois = [
            RoiToWrite(
                name=lesion.name,
                contours_mm=tuple(
                    mask_contours(segments[lesion.box.slices] == lesion.segment, grid.cropped(lesion.box))
                ),
                color=lesion.color,
                interpreted_type="GTV",
                algorithm="AUTOMATIC",
            )
            for lesion in self.lesions
        ]
        nothing = [RoiToWrite(name="Tumor", interpreted_type="GTV", algorithm="AUTOMATIC")]
        write_structure_set(rois or nothing, grid, self.place.headers, path, series=self.provenance.contour_series())

    def _write_report(self, path: Path) -> None:
        """Write the report; the SEG it refers to lies beside it."""
        count = self._numbered[1]
        volume_ml = round(sum(lesion.volume_ml for lesion in self.lesions), 4)
        report = ReportToWrite(
            tracking=case_tracking(self.provenance.series_uid, self.case),
            lesions=self.lesions,
            count=count,
            volume_ml=volume_ml,
            uncertainty=self._quantity.code,
            comments=comments(self.record, count),
            segmentation=path.with_name("seg.dcm"),
            algorithm=self.provenance.algorithm,
        )
        write_report(report, self.place.paths, path, **self._identified("report"))
        write_json(path.with_name(SUMMARY), self._summary(count, volume_ml))

    def _summary(self, count: int, volume_ml: float) -> dict[str, Any]:
        uncertainty = self.record.uncertainty
        return {
            "case": self.case,
            "notice": NOTICE,
            "series_uid": self.provenance.series_uid,
            "predicted_at": self.provenance.written_at.isoformat(),
            "count": count,
            "volume_ml": volume_ml,
            "mean_uncertainty": None if uncertainty is None else uncertainty.mean_in_tumor,
            "uncertainty_measure": None if uncertainty is None else uncertainty.measure,
            "lesions": [lesion.to_json() for lesion in self.lesions],
            "dropped": dropped_candidates(self.record),
            "flags": list(self.record.flags or ()),
        }


def map_path(results: Path, case: str, suffix: str) -> Path:
    """Return the path of a map of a case."""
    return results / f"{case}{suffix}{ENDING}"
