"""The whole reproduction, resumable at every step."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from nnunet_cascade.cascade.folder_run import RunStory
from nnunet_cascade.cascade.nnunet_folders import own_nnunet_folders, read_json
from nnunet_cascade.errors import DatasetError
from nnunet_cascade.files import write_json
from nnunet_cascade.reproduction.cases import parts_of
from nnunet_cascade.reproduction.judging import judge, score_systems
from nnunet_cascade.reproduction.prediction import predict_all
from nnunet_cascade.reproduction.report import Evidence, write_report
from nnunet_cascade.reproduction.request import ReproductionRequest
from nnunet_cascade.reproduction.tables import UNCERTAINTY_TABLE
from nnunet_cascade.reproduction.training import make_phantoms, train_all
from nnunet_cascade.reproduction.worth import worth_of
from nnunet_cascade.settings.block import to_block

_FREE = ("tables", "device", "folder", "resamples", "reference_lungs", "lung_weights")


def reproduce(request: ReproductionRequest, story: RunStory) -> Path:
    """Train, predict, score and report; run again, it goes on where it stopped, with more tables if asked.

    Returns:
        The report, as Markdown.

    Raises:
        DatasetError: An earlier run in the folder had other settings.
        CascadeError: As the steps raise.
    """
    _require_same_request(request)
    with _nnunet_folders(request):
        if request.dataset is None:
            make_phantoms(request)
        train_all(request)
        predicted = predict_all(request)
        scores = score_systems(request, predicted)
        tables = [judge(request, table, predicted, scores) for table in request.tables]
        parts = parts_of(request)
        wanted = any(table.number == UNCERTAINTY_TABLE for table in request.tables) and parts[0].held_out
        worth = worth_of(request) if wanted else None
        return write_report(request, tables, Evidence(parts=parts, worth=worth), story)


@contextmanager
def _nnunet_folders(request: ReproductionRequest) -> Generator[None, None, None]:
    """Work in folders of our own for phantoms, else in the user's."""
    if request.dataset is not None:
        yield
        return
    with own_nnunet_folders(request.folder):
        yield


def _require_same_request(request: ReproductionRequest) -> None:
    path = request.folder / "request.json"
    wanted = json.loads(json.dumps({k: v for k, v in to_block(request).items() if k not in _FREE}, default=str))
    if not path.is_file():
        request.folder.mkdir(parents=True, exist_ok=True)
        write_json(path, wanted)
        return
    known = read_json(path)
    changed = sorted(name for name in wanted if wanted[name] != known.get(name))
    if changed:
        raise DatasetError(f"{path} was written by a run with other {', '.join(changed)}; choose another folder")
