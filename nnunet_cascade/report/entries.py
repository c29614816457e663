"""Everything that a report knows of a case and of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nnunet_cascade.report.case_assets import CaseAssets
from nnunet_cascade.report.reading.case_row import CaseRow
from nnunet_cascade.report.reading.dicom_state import DicomState
from nnunet_cascade.report.reading.run_folder import RunFolder
from nnunet_cascade.report.review_priority import ReviewPriority


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseEntry:
    """All that a report has of a case.

    Attributes:
        row: What its record tells.
        made: What was made of it.
        priority: How soon a reader should look at it.
        folder: Name of its folder in the report.
        scores: Metrics by name; none where no truth is known.
        dicom: What became of its DICOM export.
    """

    row: CaseRow
    made: CaseAssets
    priority: ReviewPriority
    folder: str
    scores: Mapping[str, float]
    dicom: DicomState

    @property
    def case(self) -> str:
        """Its name, which may hold anything."""
        return self.row.case

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with it, in a sentence each."""
        return (*self.row.problems, *self.made.problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEntries:
    """A run with all that a report has of its cases.

    Attributes:
        run: As it was read.
        entries: In the order of their review priority.
        problems: Of the run, in a sentence each.
    """

    run: RunFolder
    entries: tuple[CaseEntry, ...]
    problems: tuple[str, ...]
