"""What the manifest says of a patient: enough to trust or doubt the conversion, nothing that says who it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nnunet_cascade.dataset_conversion.patient import Converted
from nnunet_cascade.dataset_conversion.region import DrawnRegion
from nnunet_cascade.dicom.ct.reading import CtSeries
from nnunet_cascade.errors import InputImageError
from nnunet_cascade.geometry import Anatomical, Grid, Mask
from nnunet_cascade.images import require_ct

Record = dict[str, Any]
"""As JSON has it."""

_AIR_BELOW_HU = -300
_TINY_ML = 0.1
_AGREEING_DICE = 0.95
_LETTERS: dict[Anatomical, str] = {"left-right": "RL", "front-back": "AP", "foot-head": "IS"}


def describe(converted: Converted) -> Record:
    """Describe a converted patient.

    UIDs, geometry, hash and what was interpolated of the CT; volume, mean HU and what
    was met in drawing of each label; agreement of RTSTRUCT and SEG; flags that ask
    for a look. No name, date or ID of a person.
    """
    ct = converted.ct
    labels = {name: _label(converted, name, value) for value, name in enumerate(converted.regions, start=1)}
    record: Record = {
        "uids": _uids(converted),
        "ct": _ct(ct),
        "source": converted.source,
        "labels": labels,
        "cross_check": dict(converted.cross_check),
        "cross_check_problem": converted.cross_check_problem,
    }
    return {**record, "flags": _flags(record)}


def orientation_letters(grid: Grid) -> str:
    """Return where the array's (X, Y, Z) indices grow to, such as LPS; oblique grids give the nearest."""
    letters = ["", "", ""]
    for anatomical, (low, high) in _LETTERS.items():
        axis, sense = grid.array_axis(anatomical)
        letters[2 - axis] = high if sense > 0 else low
    return "".join(letters)


def _uids(converted: Converted) -> Record:
    first = converted.ct.headers[0]
    return {
        "study": first.study_uid,
        "ct_series": first.series_uid,
        "frame_of_reference": first.frame_of_reference_uid,
        "annotation": converted.annotation_uid,
    }


def _ct(ct: CtSeries) -> Record:
    stack, grid = ct.stack, ct.stack.grid
    return {
        "shape_zyx": list(grid.shape),
        "spacing_zyx_mm": [round(size, 6) for size in grid.spacing_mm],
        "orientation_xyz": orientation_letters(grid),
        "voxel_type": ct.voxels.dtype.name,
        "slices": len(ct.headers),
        "irregularities": list(stack.irregularities),
        "interpolated_planes": list(stack.interpolated),
        "unused_slices": [ct.headers[place].sop_uid for place in stack.unused],
        "duplicate_slices": len(stack.duplicates),
        "slices_of_other_orientation": len(stack.set_aside),
        "localizers": ct.localizers,
        "looks_like_hu": _looks_like_hu(ct),
        "largest_deviation_mm": round(stack.deviation_mm, 4),
        "sha256": ct.sha256(),
    }


def _looks_like_hu(ct: CtSeries) -> bool:
    """Return whether there is air and tissue: files that do not say how to rescale have neither where they should."""
    try:
        require_ct(ct.voxels, name="CT")
    except InputImageError:
        return False
    return True


def _label(converted: Converted, name: str, value: int) -> Record:
    region: DrawnRegion = converted.regions[name]
    mask: Mask = converted.labels == value
    voxels = int(np.count_nonzero(mask))
    hu = converted.ct.voxels[mask]
    planes = np.flatnonzero(mask.any(axis=(1, 2)))
    return {
        "value": value,
        "regions": list(region.names),
        "voxels": voxels,
        "volume_ml": round(voxels * converted.ct.stack.grid.voxel_volume_mm3 / 1000, 4),
        "mean_hu": round(float(hu.mean(dtype=np.float64)), 1) if voxels else None,
        "share_of_air": round(float((hu < _AIR_BELOW_HU).mean()), 3) if voxels else None,
        "planes": [int(planes[0]), int(planes[-1])] if voxels else None,
        "interpolated_planes": sorted(set(map(int, planes)) & set(converted.ct.stack.interpolated)),
        "skipped_slices": region.skipped_slices,
        "voxels_left_to_earlier_labels": converted.overlaps_voxels.get(name, 0),
        "met": dict(region.notes),
    }


def _flags(record: Record) -> list[str]:
    """Name what asks for a look; docs/converting.md says what each means."""
    ct: Mapping[str, Any] = record["ct"]
    flags = [
        *ct["irregularities"],
        *(name for name in ("duplicate_slices", "slices_of_other_orientation") if ct[name]),
        *(["not_lps"] if ct["orientation_xyz"] != "LPS" else []),
        *([] if ct["looks_like_hu"] else ["unlikely_hu"]),
    ]
    for name, label in record["labels"].items():
        found = {
            "absent": not label["regions"],
            "empty": bool(label["regions"]) and not label["voxels"],
            "tiny": 0 < label["volume_ml"] < _TINY_ML,
            "mostly_air": (label["share_of_air"] or 0) > 0.5,
            "interpolated": bool(label["interpolated_planes"]),
            "skipped_slices": label["skipped_slices"] > 0,
            "clipped": label["met"].get("clipped", 0) > 0,
            "between_slices": label["met"].get("between_slices", 0) > 0,
            "repeated_contours": label["met"].get("twins", 0) > 0,
            "sources_disagree": record["cross_check"].get(name, 1.0) < _AGREEING_DICE,
        }
        flags.extend(f"{name}:{flag}" for flag, is_there in found.items() if is_there)
    return flags
