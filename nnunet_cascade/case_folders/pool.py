"""Jobs side by side, each in a process that may die without the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from nnunet_cascade.processes import interrupts_ignored, worker_pool

KILLED = "its process was killed, most likely for lack of memory; run again with -np 1"
"""What a user reads of a job whose process was killed."""
_log = logging.getLogger(__name__)
Job = TypeVar("Job")
Made = TypeVar("Made")


def map_in_processes(
    work: Callable[[Job], Made],
    jobs: Sequence[Job],
    processes: int,
    *,
    killed: Callable[[Job], Made],
    preload: str = "",
) -> Iterator[tuple[Job, Made]]:
    """Do jobs in several processes; with one process, in this one.

    Should a process be killed, the jobs left are done one by one, each in a process of its own.
    Closed or interrupted, it ends with the jobs at hand.

    Args:
        work: What to do with a job; a function of a module, or a partial of one.
        jobs: May be none.
        processes: How many at the most.
        killed: Gives the result of a job whose process was killed.
        preload: Module that the processes share; the one of `work` unless given.

    Yields:
        Each job once with its result, as they come.
    """
    if processes == 1 or not jobs:
        yield from ((job, work(job)) for job in jobs)
        return
    preload = preload or work.__module__
    left = dict(enumerate(jobs))
    with worker_pool(min(processes, len(jobs)), preload=preload) as pool:
        try:
            numbers = _submitted(pool, work, left)  # which a worker that dies meanwhile ends
            for future in as_completed(numbers):
                made = future.result()
                yield left.pop(numbers[future]), made
        except BrokenProcessPool:
            _log.warning("a worker process was killed; the %d case(s) left are done one by one", len(left))
        finally:
            pool.shutdown(cancel_futures=True)
    yield from ((job, _alone(work, job, killed, preload)) for job in left.values())


def _submitted(pool: ProcessPoolExecutor, work: Callable[[Job], Made], jobs: dict[int, Job]) -> dict[Future[Made], int]:
    with interrupts_ignored():
        return {pool.submit(work, job): number for number, job in jobs.items()}


def _alone(work: Callable[[Job], Made], job: Job, killed: Callable[[Job], Made], preload: str) -> Made:
    with worker_pool(1, preload=preload) as pool:
        try:
            return next(iter(_submitted(pool, work, {0: job}))).result()
        except BrokenProcessPool:
            return killed(job)
