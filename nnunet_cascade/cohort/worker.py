"""One worker: both models in memory, and several cases under way at a time."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

import torch

from nnunet_cascade.bundles.bundle import load_cascade
from nnunet_cascade.bundles.checksums import model_checksums
from nnunet_cascade.case_folders.run import remove_case
from nnunet_cascade.cohort.case_io import read_case, run_facts, write_result
from nnunet_cascade.cohort.jobs import CaseFiles, CaseOutcome, CohortJob
from nnunet_cascade.errors import BundleError, one_line
from nnunet_cascade.files import InputChecksums
from nnunet_cascade.machine import give_memory_back, take_threads
from nnunet_cascade.prediction.case import PrecomputedInputs, case_steps
from nnunet_cascade.prediction.steps import CaseSteps, Clock, Step, one_step
from nnunet_cascade.scans.scans import LoadedScan

_log = logging.getLogger(__name__)
_Found = TypeVar("_Found")


class CaseWorker:
    """Predicts cases and writes their results.

    The networks of all cases run on one thread, so that PyTorch has one team of threads
    and one state of its random generator; what else a case needs runs on
    threads beside it: while one case is in a network, the next one is read, the lungs of another are found
    and a third is written. A worker lives in one event loop.

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
        names = ("reading", "networks", "processor", "writing")
        self._threads_for = {name: ThreadPoolExecutor(1, thread_name_prefix=name) for name in names}
        # lungmask's network must not run while another one does.
        self._threads_for["lungs"] = self._threads_for["networks" if job.spec.lungs.kind == "lungmask" else "processor"]
        self._places = asyncio.Semaphore(job.capacity)

    async def predict(self, files: CaseFiles) -> CaseOutcome:
        """Predict a case and write its results; an error of the case is its outcome, and leaves no file of it."""
        clock, told = Clock(), ""
        async with self._places:
            try:
                await self._drive(self._steps(files, clock))
            except Exception as error:  # noqa: BLE001 - whatever one case does, the others go on
                told = _log_case_error(files.case, error)
            if told:
                await self._on("writing", lambda: self._forget(files.case))
            give_memory_back()
        status = "failed" if told else "done"
        return CaseOutcome(case=files.case, status=status, error=told, seconds=dict(clock.seconds))

    def close(self) -> None:
        """End the worker's threads; cases under way come to the end of their step."""
        for threads in self._threads_for.values():
            threads.shutdown(wait=True, cancel_futures=True)

    def _steps(self, files: CaseFiles, clock: Clock) -> CaseSteps[None]:
        """Read a case, predict it and write its result."""
        checksums: InputChecksums = []

        def read() -> tuple[LoadedScan, PrecomputedInputs]:
            remove_case(self._job.output, files.case)
            checksums.extend(files.checksums())
            return read_case(files)

        result = yield from case_steps(read, self._bundle, clock)
        facts = run_facts(files.scan, self._device, self._threads)
        write = clock.timed("write", write_result, result, files.case, self._job, checksums, varying=facts)
        del result
        yield from one_step(Step("writing", write))

    async def _drive(self, steps: CaseSteps[_Found]) -> _Found:
        """Run the steps of a case; of several together all come to their end, also if one of them fails."""
        together = next(steps)
        while True:
            calls = (self._on(step.needs, step.run) for step in together)
            found = await asyncio.gather(*calls, return_exceptions=True)
            for each in found:
                if isinstance(each, BaseException):
                    raise each
            try:
                together = steps.send(found)
            except StopIteration as end:
                return end.value

    def _forget(self, case: str) -> None:
        """Remove what was written of a case that failed, and what its error still held in memory."""
        gc.collect()
        with suppress(OSError):  # the folder may be what failed
            remove_case(self._job.output, case)

    async def _on(self, needs: str, work: Callable[[], _Found]) -> _Found:
        def run() -> _Found:
            found = work()
            give_memory_back()  # what a step took and freed would add to what the next one takes
            return found

        return await asyncio.get_running_loop().run_in_executor(self._threads_for[needs], run)


def _require_same_models(job: CohortJob) -> None:
    """Raise where the models are not those the run began with, whose checksums its records will hold."""
    if job.model and model_checksums(job.bundle, job.spec, with_stage1=job.with_stage1) != dict(job.model):
        raise BundleError(
            f"{job.bundle} was changed since the run began, or is another one on this machine; "
            "expected the same models for all cases; run it again with --continue_prediction"
        )


def _log_case_error(case: str, error: Exception) -> str:
    """Return why a case failed, in one line."""
    _log.debug("%s", case, exc_info=error)
    message = one_line(error)
    if isinstance(error, MemoryError):
        return f"this computer's memory is too small for the case ({message}); free some of it"
    return message
