"""From a folder of results to a report: what a browser shows of a run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from nnunet_cascade.case_folders.prediction_files import TumorLabel, dataset_file
from nnunet_cascade.errors import CascadeError, SettingsError
from nnunet_cascade.report.case_assets import CaseAssets, CaseAssetsJob, make_case_assets
from nnunet_cascade.report.entries import CaseEntry, RunEntries
from nnunet_cascade.report.reading.case_row import CaseRow
from nnunet_cascade.report.reading.dicom_state import DicomState, dicom_states
from nnunet_cascade.report.reading.given_scans import given_scans
from nnunet_cascade.report.reading.privacy import without_paths
from nnunet_cascade.report.reading.run_folder import RunFolder
from nnunet_cascade.report.reading.scores import evaluated
from nnunet_cascade.report.review_priority import review_priority
from nnunet_cascade.workflows.evaluation import true_labels

_log = logging.getLogger(__name__)
CASES = "cases"
Progress = Callable[[Iterable[CaseAssets], int], Iterator[CaseAssets]]
"""Goes through cases of a known number, and may show how far it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRequest:
    """What to report on, and how.

    Attributes:
        results: Folder of a run.
        output: Of the report; what is there must be a report.
        truths: Folder of true `<case>.nii.gz`, or None.
        truth_labels: Names or values that are tumor there.
        images: Where the CTs are; None: where the records say.
        viewer: Whether pages get the interactive viewer.
        niivue: The viewer's library as a file; None: it is fetched.
        processes: Cases at a time.

    Raises:
        SettingsError: There is no process.
    """

    results: Path
    output: Path
    truths: Path | None = None
    truth_labels: tuple[str, ...] = ()
    images: Path | None = None
    viewer: bool = True
    niivue: Path | None = None
    processes: int = 2

    def __post_init__(self) -> None:
        if self.processes < 1:
            raise SettingsError(f"-np {self.processes}; expected at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportResult:
    """What became of a report.

    Attributes:
        index: Its first page.
        cases: Number of cases shown.
        problems: Of the run and of cases, in a line each.
        notices: What else a user should know, such as why there is no viewer.
    """

    index: Path
    cases: int
    problems: tuple[str, ...]
    notices: tuple[str, ...] = ()


def no_progress(cases: Iterable[CaseAssets], _total: int) -> Iterator[CaseAssets]:
    """Go through cases and show nothing."""
    return iter(cases)


def place_library(assets: Path, request: ReportRequest) -> tuple[str, str]:
    """Put the viewer's library into a report.

    Returns:
        Its name there, and ""; or "" and why pages have no viewer.
    """
    if not request.viewer:
        return "", "it was left out by --no_viewer"
    from nnunet_cascade.report.viewing.niivue import place_niivue  # noqa: PLC0415 - not every report has a viewer

    try:
        return place_niivue(assets, request.niivue), ""
    except CascadeError as error:
        if request.niivue is not None:
            raise
        return "", f"its library is not there: {without_paths(str(error))}"


def collect_cases(
    run: RunFolder, request: ReportRequest, places: Mapping[str, Path], progress: Progress = no_progress
) -> RunEntries:
    """Make figures, volumes and metrics of all cases of a run.

    Args:
        run: The run.
        request: What is asked; whether there are volumes, too.
        places: Folder of each case in the report; they are made.
        progress: Shows how far it is.
    """
    jobs = _jobs(run, request, places)
    for job in jobs:
        job.into.mkdir(parents=True)
    made = {done.case: done for done in progress(make_case_assets(jobs, request.processes), len(jobs))}
    known, problem = evaluated(run.path)
    states, of_export = dicom_states(run.path)
    entries = [
        _entry(row, made[row.case], places[row.case].name, known.get(row.case, {}), states.get(row.case, DicomState()))
        for row in run.rows
    ]
    return RunEntries(
        run=run,
        entries=tuple(sorted(entries, key=lambda entry: (-entry.priority.score, entry.case))),
        problems=(*run.problems, *(text for text in (problem, of_export) if text)),
    )


def _entry(row: CaseRow, made: CaseAssets, folder: str, known: Mapping[str, float], dicom: DicomState) -> CaseEntry:
    """Put together what is known of a case; metrics that were computed go before those that were found."""
    if row.status == "mask only":
        row = replace(row, volume_ml=made.volume_ml, lesion_count=made.lesions)
    return CaseEntry(
        row=row, made=made, priority=review_priority(row), folder=folder, scores=made.scores or known, dicom=dicom
    )


def _jobs(run: RunFolder, request: ReportRequest, places: Mapping[str, Path]) -> list[CaseAssetsJob]:
    truths = {} if request.truths is None else true_labels(request.truths)
    truth_tumor = TumorLabel() if request.truths is None else TumorLabel.of(request.truths, request.truth_labels)
    tumor = _tumor(run)
    scans = {} if request.images is None else given_scans(request.images, run)
    return [
        CaseAssetsJob(
            case=row.case,
            folder=run.path,
            record=run.records.get(row.case),
            scan=scans.get(row.case),
            truth=truths.get(row.case),
            tumor=tumor,
            truth_tumor=truth_tumor,
            into=places[row.case],
            viewer=request.viewer,
        )
        for row in run.rows
    ]


def _tumor(run: RunFolder) -> TumorLabel:
    """Say which values of the masks are tumor: all that a cascade writes is; nnU-Net's `dataset.json` may name it."""
    if run.records or dataset_file(run.path) is None:
        return TumorLabel()
    try:
        return TumorLabel.of(run.path)
    except CascadeError as error:
        _log.warning("%s; 1 is taken for the tumor's", error)
        return TumorLabel()
