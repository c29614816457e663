"""What stage 1 proposes in scans that it had not seen, from sensitive to strict."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from tqdm import tqdm

from nnunet_cascade.case_folders.prediction_files import TumorLabel, read_true_tumor
from nnunet_cascade.case_folders.same_request import require_same_request
from nnunet_cascade.errors import DatasetError
from nnunet_cascade.files import sha256_of, write_json
from nnunet_cascade.geometry import Grid, Image, Labels, Mask
from nnunet_cascade.images import ENDING, read_ct, read_labels, read_volume, write_image
from nnunet_cascade.morphology import label_components
from nnunet_cascade.nnunet_folders import read_json
from nnunet_cascade.postprocessing.anatomy import FilteredCandidates, filter_candidates
from nnunet_cascade.prediction.case import PrecomputedInputs, find_lungs_or_reason
from nnunet_cascade.prediction.judgement import limit_candidates
from nnunet_cascade.prediction.refinement import stage_turn
from nnunet_cascade.prediction.spec import CascadeSpec
from nnunet_cascade.prediction.stage_model import StageModel
from nnunet_cascade.settings.serialization import to_json

_log = logging.getLogger(__name__)
SENSITIVE = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
"""Thresholds that a cascade with a score can choose from, rising."""
THRESHOLD_NAME = "stage1_threshold.json"
_LEAST_SHARE = 0.05
_FOLDER, _PROBABILITY = "proposals", "_probability"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalRequest:
    """What is to be proposed.

    Attributes:
        source: Raw nnU-Net dataset with whole images.
        splits: Its folds, patient by patient.
        model: Model folder of stage 1; the model of fold k predicts fold k's validation patients.
        spec: How stage 1 predicts, and what the rules ask; its folds and threshold are not used.
        thresholds: Of the masks, rising.
        tumor_labels: Label values that are tumor.
        device: cpu, cuda or mps.
        trusted: Whether trainers of any origin may be loaded.
    """

    source: Path
    splits: Sequence[Mapping[str, Sequence[str]]]
    model: Path
    spec: CascadeSpec
    thresholds: tuple[float, ...]
    tumor_labels: tuple[int, ...] = (1,)
    device: str = "cpu"
    trusted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What stage 1 says of one patient.

    Attributes:
        levels: (Z, Y, X), how many of the thresholds a voxel passes.
        probability: (Z, Y, X), of the tumor; 0 where no voxel around passes the first threshold.
        thresholds: Rising.
    """

    levels: Labels
    probability: Image
    thresholds: tuple[float, ...]

    def mask(self, threshold: float) -> Mask:
        """Return the mask (Z, Y, X) of one of the thresholds.

        Raises:
            DatasetError: It is none of them.
        """
        if threshold not in self.thresholds:
            raise DatasetError(f"stage 1 proposed with thresholds {self.thresholds}; asked for is {threshold}")
        return np.asarray(self.levels > self.thresholds.index(threshold))


def make_proposals(request: ProposalRequest) -> None:
    """Predict each patient with the model of the fold that left the patient out; goes on where it stopped.

    Raises:
        DatasetError: A fold is not trained, or earlier proposals were made otherwise.
        BundleError: The model cannot be loaded.
    """
    for number, fold in enumerate(request.splits):
        folder = _folder(request.model, number)
        checkpoint = folder.parent / request.spec.stage1.checkpoint
        if not checkpoint.is_file():
            raise DatasetError(f"{checkpoint} is missing; train every fold of stage 1 to its end")
        # One fold is its own average.
        stage = replace(request.spec.stage1, folds=(number,), threshold=request.thresholds[0], average="logits")
        require_same_request(
            folder / "request.json",
            {"stage": to_json(stage), "thresholds": request.thresholds, "checkpoint": sha256_of(checkpoint)},
            advice=f"remove {folder} to make them anew",
        )
        missing = [case for case in fold["val"] if not (folder / f"{case}{ENDING}").is_file()]
        if not missing:
            continue
        (request.model / THRESHOLD_NAME).unlink(missing_ok=True)  # it was chosen on others
        model = StageModel(request.model, stage, device=torch.device(request.device), trusted=request.trusted)
        for case in tqdm(missing, desc=f"stage 1 out of fold {number}", unit="case"):
            image = read_ct(_image(request.source, case))
            turn = stage_turn(stage, image.grid)
            prepared = model.prepare_coarse(image.array, image.grid.spacing_mm, turn)
            levels, probability = model.predict_levels(prepared, request.thresholds, turn)
            write_image(probability, image.grid, folder / f"{case}{_PROBABILITY}{ENDING}")
            write_image(levels, image.grid, folder / f"{case}{ENDING}")  # last: it says that both are there


def read_proposal(request: ProposalRequest, case: str, grid: Grid) -> Proposal:
    """Read what was proposed for a patient.

    Raises:
        DatasetError: Nothing was.
        InputImageError, GridMismatchError: A file is broken or of another grid.
    """
    number = next((number for number, fold in enumerate(request.splits) if case in fold["val"]), None)
    path = None if number is None else _folder(request.model, number) / f"{case}{ENDING}"
    if path is None or not path.is_file():
        raise DatasetError(
            f"{case} has no out-of-fold prediction in {request.model}/fold_*/{_FOLDER}; "
            "train every fold of stage 1 to its end, or take boxes from the ground truth"
        )
    levels = read_labels(path, grid, what="stage-1 proposal")
    probability = read_volume(path.with_name(f"{case}{_PROBABILITY}{ENDING}"))
    grid.require_same(probability.grid, what="stage-1 probability")
    return Proposal(levels=levels, probability=probability.array, thresholds=request.thresholds)


def true_tumor(request: ProposalRequest, case: str, grid: Grid) -> Mask:
    """Read the true tumor (Z, Y, X) of a patient."""
    tumor = TumorLabel(values=request.tumor_labels, named=True)
    return read_true_tumor(request.source / "labelsTr" / f"{case}{ENDING}", case, grid, tumor)


def _folder(model: Path, fold: int) -> Path:
    return model / f"fold_{fold}" / _FOLDER


def _image(source: Path, case: str) -> Path:
    return source / "imagesTr" / f"{case}_0000{ENDING}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdTrial:
    """What goes to stage 2 if stage 1's masks are cut at a threshold.

    Attributes:
        threshold: It.
        lesions: True lesions of all scans.
        found: Those that have a candidate of their own which goes to stage 2.
        candidates: That go there, of all scans.
        scans: Their number.
    """

    threshold: float
    lesions: int = 0
    found: int = 0
    candidates: int = 0
    scans: int = 0

    def adding(self, lesions: int, found: int, candidates: int) -> ThresholdTrial:
        """Return the trial with one scan more."""
        return replace(
            self,
            lesions=self.lesions + lesions,
            found=self.found + found,
            candidates=self.candidates + candidates,
            scans=self.scans + 1,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenThreshold:
    """The threshold of stage 1, and all that were tried."""

    threshold: float
    trials: tuple[ThresholdTrial, ...] = field(default=())


def propose(request: ProposalRequest) -> float:
    """Make the proposals and return the threshold of stage 1's masks; what is done is not done again.

    Where there is a choice it is made by `choose_threshold` and kept in the model folder, in
    `stage1_threshold.json`, for people to read and for `nnc-make-bundle`.

    Raises:
        DatasetError, BundleError: As `make_proposals`.
    """
    make_proposals(request)
    path = request.model / THRESHOLD_NAME
    if len(request.thresholds) > 1 and not path.is_file():
        write_json(path, to_json(choose_threshold(request)))
    return proposed_threshold(request)


def proposed_threshold(request: ProposalRequest) -> float:
    """Return the threshold of proposals that are made: the only one, or the one that was chosen.

    Raises:
        DatasetError: As `kept_threshold`.
    """
    return request.thresholds[0] if len(request.thresholds) == 1 else kept_threshold(request.model)


def kept_threshold(model: Path) -> float:
    """Return the threshold that was chosen for a model.

    Raises:
        DatasetError: None was, or the file cannot be read.
    """
    found = read_json(model / THRESHOLD_NAME).get("threshold")
    if not isinstance(found, float):
        raise DatasetError(f"{model / THRESHOLD_NAME} holds no threshold; remove it, and it is chosen anew")
    return found


def choose_threshold(request: ProposalRequest) -> ChosenThreshold:
    """Choose the largest threshold that lets stage 2 see as many lesions as any, on proposals out of fold."""
    trials = {threshold: ThresholdTrial(threshold=threshold) for threshold in request.thresholds}
    cases = sorted({case for fold in request.splits for case in fold["val"]})
    for case in tqdm(cases, desc="stage 1's threshold", unit="case"):
        for threshold, counts in _tried(request, case):
            trials[threshold] = trials[threshold].adding(*counts)
    most = max(trial.found for trial in trials.values())
    chosen = max(trial.threshold for trial in trials.values() if trial.found == most)
    told = trials[chosen]
    _log.info(
        "stage 1 proposes from a probability of %g on: %d of %d lesions, %.1f candidates a scan",
        chosen,
        told.found,
        told.lesions,
        told.candidates / max(told.scans, 1),
    )
    return ChosenThreshold(threshold=chosen, trials=tuple(trials.values()))


def _tried(request: ProposalRequest, case: str) -> Iterator[tuple[float, tuple[int, int, int]]]:
    """Yield the number of lesions, of those found, and of candidates, for each threshold."""
    image = read_ct(_image(request.source, case))
    lesions = label_components(true_tumor(request, case, image.grid))
    count_of_lesions = int(lesions.max())
    lungs = find_lungs_or_reason(image, request.spec, PrecomputedInputs(case=case)).mask
    proposal = read_proposal(request, case, image.grid)
    for threshold in request.thresholds:
        filtered = filter_candidates(
            proposal.mask(threshold),
            image.grid,
            lungs,
            request.spec.anatomy,
            probability=proposal.probability,
            ask_stage2=True,
        )
        asked = limit_candidates(filtered, request.spec)
        yield threshold, (count_of_lesions, _standing_for(lesions, asked), len(asked.kept))


def _standing_for(lesions: NDArray[np.uint32], asked: FilteredCandidates) -> int:
    """Return how many lesions have a candidate of their own.

    A candidate stands for one lesion, and only if the lesion makes up a twentieth of it: what covers half the chest has
    found nothing.
    """
    kept = asked.kept
    if not kept or not lesions.any():
        return 0
    pairs = np.zeros((len(kept), int(lesions.max())), dtype=np.bool_)
    for row, candidate in enumerate(kept):
        here = candidate.box.slices
        shared = np.bincount(lesions[here][asked.labels[here] == candidate.id], minlength=pairs.shape[1] + 1)[1:]
        pairs[row] = shared >= _LEAST_SHARE * candidate.voxels
    found = maximum_bipartite_matching(csr_array(pairs), perm_type="row")
    return int(np.count_nonzero(found >= 0))
