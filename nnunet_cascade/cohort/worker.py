"""One worker: both models in memory, and several cases under way at a time."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import ParamSpec, TypeVar

import torch

from nnunet_cascade.bundles.bundle import load_cascade
from nnunet_cascade.bundles.checksums import model_checksums
from nnunet_cascade.case_folders.run import remove_case
from nnunet_cascade.cohort.jobs import CaseFiles, CaseOutcome, CohortJob
from nnunet_cascade.errors import BundleError, one_line
from nnunet_cascade.files import InputChecksums
from nnunet_cascade.images import Volume, read_labels
from nnunet_cascade.machine import give_memory_back, take_threads
from nnunet_cascade.prediction.case import (
    AnatomyResult,
    CaseResult,
    Clock,
    LungsOrReason,
    PrecomputedInputs,
    apply_anatomy_rules,
    assemble_result,
    find_lungs_or_reason,
    predict_stage1,
    prepare_stage1,
)
from nnunet_cascade.prediction.outputs import write_case
from nnunet_cascade.prediction.preprocessing import Prepared
from nnunet_cascade.prediction.refinement import crop_regions, predict_regions
from nnunet_cascade.prediction.stage_model import CoarsePrediction
from nnunet_cascade.scans.scans import LoadedScan

_log = logging.getLogger(__name__)
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class _Read:
    """A case as its files hold it, and as stage 1 takes it."""

    scan: LoadedScan
    given: PrecomputedInputs
    prepared: Prepared | None
    checksums: InputChecksums

    @property
    def image(self) -> Volume:
        """The CT's voxels."""
        return self.scan.volume


class CaseWorker:
    """Predicts cases and writes their results.

    The networks of all cases run on one thread, so that PyTorch has one team of threads
    and one state of its random generator; what else a case needs runs on
    threads beside it: while one case is in a network, the next one is read, the lungs of another are found
    and a third is written. A worker lives in one event loop.

    Args:
        job: What to do.
        device: Where the networks run, such as "cpu", "cuda:1" or "mps".

    Raises:
        BundleError, DropoutError, SettingsError: The bundle cannot be loaded.
    """

    def __init__(self, job: CohortJob, device: str) -> None:
        self._job, self._device = job, device
        self._threads = take_threads(job.threads)
        self._bundle = load_cascade(
            job.bundle,
            device=torch.device(device),
            spec=job.spec,
            with_stage1=job.with_stage1,
            trusted=job.trusted,
            precision=job.precision,
        )
        _require_same_models(job)
        self._reading, self._networks, self._rules, self._writing = (
            ThreadPoolExecutor(1, thread_name_prefix=name) for name in ("reading", "networks", "rules", "writing")
        )
        # lungmask's network must not run beside another one.
        self._lungs = self._networks if job.spec.lungs.kind == "lungmask" else self._rules
        self._places = asyncio.Semaphore(job.capacity)

    async def predict(self, files: CaseFiles) -> CaseOutcome:
        """Predict a case and write its results; an error of the case is its outcome, and leaves no file of it."""
        clock = Clock()
        async with self._places:
            try:
                await self._predict(files, clock)
            except Exception as error:  # noqa: BLE001 - whatever one case does, the others go on
                outcome = CaseOutcome(case=files.case, status="failed", error=_log_case_error(files.case, error))
            else:
                outcome = CaseOutcome(case=files.case, status="done")
            if outcome.status == "failed":
                await self._on(self._writing, self._forget, files.case)
            give_memory_back()
        return replace(outcome, seconds=dict(clock.seconds))

    def close(self) -> None:
        """End the worker's threads; cases under way come to the end of their step."""
        for threads in (self._reading, self._networks, self._rules, self._writing):
            threads.shutdown(wait=True, cancel_futures=True)

    async def _predict(self, files: CaseFiles, clock: Clock) -> None:
        """Take a case through its steps; nothing is held on to longer than the next step needs it."""
        case = await self._on(self._reading, self._read, files, clock)
        checksums, grid, flags, notes = case.checksums, case.image.grid, case.scan.flags, case.scan.notes
        judgement = await self._judgement(case, clock)
        crops = await self._on(self._rules, crop_regions, case.image, self._bundle, judgement.rois)
        del case
        refinement = await self._on(self._networks, _timed(clock, "stage2", predict_regions), crops, grid, self._bundle)
        result = await self._on(
            self._rules, _timed(clock, "lesions", assemble_result), grid, self._bundle, judgement, refinement
        )
        del crops, judgement, refinement
        result = replace(result, flags=(*flags, *result.flags), notes=(*notes, *result.notes))
        await self._on(self._writing, self._write, files, result, checksums, clock)

    async def _judgement(self, case: _Read, clock: Clock) -> AnatomyResult:
        """Run stage 1 while the lungs are found; both come to their end, also where one of them fails."""
        grid = case.image.grid
        coarse, lungs = await asyncio.gather(
            self._on(
                self._networks,
                _timed(clock, "stage1", predict_stage1),
                case.prepared,
                grid,
                self._bundle,
                case.given,
            ),
            self._on(self._lungs, _timed(clock, "lungs", find_lungs_or_reason), case.image, self._job.spec, case.given),
            return_exceptions=True,
        )
        for found in (coarse, lungs):
            if isinstance(found, BaseException):
                raise found
        known: tuple[CoarsePrediction, LungsOrReason] = coarse, lungs  # pyright: ignore[reportAssignmentType]
        return await self._on(self._rules, _timed(clock, "anatomy", apply_anatomy_rules), grid, *known, self._job.spec)

    def _read(self, files: CaseFiles, clock: Clock) -> _Read:
        with clock.step("read"):
            remove_case(self._job.output, files.case)
            checksums = files.checksums()
            scan = files.scan.load()
            given = PrecomputedInputs(case=files.case)
            if files.stage1_mask is not None:
                stage1 = read_labels(files.stage1_mask, scan.volume.grid, what="stage-1 mask") > 0
                given = replace(given, stage1=stage1)
        with clock.step("prepare"):
            return _Read(scan, given, prepare_stage1(scan.volume, self._bundle, given), checksums)

    def _write(self, files: CaseFiles, result: CaseResult, checksums: InputChecksums, clock: Clock) -> None:
        told = {"predicted_at": time.strftime("%FT%TZ", time.gmtime()), "image": files.scan.to_json()}
        with clock.step("write"):
            write_case(
                replace(result, seconds=dict(clock.seconds)),
                self._job.output,
                files.case,
                spec=self._job.spec,
                notes=self._job.notes,
                made_from=self._job.made_from(checksums),
                varying={"device": self._device, "threads": self._threads, **told},
            )

    def _forget(self, case: str) -> None:
        """Remove what was written of a case that failed, and what its error still held in memory."""
        gc.collect()
        with suppress(OSError):  # the folder may be what failed
            remove_case(self._job.output, case)

    async def _on(
        self,
        threads: ThreadPoolExecutor,
        step: Callable[_Arguments, _Result],
        *given: _Arguments.args,
        **named: _Arguments.kwargs,
    ) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(threads, partial(step, *given, **named))


def _require_same_models(job: CohortJob) -> None:
    """Raise where the models are not those the run began with, whose checksums its records will hold."""
    if job.model and model_checksums(job.bundle, job.spec, with_stage1=job.with_stage1) != dict(job.model):
        raise BundleError(
            f"{job.bundle} was changed since the run began, or is another one on this machine; "
            "expected the same models for all cases; run it again with --continue_prediction"
        )


def _timed(clock: Clock, name: str, step: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    def run(*given: _Arguments.args, **named: _Arguments.kwargs) -> _Result:
        with clock.step(name):
            found = step(*given, **named)
            give_memory_back()  # what a step took and freed would lie beside what the next one takes
        return found

    return run


def _log_case_error(case: str, error: Exception) -> str:
    """Return why a case failed, in one line."""
    _log.debug("%s", case, exc_info=error)
    message = one_line(error)
    if isinstance(error, MemoryError):
        return f"this computer's memory is too small for the case ({message}); free some of it"
    return message
