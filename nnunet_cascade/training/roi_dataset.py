"""The stage-2 training set: one generous crop per candidate, as an nnU-Net raw dataset."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from nnunet_cascade.atomic_folder import atomic_folder
from nnunet_cascade.case_folders.same_request import require_same_settings
from nnunet_cascade.dataset_labels import CUT_FROM, DatasetLabels
from nnunet_cascade.errors import DatasetError, NoLungsError
from nnunet_cascade.files import write_json
from nnunet_cascade.geometry import Box, Grid, Index, Labels, Mask, Spacing, as_index, crop_with_fill
from nnunet_cascade.images import AIR_HU, ENDING, Volume, read_ct, read_labels, write_image
from nnunet_cascade.nnunet_folders import nnunet_folder, read_json
from nnunet_cascade.postprocessing.anatomy import AnatomySettings, filter_candidates
from nnunet_cascade.postprocessing.lungs.source import LungSource, find_lungs
from nnunet_cascade.postprocessing.merging import label_candidates
from nnunet_cascade.prediction.edge_channel import EDGE_CHANNEL, edge_magnitude
from nnunet_cascade.prediction.roi import with_margin
from nnunet_cascade.prediction.spec import RoiSettings
from nnunet_cascade.settings.serialization import require, to_json
from nnunet_cascade.trainers.roi_manifest import MANIFEST_NAME, StoredRoi, write_manifest
from nnunet_cascade.training.crop_plan import CropPlan
from nnunet_cascade.training.proposals import Proposal, ProposalRequest, read_proposal
from nnunet_cascade.training.roi_boxes import (
    FoundBox,
    boxes_from_candidates,
    boxes_from_truth,
    limit_false_positives,
)
from nnunet_cascade.versions import versions

LEAK = (
    "Boxes of a fold's training patients come from stage-1 models that were trained on other folds, among them this "
    "fold's validation patients: stage 2 never sees a validation patient, but its training boxes were drawn by "
    "networks that did."
)
_BEFORE = {"threshold": 0.5, "ask_stage2": False, "plan": None}
"""How crops of earlier releases were cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoiDatasetRequest:
    """How crops are cut.

    Attributes:
        source: Folder of the raw nnU-Net dataset with whole images.
        target: Folder of the raw dataset to make; it must not be there yet.
        splits: Folds of the source, patient by patient: nnU-Net's splits_final.json.
        proposals: What stage 1 proposed out of fold, as it was made; None takes boxes from the ground truth.
        threshold: Of stage 1's masks, one of those of the proposals.
        ask_stage2: Cut what the rules leave to stage 2 as well.
        tumor_labels: Label values of the source that are tumor; several become one.
        anatomy: The rules a candidate must pass; every one that passes is cut, not
            the top k alone.
        lungs: Where lung masks come from.
        roi: How boxes are grown, as at prediction; regions are cut one by one even where they overlap.
        edge_channel: Whether crops get the CT's edge magnitude as a second channel.
        jitter_mm: How far each face of the box may move in training.
        context_mm: Extent along (Z, Y, X) a crop has at least: what training of stage 2 cuts.
        plan: How stage 2 is planned, which the plans on the crops take over; None lets them follow
            from the crops.
        max_false_positive_share: Of all crops.
        seed: Of the choice among false positives.
    """

    source: Path
    target: Path
    splits: Sequence[Mapping[str, Sequence[str]]]
    proposals: ProposalRequest | None = None
    threshold: float = 0.5
    ask_stage2: bool = False
    tumor_labels: tuple[int, ...] = (1,)
    anatomy: AnatomySettings = field(default_factory=AnatomySettings.recommended)
    lungs: LungSource = field(default_factory=LungSource)
    roi: RoiSettings = field(default_factory=RoiSettings)
    edge_channel: bool = False
    jitter_mm: float = 8.0
    context_mm: Spacing = (96.0, 96.0, 96.0)
    plan: CropPlan | None = None
    max_false_positive_share: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.jitter_mm >= 0, f"jitter_mm must not be negative; found {self.jitter_mm}")
        require(min(self.context_mm) > 0, f"context_mm must be positive; found {self.context_mm}")
        share = self.max_false_positive_share
        require(0 <= share < 1, f"max_false_positive_share must lie in 0…1, below 1; found {share}")


def make_roi_dataset(request: RoiDatasetRequest) -> list[StoredRoi]:
    """Cut the crops and write them as an nnU-Net raw dataset with patient-wise folds.

    The dataset appears under its name when it is complete. Its ROI manifest is also
    put into nnU-Net's preprocessed folder, where training looks first.

    Args:
        request: How crops are cut.

    Returns:
        The crops, by patient.

    Raises:
        DatasetError: The target exists, an image has no out-of-fold prediction or a fold
            would have no crop to train or validate on.
        SettingsError: The tumor is not one or several of the labels, or not one of the regions.
        InputImageError, GridMismatchError: An image of the source is bad.
    """
    _require_possible(request)
    patients = sorted({name for fold in request.splits for part in ("train", "val") for name in fold[part]})
    found = list(_found_boxes(patients, request))
    chosen = limit_false_positives(found, share=request.max_false_positive_share, seed=request.seed)
    request.target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(request.target, alone=True, error=DatasetError) as folder:
        rois = list(_cut(chosen, request, folder))
        write_json(folder / "splits_final.json", patient_splits(request.splits, rois))
        _write_descriptions(rois, request, folder)
    preprocessed = nnunet_folder("nnUNet_preprocessed") / request.target.name
    preprocessed.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(request.target / MANIFEST_NAME, preprocessed / MANIFEST_NAME)
    return rois


def _require_possible(request: RoiDatasetRequest) -> None:
    """Raise before hours of work where the set cannot be made, or would be mixed with an earlier one."""
    preprocessed = nnunet_folder("nnUNet_preprocessed") / request.target.name
    for folder in (request.target, preprocessed / "splits_final.json"):
        if folder.exists():
            raise DatasetError(f"{folder} is there already; remove {request.target} and {preprocessed} to make it anew")
    description = read_json(request.source / "dataset.json")
    channels = description.get("channel_names", {"0": "CT"})
    if len(channels) != 1 or "ignore" in description.get("labels", {}):
        raise DatasetError(
            f"{request.source} has channels {channels} and labels {description.get('labels')}; "
            "expected one channel, the CT, and no ignore label"
        )
    labels = DatasetLabels.of(description, where=str(request.source / "dataset.json"))
    labels.names_of(request.tumor_labels)


def patient_splits(
    splits: Sequence[Mapping[str, Sequence[str]]], rois: Sequence[StoredRoi]
) -> list[dict[str, list[str]]]:
    """Turn folds of patients into the same folds of crops.

    Raises:
        DatasetError: A fold has no crop to train or to validate on.
    """
    folds: list[dict[str, list[str]]] = []
    for number, fold in enumerate(splits):
        parts = {part: sorted(roi.case for roi in rois if roi.patient in set(fold[part])) for part in ("train", "val")}
        for part, cases in parts.items():
            if not cases:
                raise DatasetError(
                    f"fold {number} has no crop to {part} on; use fewer folds or boxes from the ground truth"
                )
        folds.append(parts)
    return folds


def _found_boxes(patients: Sequence[str], request: RoiDatasetRequest) -> Iterator[FoundBox]:
    for patient in tqdm(patients, desc="boxes", unit="case"):
        image = read_ct(request.source / "imagesTr" / f"{patient}_0000{ENDING}")
        tumors = true_tumors(request, patient, image.grid)
        if request.proposals is None:
            yield from boxes_from_truth(patient, tumors)
        else:
            proposal = read_proposal(request.proposals, patient, image.grid)
            yield from boxes_from_candidates(patient, _passing(image, proposal, request, patient), tumors)


def true_tumors(request: RoiDatasetRequest, patient: str, grid: Grid) -> Labels:
    """Return the true tumors of a patient by number, fragments merged as the rules merge candidates."""
    labels = read_labels(request.source / "labelsTr" / f"{patient}{ENDING}", grid, what="label")
    mask: Mask = np.isin(labels, request.tumor_labels)
    return label_candidates(mask, grid, request.anatomy.merge)


def _passing(image: Volume, proposal: Proposal, request: RoiDatasetRequest, patient: str) -> Labels:
    """Return the candidates that pass the rules, however many they are."""
    coarse = proposal.mask(request.threshold)
    if not coarse.any():
        return np.zeros(image.grid.shape, dtype=np.int32)
    try:
        lungs = find_lungs(image, request.lungs, case=patient)
    except NoLungsError:
        lungs = None
    every = replace(request.anatomy, top_k="all")
    filtered = filter_candidates(
        coarse, image.grid, lungs, every, probability=proposal.probability, ask_stage2=request.ask_stage2
    )
    return np.where(filtered.kept_mask(), filtered.labels, 0)


def _cut(found: Sequence[FoundBox], request: RoiDatasetRequest, folder: Path) -> Iterator[StoredRoi]:
    by_patient: dict[str, list[FoundBox]] = {}
    for item in found:
        by_patient.setdefault(item.patient, []).append(item)
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir()
    for patient, items in tqdm(by_patient.items(), desc="crops", unit="case"):
        image = read_ct(request.source / "imagesTr" / f"{patient}_0000{ENDING}")
        labels = read_labels(request.source / "labelsTr" / f"{patient}{ENDING}", image.grid, what="label")
        tumor = np.isin(labels, request.tumor_labels).astype(np.float32)
        for number, item in enumerate(items, start=1):
            roi, crop = stored_roi(item, number, image.grid, request)
            grid = image.grid.cropped(crop)
            air = crop_with_fill(image.array, crop, fill=AIR_HU).astype(np.float32)
            write_image(air, grid, folder / "imagesTr" / f"{roi.case}_0000{ENDING}")
            if request.edge_channel:
                edges = edge_magnitude(air, grid.spacing_mm)
                write_image(edges, grid, folder / "imagesTr" / f"{roi.case}_0001{ENDING}")
            truth = crop_with_fill(tumor, crop, fill=0).astype(np.uint8)
            write_image(truth, grid, folder / "labelsTr" / f"{roi.case}{ENDING}")
            yield roi


def stored_roi(found: FoundBox, number: int, grid: Grid, request: RoiDatasetRequest) -> tuple[StoredRoi, Box]:
    """Plan one stored crop: the box with margin, at least as large as the context, and the jitter range on top.

    Args:
        found: The bare box.
        number: Of the crop among the patient's.
        grid: Of the patient's image.
        request: Margin, jitter and context.

    Returns:
        The crop's entry in the manifest, and the crop in voxels of the image; it may
        reach outside the image.
    """
    box = with_margin(found.box, grid, request.roi)
    jitter = _voxels(request.jitter_mm, grid.spacing_mm)
    crop = box.at_least(_voxels_that_hold(request.context_mm, grid.spacing_mm)).grown(jitter)
    roi = StoredRoi(
        case=f"{found.patient}_roi{number:02d}",
        patient=found.patient,
        kind=found.kind,
        box=box.relative_to(crop),
        jitter_voxels=jitter,
        cut_at=crop.start,
    )
    return roi, crop


def _write_descriptions(rois: Sequence[StoredRoi], request: RoiDatasetRequest, folder: Path) -> None:
    source = read_json(request.source / "dataset.json")
    channels: dict[str, str] = source.get("channel_names", {"0": "CT"})
    description: dict[str, Any] = {
        "channel_names": {**channels, "1": EDGE_CHANNEL} if request.edge_channel else channels,
        "labels": {"background": 0, "tumor": 1},
        "numTraining": len(rois),
        "file_ending": ENDING,
        "overwrite_image_reader_writer": "SimpleITKIO",
        "description": f"ROI crops of {request.source.name}, made by nnc-roi-dataset for stage 2 of a cascade",
        CUT_FROM: {"dataset": request.source.name, "tumor_labels": sorted(request.tumor_labels)},
    }
    write_json(folder / "dataset.json", description)
    write_manifest(folder / MANIFEST_NAME, list(rois), provenance={**_provenance(request), "versions": versions()})


def _provenance(request: RoiDatasetRequest) -> dict[str, Any]:
    """Return what decides the crops."""
    return {
        "boxes": "ground_truth" if request.proposals is None else "out_of_fold",
        "source": request.source.name,
        "stage1": None if request.proposals is None else request.proposals.model.name,
        "threshold": request.threshold,
        "ask_stage2": request.ask_stage2,
        "tumor_labels": request.tumor_labels,
        "anatomy": to_json(request.anatomy),
        "margin_mm": request.roi.margin_mm,
        "margin_voxels": request.roi.margin_voxels,
        "jitter_mm": request.jitter_mm,
        "context_mm": request.context_mm,
        "plan": None if request.plan is None else to_json(request.plan),
        "seed": request.seed,
        "leak": LEAK if request.proposals is not None else None,
    }


def require_made_so(request: RoiDatasetRequest) -> None:
    """Check that crops that are there were cut as these would be; what an older release did not write is not compared.

    Raises:
        DatasetError: They were cut otherwise, or cannot be read.
    """
    known = read_json(request.target / MANIFEST_NAME).get("provenance", {})
    wanted = json.loads(json.dumps(_provenance(request)))
    require_same_settings(
        wanted,
        {**wanted, **_BEFORE, **known},
        what=f"{request.target} was cut",
        advice="give another number for the ROI dataset, or remove it with its preprocessed data and models",
        free={"leak", "anatomy", "threshold", "ask_stage2"} if request.proposals is None else {"leak"},
    )


def _voxels_that_hold(extent_mm: Spacing, spacing_mm: Spacing) -> Index:
    """Return the fewest voxels that are no shorter than an extent, so that none lacks after resampling."""
    return as_index(math.ceil(length / size - 1e-6) for length, size in zip(extent_mm, spacing_mm, strict=True))


def _voxels(length_mm: float, spacing_mm: Spacing) -> Index:
    return as_index(round(length_mm / size) for size in spacing_mm)
