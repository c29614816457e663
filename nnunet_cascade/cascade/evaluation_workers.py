"""Cases scored side by side, each in a process that may die without the others."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import SimpleITK as sitk

from nnunet_cascade.cascade.prediction_files import TumorLabel, read_label_map
from nnunet_cascade.cascade.runs.records import Record
from nnunet_cascade.evaluation.case import score_case
from nnunet_cascade.evaluation.metric_info import score_values
from nnunet_cascade.geometry import Grid, Mask
from nnunet_cascade.images import grid_of, read_volume
from nnunet_cascade.processes import interrupts_ignored, worker_pool

_log = logging.getLogger(__name__)
_KILLED = "its process was killed, most likely for lack of memory; run again with -np 1 and --continue"


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

    values: Record
    error: str = ""


def score_jobs(jobs: Sequence[ScoreJob], processes: int) -> Iterator[tuple[ScoreJob, dict[str, Scored]]]:
    """Score cases in several processes and yield them as they come; with one process, in this one.

    Should a process be killed, the cases left are scored one by one, each in a process of
    its own; whose process is killed then has failed.
    """
    if processes == 1 or not jobs:
        yield from ((job, score_job(job)) for job in jobs)
        return
    left = {job.case: job for job in jobs}
    with _pool(min(processes, len(jobs))) as pool:
        futures = _submitted(pool, jobs)
        try:
            for future in as_completed(futures):
                found = future.result()
                yield left.pop(futures[future].case), found
        except BrokenProcessPool:
            _log.warning("a worker process was killed; the %d case(s) left are scored one by one", len(left))
        finally:
            pool.shutdown(cancel_futures=True)
    yield from ((job, _alone(job)) for job in left.values())


def score_job(job: ScoreJob) -> dict[str, Scored]:
    """Score all predictions of a case; one that cannot be scored does not keep the others from it."""
    try:
        grid = read_grid(job.truth.path)
        truth = _mask(job.truth, grid, what="true label")
    except Exception as error:  # noqa: BLE001 - whatever one case does, the others go on
        return dict.fromkeys(job.predictions, Scored(values={}, error=_told(error)))
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
        return Scored(values={}, error=_told(error))


def _mask(file: LabelFile, grid: Grid, *, what: str) -> Mask:
    return file.tumor.mask(read_label_map(file.path, grid, file.tumor, what=what))


def _told(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _pool(processes: int) -> ProcessPoolExecutor:
    return worker_pool(processes, preload=__name__)


def _submitted(pool: ProcessPoolExecutor, jobs: Sequence[ScoreJob]) -> dict[Future[dict[str, Scored]], ScoreJob]:
    with interrupts_ignored():
        return {pool.submit(score_job, job): job for job in jobs}


def _alone(job: ScoreJob) -> dict[str, Scored]:
    with _pool(1) as pool:
        try:
            return next(iter(_submitted(pool, [job]))).result()
        except BrokenProcessPool:
            return dict.fromkeys(job.predictions, Scored(values={}, error=_KILLED))
