"""The honest figure of a trained cascade: every patient, whole CT, by models that never saw the patient."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import joblib
import torch
from tqdm import tqdm

from nnunet_cascade.bundles.bundle import SPEC_NAME, load_cascade, read_spec
from nnunet_cascade.evaluation.case import CaseScore, score_case
from nnunet_cascade.evaluation.summary import format_table, summarize, write_scores
from nnunet_cascade.files import write_json
from nnunet_cascade.geometry import Box, Mask
from nnunet_cascade.images import ENDING, read_ct
from nnunet_cascade.postprocessing.scoring.fitting import FEWEST_SCANS, Example, FittedScore, fit_score
from nnunet_cascade.postprocessing.scoring.score import CandidateScore
from nnunet_cascade.prediction.case import PrecomputedInputs, refine_case
from nnunet_cascade.prediction.loaded import LoadedCascade
from nnunet_cascade.prediction.outputs import write_case
from nnunet_cascade.prediction.result import CaseResult, RefinedCase, assemble_result, measured_candidates
from nnunet_cascade.prediction.spec import CascadeSpec
from nnunet_cascade.settings.serialization import to_json
from nnunet_cascade.training.proposals import ProposalRequest, read_proposal, true_tumor

_log = logging.getLogger(__name__)
SCORE_NAME = "score.json"
METHODS = ("stage 1", "stage 1 + anatomy", "cascade")


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossValidation:
    """What to cross-validate.

    Attributes:
        proposals: What stage 1 proposed out of fold, as it was made.
        bundle: The cascade; stage 2 of fold k predicts fold k's validation patients.
        output: Folder for predictions, `scores.json`, `scores.csv` and `scores.md`.
        false_positives_per_scan: Fit a score that allows so many; None fits none, and the rules decide.
    """

    proposals: ProposalRequest
    bundle: Path
    output: Path
    false_positives_per_scan: float | None = None


def cross_validate(task: CrossValidation) -> str:
    """Predict each patient with the models of the fold that left the patient out, and score on the whole CT.

    Stage 1's mask is its out-of-fold proposal, stage 2 is cropped at the boxes of its candidates, and the result is
    pasted back into the CT. A score is fitted to the candidates of all patients; each patient's result is judged by
    a fit to others.

    Returns:
        The table, as Markdown; it is also written. The score stands in `score.json`; null where the rules decide.

    Raises:
        DatasetError: A patient has no out-of-fold prediction.
        CascadeError: As prediction raises.
    """
    task.output.mkdir(parents=True, exist_ok=True)
    spec = read_spec(task.bundle)
    scans = sum(len(fold["val"]) for fold in task.proposals.splits)
    if task.false_positives_per_scan is not None and scans < FEWEST_SCANS:
        _log.warning("no score is stored, the rules decide alone: %d scans; a score needs %d", scans, FEWEST_SCANS)
        return cross_validate(replace(task, false_positives_per_scan=None))
    fits = task.false_positives_per_scan is not None
    spec = replace(spec, scoring=CandidateScore.unfitted() if fits else None)
    with TemporaryDirectory(dir=task.output, prefix=".refined") as store:
        refined = list(_refined(task, spec, Path(store)))
        fitted = _fitted(task, refined)
        if fits and fitted is None:
            return cross_validate(replace(task, false_positives_per_scan=None))
        scores: dict[str, list[CaseScore]] = {method: [] for method in METHODS}
        for kept in tqdm(refined, desc="results", unit="case"):
            scoring = None if fitted is None else fitted.held_out[kept.case]
            of_case = replace(spec, stage2=replace(spec.stage2, folds=(kept.fold,)), scoring=scoring)
            # What this run has just written into a folder of its own.
            result = assemble_result(cast(RefinedCase, joblib.load(kept.path)), of_case)
            write_case(result, task.output, kept.case, spec=of_case)
            truth = true_tumor(task.proposals, kept.case, result.grid)
            for score, method in zip(score_methods(kept.case, result, truth), METHODS, strict=True):
                scores[method].append(score)
    table = format_table([summarize(method, scores[method]) for method in METHODS])
    (task.output / "scores.md").write_text(table)
    write_json(task.output / SCORE_NAME, None if fitted is None else to_json(fitted.score))
    write_scores(scores, task.output)
    return table


def store_score(task: CrossValidation) -> CandidateScore | None:
    """Put the score that a cross-validation fitted into its bundle; return it, or None where the rules decide.

    Raises:
        OSError, SettingsError, BundleError: A file cannot be read or written.
    """
    path = task.output / SCORE_NAME
    if not path.is_file():  # of an earlier release
        return None
    block = json.loads(path.read_text(encoding="utf-8"))
    score = None if block is None else CandidateScore.from_json(block, where=str(path))
    spec = read_spec(task.bundle)
    if spec.scoring != score:
        write_json(task.bundle / SPEC_NAME, replace(spec, scoring=score).to_json())
    return score


def score_methods(case: str, result: CaseResult, truth: Mask) -> tuple[CaseScore, CaseScore, CaseScore]:
    """Score what the three stages of one result give: stage 1, what is kept of it, the cascade."""
    predictions = (result.stage1, result.filtered.kept_mask(), result.tumor)
    first, second, third = (score_case(case, truth, mask, result.grid.spacing_mm) for mask in predictions)
    return first, second, third


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """A patient after stage 2, until the score is known: the fold that predicted, the file, the candidates."""

    case: str
    fold: int
    path: Path
    examples: Sequence[Example]


def _refined(task: CrossValidation, spec: CascadeSpec, store: Path) -> Iterator[_Kept]:
    """Take every patient through stage 2 of the fold that left the patient out."""
    for number, fold in enumerate(task.proposals.splits):
        of_fold = replace(spec, stage2=replace(spec.stage2, folds=(number,)))
        cascade = load_cascade(
            task.bundle,
            device=torch.device(task.proposals.device),
            spec=of_fold,
            with_stage1=False,
            trusted=task.proposals.trusted,
        )
        for case in tqdm(fold["val"], desc=f"cross-validate fold {number}", unit="case"):
            path, refined = store / f"{case}.joblib", _predict(task, case, cascade)
            joblib.dump(refined, path, compress=1)
            truth = true_tumor(task.proposals, case, refined.grid)
            examples = () if spec.scoring is None else examples_of(case, refined, spec, truth)
            yield _Kept(case=case, fold=number, path=path, examples=examples)


def _predict(task: CrossValidation, case: str, cascade: LoadedCascade) -> RefinedCase:
    image = read_ct(task.proposals.source / "imagesTr" / f"{case}_0000{ENDING}")
    proposal = read_proposal(task.proposals, case, image.grid)
    mask = proposal.mask(cascade.spec.stage1.threshold)
    return refine_case(
        image, cascade, PrecomputedInputs(case=case, stage1=mask, stage1_probability=proposal.probability)
    )


def _fitted(task: CrossValidation, refined: Sequence[_Kept]) -> FittedScore | None:
    if task.false_positives_per_scan is None:
        return None
    examples = [example for kept in refined for example in kept.examples]
    scans = [kept.case for kept in refined]
    fitted = fit_score(examples, scans, false_positives_per_scan=task.false_positives_per_scan)
    if isinstance(fitted, FittedScore):
        return fitted
    _log.warning("no score is stored, the rules decide alone: %s", fitted)
    return None


def examples_of(case: str, refined: RefinedCase, spec: CascadeSpec, truth: Mask) -> Sequence[Example]:
    """Return the candidates of a case that stage 2 looked at, each with the truth about it."""
    measured, findings = measured_candidates(refined, spec)

    def meets_truth(drawn: tuple[Box, Mask] | None) -> bool:
        return drawn is not None and bool(truth[drawn[0].slices][drawn[1]].any())

    return [
        Example(
            scan=case,
            candidate=each,
            candidate_is_tumor=meets_truth((each.box, measured.labels[each.box.slices] == each.id)),
            finding_is_tumor=meets_truth(findings.drawn_for(each.id)),
        )
        for each in measured.kept
    ]
