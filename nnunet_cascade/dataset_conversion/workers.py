"""Patients side by side, each in a process that may die without the others."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import parent_process

from nnunet_cascade.dataset_conversion.record import Record
from nnunet_cascade.dataset_conversion.worker_start import interrupts_ignored, worker_context
from nnunet_cascade.dataset_conversion.writing import LEFT_OUT, CaseJob, convert_case

_log = logging.getLogger(__name__)
_KILLED = "its process was killed, most likely for lack of memory; run again with fewer processes"


def convert_side_by_side(jobs: Sequence[CaseJob], processes: int) -> Iterator[Record]:
    """Convert patients in several processes and yield their records as they come.

    Should a process be killed, the patients left are converted one by one, each in a
    process of its own; whose process is killed then is left out. Closed or interrupted,
    it ends with the patients at hand.
    """
    left = {job.case: job for job in jobs}
    with _pool(min(processes, len(jobs))) as pool:
        try:
            for future in as_completed(_submitted(pool, jobs)):
                record = future.result()
                del left[record["case"]]
                yield record
        except BrokenProcessPool:
            _log.warning("a worker process was killed; the %d patient(s) left are converted one by one", len(left))
        finally:
            pool.shutdown(cancel_futures=True)
    yield from map(_alone, left.values())


def _pool(processes: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(processes, mp_context=worker_context(), initializer=_end_with_parent)


def _submitted(pool: ProcessPoolExecutor, jobs: Sequence[CaseJob]) -> list[Future[Record]]:
    with interrupts_ignored():
        return [pool.submit(convert_case, job) for job in jobs]


def _alone(job: CaseJob) -> Record:
    with _pool(1) as pool:
        try:
            return _submitted(pool, [job])[0].result()
        except BrokenProcessPool:
            return job.record(LEFT_OUT, reason=_KILLED)


def _end_with_parent() -> None:
    """Let a worker end when the process that started it is gone; it would wait for work forever."""
    threading.Thread(target=_wait_for_the_end_of_the_parent, daemon=True).start()


def _wait_for_the_end_of_the_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
