"""Patients side by side, each in a process that may die without the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nnunet_cascade.case_folders.pool import side_by_side
from nnunet_cascade.dataset_conversion.record import Record
from nnunet_cascade.dataset_conversion.writing import LEFT_OUT, CaseJob, convert_case

_KILLED = "its process was killed, most likely for lack of memory; run again with fewer processes"


def convert_side_by_side(jobs: Sequence[CaseJob], processes: int) -> Iterator[Record]:
    """Convert patients and yield their records as they come; one whose process is killed is left out.

    Closed or interrupted, it ends with the patients at hand.
    """
    for _, record in side_by_side(convert_case, jobs, processes, killed=_killed):
        yield record


def _killed(job: CaseJob) -> Record:
    return job.record(LEFT_OUT, reason=_KILLED)
