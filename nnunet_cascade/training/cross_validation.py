"""The honest figure of a trained cascade: every patient, whole CT, by models that never saw the patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from nnunet_cascade.bundles.bundle import load_cascade, read_spec
from nnunet_cascade.evaluation.case import CaseScore, score_case
from nnunet_cascade.evaluation.summary import format_table, summarize, write_scores
from nnunet_cascade.geometry import Grid, Mask
from nnunet_cascade.images import ENDING, read_ct, read_labels
from nnunet_cascade.prediction.case import CaseResult, PrecomputedInputs, predict_case
from nnunet_cascade.prediction.loaded import LoadedCascade
from nnunet_cascade.prediction.outputs import write_case
from nnunet_cascade.training.roi_boxes import out_of_fold_masks

METHODS = ("stage 1", "stage 1 + anatomy", "cascade")


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossValidation:
    """What to cross-validate.

    Attributes:
        source: Raw dataset with whole images.
        splits: Its folds, patient by patient.
        stage1_model: Model folder with stage 1's out-of-fold predictions.
        bundle: The cascade; stage 2 of fold k predicts fold k's validation patients.
        output: Folder for predictions, `scores.json`, `scores.csv` and `scores.md`.
        device: Where to predict.
        tumor_labels: Label values that are tumor, in the labels and in stage 1's predictions.
        trusted: Whether the bundle may run code of its own choice.
    """

    source: Path
    splits: Sequence[Mapping[str, Sequence[str]]]
    stage1_model: Path
    bundle: Path
    output: Path
    device: str
    tumor_labels: tuple[int, ...] = (1,)
    trusted: bool = False


def cross_validate(task: CrossValidation) -> str:
    """Predict each patient with the models of the fold that left the patient out, and score on the whole CT.

    Stage 1's mask is its out-of-fold prediction, stage 2 is cropped at the boxes the
    rules keep of it, and the result is pasted back into the CT.

    Returns:
        The table, as Markdown; it is also written.

    Raises:
        DatasetError: A patient has no out-of-fold prediction.
        CascadeError: As prediction raises.
    """
    task.output.mkdir(parents=True, exist_ok=True)
    spec = read_spec(task.bundle)
    scores: dict[str, list[CaseScore]] = {method: [] for method in METHODS}
    for number, fold in enumerate(task.splits):
        of_fold = replace(spec, stage2=replace(spec.stage2, folds=(number,)))
        device = torch.device(task.device)
        cascade = load_cascade(task.bundle, device=device, spec=of_fold, with_stage1=False, trusted=task.trusted)
        masks = out_of_fold_masks(task.stage1_model, fold["val"])
        for case in tqdm(fold["val"], desc=f"cross-validate fold {number}", unit="case"):
            result, truth = _predict(task, case, masks[case], cascade)
            for score, method in zip(score_methods(case, result, truth), METHODS, strict=True):
                scores[method].append(score)
    table = format_table([summarize(method, scores[method]) for method in METHODS])
    (task.output / "scores.md").write_text(table)
    write_scores(scores, task.output)
    return table


def score_methods(case: str, result: CaseResult, truth: Mask) -> tuple[CaseScore, CaseScore, CaseScore]:
    """Score what the three stages of one result give: stage 1, what the rules keep of it, the cascade."""
    predictions = (result.stage1, result.filtered.kept_mask(), result.tumor)
    first, second, third = (score_case(case, truth, mask, result.grid.spacing_mm) for mask in predictions)
    return first, second, third


def out_of_fold_tumor(task: CrossValidation, path: Path, grid: Grid) -> Mask:
    """Read the tumor (Z, Y, X) in an out-of-fold prediction of stage 1."""
    return np.isin(read_labels(path, grid, what="stage-1 prediction"), task.tumor_labels)


def true_tumor(task: CrossValidation, case: str, grid: Grid) -> Mask:
    """Read the true tumor (Z, Y, X) of a case."""
    labels = read_labels(task.source / "labelsTr" / f"{case}{ENDING}", grid, what="label")
    return np.isin(labels, task.tumor_labels)


def _predict(task: CrossValidation, case: str, stage1: Path, cascade: LoadedCascade) -> tuple[CaseResult, Mask]:
    image = read_ct(task.source / "imagesTr" / f"{case}_0000{ENDING}")
    coarse, truth = out_of_fold_tumor(task, stage1, image.grid), true_tumor(task, case, image.grid)
    result = predict_case(image, cascade, PrecomputedInputs(case=case, stage1=coarse))
    write_case(result, task.output, case, spec=cascade.spec)
    return result, truth
