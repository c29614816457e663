"""The lesions of a case as DICOM objects refer to them: numbered, tracked and measured."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.case_folders.case_record import CaseRecord
from nnunet_cascade.dicom.seg.writing import Tracking
from nnunet_cascade.dicom.sr.writing import LesionToReport
from nnunet_cascade.dicom.writing import LONGEST_TEXT, Color, uid_from
from nnunet_cascade.errors import DicomError
from nnunet_cascade.geometry import MM3_PER_ML, Box, Grid, Mask, Vector
from nnunet_cascade.morphology import component_boxes
from nnunet_cascade.postprocessing.diameters import axial_diameters
from nnunet_cascade.uncertainty.lesions import label_lesions
from nnunet_cascade.versions import NOTICE

MOST_SEGMENTS = 100
"""Lesions that become a segment of their own; of more, the smallest share the last one."""
COLORS: tuple[Color, ...] = (
    (86, 180, 233),
    (230, 159, 0),
    (204, 121, 167),
    (240, 228, 66),
    (0, 158, 115),
    (213, 94, 0),
    (0, 114, 178),
)
"""What viewers draw lesions in, in turn: Okabe and Ito's (https://jfly.uni-koeln.de/color/)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedLesion(LesionToReport):
    """One segment, of which 1 is the largest lesion; the same voxels of the same series are tracked by the same UID.

    Attributes:
        lesions: How many lesions it holds: one, but for the last of more than `MOST_SEGMENTS`, which has no axes.
        voxels: Its size.
        box: Smallest block that holds it.
        ends_mm: World positions (x, y, z) of the ends of the long axis; None without one.
    """

    lesions: int
    voxels: int
    box: Box
    ends_mm: tuple[Vector, Vector] | None

    @property
    def name(self) -> str:
        """What people call it."""
        return self.tracking.name

    @property
    def color(self) -> Color:
        """What viewers draw it in."""
        return COLORS[(self.segment - 1) % len(COLORS)]

    def to_json(self) -> dict[str, Any]:
        """Return what `summary.json` tells of it."""
        return {
            "segment": self.segment,
            "name": self.name,
            "tracking_uid": self.tracking.uid,
            "lesions": self.lesions,
            "voxels": self.voxels,
            "volume_ml": self.volume_ml,
            "long_axis_mm": self.long_axis_mm,
            "short_axis_mm": self.short_axis_mm,
            "long_axis_ends_mm": None if self.ends_mm is None else [list(end) for end in self.ends_mm],
            "mean_uncertainty": self.mean_uncertainty,
        }


def number_segments(mask: Mask, record: CaseRecord) -> tuple[NDArray[np.uint8], int]:
    """Number the lesions of a mask as its record does, the largest first.

    Args:
        mask: (Z, Y, X), as the case was written: ties are broken in array order.
        record: Of the case.

    Returns:
        The segments (Z, Y, X), and the number of lesions.

    Raises:
        DicomError: The record tells of another number of lesions.
    """
    labels = label_lesions(mask)
    count, told = int(labels.max()), record.lesions
    if told is not None and len(told) != count:
        raise DicomError(
            f"its mask holds {count} lesion(s) and its record tells of {len(told)}; predict the case again"
        )
    return np.minimum(labels, MOST_SEGMENTS).astype(np.uint8), count


def tracked_lesions(
    labels: NDArray[np.uint8], grid: Grid, series_uid: str, count: int, record: CaseRecord
) -> tuple[TrackedLesion, ...]:
    """Measure segments one by one; none where there is none.

    Args:
        labels: (Z, Y, X), as `number_segments` gives them, on the series' grid.
        grid: That grid.
        series_uid: Of the CT.
        count: Number of lesions.
        record: Of the case.
    """
    found: list[TrackedLesion] = []
    for number, box in enumerate(component_boxes(labels), start=1):
        mask = labels[box.slices] == number
        shared = count - MOST_SEGMENTS + 1 if count > MOST_SEGMENTS and number == MOST_SEGMENTS else 1
        name = f"Tumor {number}" if shared == 1 else f"{shared} smaller tumors"
        voxels = int(np.count_nonzero(mask))
        axes = axial_diameters(mask, grid.cropped(box)) if shared == 1 else None
        found.append(
            TrackedLesion(
                segment=number,
                tracking=Tracking(name=name, uid=_tracking_uid(series_uid, mask, box)),
                lesions=shared,
                voxels=voxels,
                volume_ml=round(voxels * grid.voxel_volume_mm3 / MM3_PER_ML, 4),
                box=box,
                long_axis_mm=None if axes is None else round(axes.long_axis_mm, 3),
                short_axis_mm=None if axes is None else round(axes.short_axis_mm, 3),
                ends_mm=None if axes is None else axes.ends_mm,
                mean_uncertainty=_mean_uncertainty(record, number, shared),
            )
        )
    return tuple(found)


def _tracking_uid(series_uid: str, mask: Mask, box: Box) -> str:
    voxels = hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()
    return uid_from(series_uid, "lesion", str(box.start), str(box.stop), voxels)


def _mean_uncertainty(record: CaseRecord, number: int, shared: int) -> float | None:
    """Return the mean over the voxels of lesions that the record tells of; None where it does not."""
    told = (record.lesions or ())[number - 1 : number - 1 + shared]
    known = [(each.mean_uncertainty, each.voxels) for each in told if each.mean_uncertainty is not None and each.voxels]
    if not known or len(known) < len(told):
        return None
    return float(sum(mean * voxels for mean, voxels in known) / sum(voxels for _, voxels in known))


def dropped_candidates(record: CaseRecord) -> list[dict[str, Any]]:
    """Return the candidates that the rules dropped, with their verdicts."""
    return [
        {
            "candidate": candidate.id,
            "volume_ml": candidate.volume_ml,
            "rule": candidate.verdict.rule,
            "reason": candidate.verdict.reason,
        }
        for candidate in record.candidates or ()
        if not candidate.verdict.kept
    ]


def comments(record: CaseRecord, count: int) -> tuple[str, ...]:
    """Return what the report says in words: the notice, whether anything was found, flags, and why candidates fell."""
    found = "No tumor was found." if count == 0 else f"{count} tumor(s) found."
    flags = (f"Flag: {flag}. A flag asks for a look." for flag in record.flags or ())
    dropped = (
        f"Candidate {item['candidate']} was dropped by rule {item['rule']}: {item['reason']}."
        for item in dropped_candidates(record)
    )
    return (NOTICE, found, *flags, *dropped)


def case_tracking(series_uid: str, case: str) -> Tracking:
    """Return what the case as a whole is known by."""
    name = "".join(letter if letter.isprintable() and letter != "\\" else "_" for letter in case)[:LONGEST_TEXT]
    return Tracking(name=name.strip() or "case", uid=uid_from(series_uid, case, "case"))
