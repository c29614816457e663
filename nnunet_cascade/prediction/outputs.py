"""What is written for a case: images on the CT's own grid and a record that explains them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.case_folders.case_record import CaseRecord
from nnunet_cascade.case_folders.record_parts import (
    CoarseUncertaintyRecord,
    ImageRecord,
    IslandsRecord,
    LungRecord,
    RoiRecord,
    Stage1Record,
    TumorRecord,
    UncertaintyRecord,
    VaryingRecord,
)
from nnunet_cascade.case_folders.records import CaseFingerprint, write_record
from nnunet_cascade.case_folders.typed_json import read_part
from nnunet_cascade.geometry import MM3_PER_ML, Box, Grid, Labels, Mask
from nnunet_cascade.images import ENDING, write_image
from nnunet_cascade.prediction.result import CaseResult
from nnunet_cascade.prediction.roi import Roi
from nnunet_cascade.prediction.spec import CascadeSpec
from nnunet_cascade.uncertainty.sampling_types import SamplingSummary
from nnunet_cascade.uncertainty_measures import MEASURES
from nnunet_cascade.versions import NOTICE, versions


def write_case(  # noqa: PLR0913 - what was found, where it goes, and what the record says besides
    result: CaseResult,
    folder: Path,
    case: str,
    *,
    spec: CascadeSpec,
    notes: tuple[str, ...] = (),
    made_from: CaseFingerprint | None = None,
    varying: Mapping[str, Any] | None = None,
) -> None:
    """Write the images of a case, then its record, which is there only when all else is.

    Args:
        result: Of the case.
        folder: Where to write; it must be there.
        case: Start of each file name.
        spec: The settings it was predicted with.
        notes: Further lines for the record, such as what the models were trained on.
        made_from: What decided the result; None names the settings alone.
        varying: What else of this very run the record tells, such as the device.

    Raises:
        InputImageError: An image cannot be written.
        OSError: The record cannot be written.
    """
    maps: dict[str, NDArray[Any] | None] = {
        "": result.tumor,
        "_probability": result.probability,
        "_roi": result.regions,
        "_stage1": result.stage1,
        "_candidates": result.filtered.labels,
        "_proposals": result.proposals,
        "_uncertainty": result.uncertainty,
        "_stage1_uncertainty": result.stage1_uncertainty,
        "_lungs": None if result.lungs is None else result.lungs.labels,
    }
    images = {suffix: array for suffix, array in maps.items() if array is not None}
    for suffix, array in images.items():
        written = array.astype(np.uint16) if suffix == "_candidates" else array
        write_image(written, result.grid, folder / f"{case}{suffix}{ENDING}")
    record = case_record(result, case, spec=spec, notes=notes)
    image = read_part(ImageRecord, (varying or {}).get("image"), where="image", strict=True)
    record = replace(
        record,
        varying=replace(record.varying, **{**(varying or {}), "image": image}),
        files=dict.fromkeys(f"{case}{suffix}{ENDING}" for suffix in images),
    )
    write_record(folder, record, made_from or CaseFingerprint(settings=spec.to_json()))


def case_record(result: CaseResult, case: str, *, spec: CascadeSpec, notes: tuple[str, ...] = ()) -> CaseRecord:
    """Return the record of a case; what varies from run to run stands in `varying` alone."""
    voxels, lungs = int(np.count_nonzero(result.tumor)), result.lungs
    return CaseRecord(
        case=case,
        notice=NOTICE,
        notes=(*notes, *result.notes),
        flags=result.flags,
        grid=result.grid,
        tumor=TumorRecord(voxels=voxels, volume_ml=_ml(voxels, result.grid), temperature=spec.stage2.temperature),
        lesions=tuple(lesion.to_record() for lesion in result.lesions),
        uncertainty=_uncertainty(result, spec),
        stage1=Stage1Record(
            given=result.stage1_given,
            candidates=len(result.filtered.candidates),
            volume_ml=_ml(int(np.count_nonzero(result.stage1)), result.grid),
            uncertainty=_stage1_uncertainty(result),
        ),
        lungs=lungs and LungRecord(source=lungs.source, volume_ml=round(lungs.volume_ml, 3), flags=lungs.flags),
        candidates=tuple(candidate.to_record() for candidate in result.filtered.candidates),
        rois=tuple(_roi(result, roi) for roi in result.rois),
        islands=IslandsRecord(
            policy=spec.roi.islands,
            count=result.islands.count,
            volume_ml=_ml(result.islands.voxels, result.grid),
        ),
        settings=spec.to_json(),
        versions=versions(),
        varying=VaryingRecord(seconds=result.seconds, results_moved_off_the_device=tuple(result.moved_results)),
    )


def _uncertainty(result: CaseResult, spec: CascadeSpec) -> UncertaintyRecord | None:
    if result.uncertainty is None:
        return None
    values, regions, tumor = _where_regions_are(result)
    inside = regions > 0
    return UncertaintyRecord(
        **_sampling(result.sampling),
        seed=spec.sampling.seed,
        mean_in_tumor=float(values[tumor].mean()) if tumor.any() else None,
        mean_in_rois=float(values[inside].mean()) if inside.any() else None,
        total_ml=_total_ml(values[inside], result.grid),
        volume=None if result.volumes is None else result.volumes.case.to_record(),
    )


def _where_regions_are(result: CaseResult) -> tuple[NDArray[np.float32], Labels, Mask]:
    """Return uncertainty, regions and tumor inside the smallest box that holds all regions; else there is nothing."""
    boxes = [roi.box for roi in result.rois] or [Box((0, 0, 0), (1, 1, 1))]
    here = reduce(Box.union, boxes).slices
    uncertainty = np.zeros(result.grid.shape, np.float32) if result.uncertainty is None else result.uncertainty
    return uncertainty[here], result.regions[here], result.tumor[here]


def _stage1_uncertainty(result: CaseResult) -> CoarseUncertaintyRecord | None:
    if result.stage1_uncertainty is None:
        return None
    inside = result.stage1_uncertainty[result.stage1]
    return CoarseUncertaintyRecord(
        **_sampling(result.stage1_sampling),
        mean_in_mask=float(inside.mean()) if inside.size else None,
        total_ml=_total_ml(result.stage1_uncertainty, result.grid),
    )


def _sampling(summary: SamplingSummary | None) -> dict[str, Any]:
    """Say what was sampled, how often, and what was made of it."""
    if summary is None:
        return {}
    definition = MEASURES[summary.measure].definition
    return {**asdict(summary), "definition": definition, "total_samples": summary.total_samples}


def _total_ml(values: NDArray[np.float32], grid: Grid) -> float:
    """Return the integral of a measure over space, in its unit times ml."""
    return float(values.sum(dtype=np.float64)) * grid.voxel_volume_mm3 / MM3_PER_ML


def _roi(result: CaseResult, roi: Roi) -> RoiRecord:
    tumor = result.tumor[roi.box.slices]
    uncertainty = None if result.uncertainty is None or not tumor.any() else result.uncertainty[roi.box.slices][tumor]
    return RoiRecord(
        id=roi.id,
        candidate=roi.candidate,
        box=roi.box,
        tumor_ml=_ml(int(tumor.sum()), result.grid),
        mean_uncertainty_in_tumor=None if uncertainty is None else float(uncertainty.mean()),
        volume=None if result.volumes is None else result.volumes.regions[roi.id].to_record(),
        clipped=roi.id in result.clipped_rois,
    )


def _ml(voxels: int, grid: Grid) -> float:
    return round(voxels * grid.voxel_volume_mm3 / MM3_PER_ML, 4)
