"""What each stored ROI crop is: whose, why, and where its training box lies in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from nnunet_cascade.errors import DatasetError
from nnunet_cascade.files import write_json
from nnunet_cascade.geometry import Box, Index, as_index
from nnunet_cascade.settings.serialization import require, to_json

MANIFEST_NAME = "roi_manifest.json"
MANIFEST_VERSION = 1

RoiKind = Literal["ground_truth", "candidate", "false_positive", "missed"]
"""Box of a true tumor, of a candidate that meets one, of one that meets none, of a tumor stage 1 missed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRoi:
    """One crop of the stage-2 training set.

    Attributes:
        case: Name of the crop as an nnU-Net case.
        patient: Name of the case it was cut from. Patients are drawn equally often.
        kind: Why the box stands there.
        box: The unjittered box in voxels of the crop, (Z, Y, X).
        jitter_voxels: How far each face of the box may move in training.
        cut_at: First voxel of the crop in the patient's image, negative where the
            crop begins outside it.
    """

    case: str
    patient: str
    kind: RoiKind
    box: Box
    jitter_voxels: Index
    cut_at: Index

    def __post_init__(self) -> None:
        require(self.kind in get_args(RoiKind), f"kind must be one of {get_args(RoiKind)}; found {self.kind!r}")
        require(min(self.jitter_voxels) >= 0, f"jitter must not be negative; found {self.jitter_voxels}")


def write_manifest(path: Path, rois: list[StoredRoi], *, provenance: Mapping[str, Any]) -> None:
    """Write the manifest of a stage-2 training set next to its name, then rename it."""
    content = {
        "version": MANIFEST_VERSION,
        "provenance": dict(provenance),
        "rois": {roi.case: {name: value for name, value in to_json(roi).items() if name != "case"} for roi in rois},
    }
    write_json(path, content)


def read_manifest(path: Path) -> dict[str, StoredRoi]:
    """Read a manifest.

    Returns:
        The crops by their case names.

    Raises:
        DatasetError: The file is not a manifest of this version.
    """
    try:
        content = json.loads(path.read_text())
        if content["version"] != MANIFEST_VERSION:
            raise DatasetError(f"{path}: version {content['version']}; expected {MANIFEST_VERSION}; make it again")
        return {case: _from_json(case, entry) for case, entry in content["rois"].items()}
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise DatasetError(f"{path} is not an ROI manifest ({error!r}); make it with nnc-roi-dataset") from error


def _from_json(case: str, entry: dict[str, Any]) -> StoredRoi:
    return StoredRoi(
        case=case,
        patient=entry["patient"],
        kind=entry["kind"],
        box=Box(as_index(entry["box"]["start"]), as_index(entry["box"]["stop"])),
        jitter_voxels=as_index(entry["jitter_voxels"]),
        cut_at=as_index(entry["cut_at"]),
    )
