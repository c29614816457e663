"""The whole reproduction, resumable at every step."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from nnunet_cascade.case_folders.run_report import RunContext
from nnunet_cascade.case_folders.same_request import require_same_request
from nnunet_cascade.errors import CascadeError
from nnunet_cascade.nnunet_folders import own_nnunet_folders
from nnunet_cascade.reproduction.cases import EvaluationSplit, evaluation_splits, require_possible
from nnunet_cascade.reproduction.evaluation import evaluate_table, score_systems
from nnunet_cascade.reproduction.prediction import predict_all
from nnunet_cascade.reproduction.report import RunDescription, write_report
from nnunet_cascade.reproduction.request import ReproductionRequest
from nnunet_cascade.reproduction.tables import UNCERTAINTY_TABLE
from nnunet_cascade.reproduction.training import make_phantoms, train_all
from nnunet_cascade.reproduction.uncertainty_quality import UncertaintyQuality, evaluate_uncertainty
from nnunet_cascade.settings.serialization import to_json

_FREE = ("tables", "device", "folder", "resamples", "reference_lungs", "lung_weights")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduced:
    """What a run left.

    Attributes:
        page: The report, as Markdown.
        is_whole: Whether every row of every table has all its cases.
    """

    page: Path
    is_whole: bool


def reproduce(request: ReproductionRequest, story: RunContext) -> Reproduced:
    """Train, predict, score and report; run again, it goes on where it stopped, with more tables if asked.

    Returns:
        The report, and whether it is whole.

    Raises:
        DatasetError: An earlier run in the folder had other settings, or the data cannot be what they must be.
        CascadeError: As the steps raise.
    """
    wanted = {name: value for name, value in to_json(request).items() if name not in _FREE}
    require_same_request(request.folder / "request.json", wanted, advice="choose another folder")
    # In folders of our own for phantoms, else in the user's.
    with own_nnunet_folders(request.folder) if request.dataset is None else nullcontext():
        if request.dataset is None:
            make_phantoms(request)
        require_possible(request)
        train_all(request)
        predicted = predict_all(request)
        scores = score_systems(request, predicted)
        tables = [evaluate_table(request, table, predicted, scores) for table in request.tables]
        parts = evaluation_splits(request)
        page = write_report(request, tables, RunDescription(parts=parts), story)
        if any(table.number == UNCERTAINTY_TABLE for table in request.tables):
            page = write_report(request, tables, RunDescription(parts=parts, worth=_worth(request, parts)), story)
        return Reproduced(page=page, is_whole=not any(judged.missing for judged in tables))


def _worth(request: ReproductionRequest, parts: Sequence[EvaluationSplit]) -> UncertaintyQuality | str:
    """Measure what the uncertainty is worth, or say why that cannot be told."""
    if not parts[0].held_out:
        return "needs held-out cases: out-of-fold ones would calibrate themselves"
    try:
        return evaluate_uncertainty(request)
    except CascadeError as error:
        return str(error)
