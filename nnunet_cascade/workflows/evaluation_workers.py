"""Cases scored side by side, each in a process that may die without the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import SimpleITK as sitk

from nnunet_cascade.case_folders.pool import KILLED, map_in_processes
from nnunet_cascade.case_folders.prediction_files import TumorLabel, read_label_map
from nnunet_cascade.errors import one_line
from nnunet_cascade.evaluation.case import score_case
from nnunet_cascade.evaluation.metric_info import score_values
from nnunet_cascade.geometry import Grid, Mask
from nnunet_cascade.images import grid_of, read_volume


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
class Scored:
    """What became of one prediction: its numbers, NaN where undefined, or why there are none."""

    values: Mapping[str, float]
    error: str = ""


def score_jobs(jobs: Sequence[ScoreJob], processes: int) -> Iterator[tuple[ScoreJob, dict[str, Scored]]]:
    """Score cases side by side and yield them as they come; one whose process is killed has failed."""
    return map_in_processes(
        score_job, jobs, processes, killed=lambda job: dict.fromkeys(job.predictions, Scored(values={}, error=KILLED))
    )


def score_job(job: ScoreJob) -> dict[str, Scored]:
    """Score all predictions of a case; one that cannot be scored does not keep the others from it."""
    try:
        grid = read_grid(job.truth.path)
        truth = _mask(job.truth, grid, what="true label")
    except Exception as error:  # noqa: BLE001 - whatever one case does, the others go on
        return dict.fromkeys(job.predictions, Scored(values={}, error=one_line(error)))
    return {method: _scored(job.case, truth, file, grid) for method, file in job.predictions.items()}


def read_grid(path: Path) -> Grid:
    """Read where the voxels of an image lie, without its voxels.

    Raises:
        InputImageError: As `read_volume`.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return read_volume(path).grid
    return grid_of(cast(Any, reader)) if reader.GetDimension() == 3 else read_volume(path).grid


def _scored(case: str, truth: Mask, file: LabelFile, grid: Grid) -> Scored:
    try:
        return Scored(
            values=score_values(score_case(case, truth, _mask(file, grid, what="prediction"), grid.spacing_mm))
        )
    except Exception as error:  # noqa: BLE001 - whatever one prediction does, the others go on
        return Scored(values={}, error=one_line(error))


def _mask(file: LabelFile, grid: Grid, *, what: str) -> Mask:
    return file.tumor.mask(read_label_map(file.path, grid, file.tumor, what=what))
