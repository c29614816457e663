"""Patients side by side, each in a process that may die without the others."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from nnunet_cascade.dataset_conversion import WORKER_MODULE
from nnunet_cascade.dataset_conversion.record import Record
from nnunet_cascade.dataset_conversion.writing import LEFT_OUT, CaseJob, convert_case
from nnunet_cascade.processes import interrupts_ignored, worker_pool

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
    return worker_pool(processes, preload=WORKER_MODULE)


def _submitted(pool: ProcessPoolExecutor, jobs: Sequence[CaseJob]) -> list[Future[Record]]:
    with interrupts_ignored():
        return [pool.submit(convert_case, job) for job in jobs]


def _alone(job: CaseJob) -> Record:
    with _pool(1) as pool:
        try:
            return _submitted(pool, [job])[0].result()
        except BrokenProcessPool:
            return job.record(LEFT_OUT, reason=_KILLED)
