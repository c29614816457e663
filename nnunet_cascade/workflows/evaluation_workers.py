"""Cases scored side by side, each in a process that may die without the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import SimpleITK as sitk

from nnunet_cascade.case_folders.pool import KILLED, map_in_processes
from nnunet_cascade.case_folders.prediction_files import TumorLabel, read_label_map
from nnunet_cascade.errors import one_line
from nnunet_cascade.evaluation.case import score_case
from nnunet_cascade.evaluation.metric_info import score_values
from nnunet_cascade.geometry import Grid, Mask
from nnunet_cascade.images import grid_of, read_volume, require_image_file


@dataclass(frozen=True, slots=True)
class LabelFile:
    """A label map and which of its values are tumor."""

    path: Path
    tumor: TumorLabel


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreJob:
    """One case to score.

    Attributes:
        case: Its name.
        truth: Its true labels.
        predictions: By method, at least one.
    """

    case: str
    truth: LabelFile
    predictions: Mapping[str, LabelFile]


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodOutcome:
    """What became of a method's prediction of a case.

    Attributes:
        status: "skipped" where an earlier run had scored it.
        values: By metric; NaN for what is undefined. Empty where it is missing or failed.
        error: Why it failed, or "".
    """

    status: Literal["done", "skipped", "missing", "failed"]
    values: Mapping[str, float] = field(default_factory=dict[str, float])
    error: str = ""


def _failed(error: str) -> MethodOutcome:
    return MethodOutcome(status="failed", error=error)


def score_jobs(jobs: Sequence[ScoreJob], processes: int) -> Iterator[tuple[ScoreJob, dict[str, MethodOutcome]]]:
    """Score cases side by side and yield them as they come; one whose process is killed has failed."""
    return map_in_processes(
        score_job, jobs, processes, killed=lambda job: dict.fromkeys(job.predictions, _failed(KILLED))
    )


def score_job(job: ScoreJob) -> dict[str, MethodOutcome]:
    """Score all predictions of a case; one that cannot be scored does not keep the others from it."""
    try:
        grid = read_grid(job.truth.path)
        truth = _mask(job.truth, grid, what="true label")
    except Exception as error:  # noqa: BLE001 - whatever one case does, the others go on
        return dict.fromkeys(job.predictions, _failed(one_line(error)))
    return {method: _scored(job.case, truth, file, grid) for method, file in job.predictions.items()}


def read_grid(path: Path) -> Grid:
    """Read where the voxels of an image lie, without its voxels.

    Raises:
        InputImageError: As `read_volume`.
    """
    require_image_file(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return read_volume(path).grid
    return grid_of(cast(Any, reader)) if reader.GetDimension() == 3 else read_volume(path).grid


def _scored(case: str, truth: Mask, file: LabelFile, grid: Grid) -> MethodOutcome:
    try:
        score = score_case(case, truth, _mask(file, grid, what="prediction"), grid.spacing_mm)
        return MethodOutcome(status="done", values=score_values(score))
    except Exception as error:  # noqa: BLE001 - whatever one prediction does, the others go on
        return _failed(one_line(error))


def _mask(file: LabelFile, grid: Grid, *, what: str) -> Mask:
    return file.tumor.mask(read_label_map(file.path, grid, file.tumor, what=what))
