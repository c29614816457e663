"""Patients side by side, each in a process that may die without the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nnunet_cascade.case_folders.pool import KILLED, map_in_processes
from nnunet_cascade.dataset_conversion.record import Record
from nnunet_cascade.dataset_conversion.writing import LEFT_OUT, ConversionJob, convert_case


def convert_in_processes(jobs: Sequence[ConversionJob], processes: int) -> Iterator[Record]:
    """Convert patients and yield their records as they come; one whose process is killed is left out.

    Closed or interrupted, it ends with the patients at hand.
    """
    for _, record in map_in_processes(
        convert_case, jobs, processes, killed=lambda job: job.record(LEFT_OUT, reason=KILLED)
    ):
        yield record
