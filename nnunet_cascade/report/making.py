"""From a folder of results to a report: what a browser shows of a run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from nnunet_cascade.cascade.evaluation_folder import true_labels
from nnunet_cascade.cascade.prediction_files import TumorLabel, dataset_file
from nnunet_cascade.errors import CascadeError, SettingsError
from nnunet_cascade.report.case_work import CaseJob, CaseMade, make_cases
from nnunet_cascade.report.pages.doubt import Doubt, doubt_of
from nnunet_cascade.report.pages.names import folder_names
from nnunet_cascade.report.reading.case_row import CaseRow
from nnunet_cascade.report.reading.dicom_state import DicomState, dicom_states
from nnunet_cascade.report.reading.given_scans import given_scans
from nnunet_cascade.report.reading.privacy import without_paths
from nnunet_cascade.report.reading.run_folder import RunFolder, read_run
from nnunet_cascade.report.reading.scores import evaluated
from nnunet_cascade.report.report_folder import whole_report

_log = logging.getLogger(__name__)
CASES = "cases"
Progress = Callable[[Iterable[CaseMade], int], Iterator[CaseMade]]
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
class CaseEntry:
    """All that a report has of a case.

    Attributes:
        row: What its record tells.
        made: What was made of it.
        doubt: How doubtful it is.
        folder: Name of its folder in the report.
        scores: Metrics by name; none where no truth is known.
        dicom: What became of its DICOM export.
    """

    row: CaseRow
    made: CaseMade
    doubt: Doubt
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
        entries: The most doubtful first.
        problems: Of the run, in a sentence each.
    """

    run: RunFolder
    entries: tuple[CaseEntry, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportMade:
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


def silent(cases: Iterable[CaseMade], _total: int) -> Iterator[CaseMade]:
    """Go through cases and show nothing."""
    return iter(cases)


def make_report(request: ReportRequest, progress: Progress = silent) -> ReportMade:
    """Write the report on a run; one that was there is replaced when all is written.

    Raises:
        SettingsError: There are no results, or something else is where the report is to be.
        InputImageError, DatasetError: There are no images or true labels where they are said to be.
        ReportError: The report cannot be written.
    """
    from nnunet_cascade.report.pages.writing import write_report_pages  # noqa: PLC0415 - jinja2, when there is something to show

    run = read_run(request.results)
    names = folder_names(row.case for row in run.rows)
    with whole_report(request.output) as folder:
        (folder / "assets").mkdir()
        library, notice = place_library(folder / "assets", request)
        places = {case: folder / CASES / name for case, name in names.items()}
        found = gather(run, replace(request, viewer=bool(library)), places, progress=progress)
        write_report_pages(found, folder, library=library, no_viewer=notice)
    lines = [f"{entry.case}: {problem}" for entry in found.entries for problem in entry.problems]
    return ReportMade(
        index=request.output / "index.html",
        cases=len(found.entries),
        problems=(*found.problems, *lines),
        notices=(f"the report has no viewer: {notice}",) if notice and request.viewer else (),
    )


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


def gather(
    run: RunFolder, request: ReportRequest, places: Mapping[str, Path], progress: Progress = silent
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
    made = {done.case: done for done in progress(make_cases(jobs, request.processes), len(jobs))}
    known, problem = evaluated(run.path)
    states, of_export = dicom_states(run.path)
    entries = [
        _entry(row, made[row.case], places[row.case].name, known.get(row.case, {}), states.get(row.case, DicomState()))
        for row in run.rows
    ]
    return RunEntries(
        run=run,
        entries=tuple(sorted(entries, key=lambda entry: (-entry.doubt.score, entry.case))),
        problems=(*run.problems, *(text for text in (problem, of_export) if text)),
    )


def _entry(row: CaseRow, made: CaseMade, folder: str, known: Mapping[str, float], dicom: DicomState) -> CaseEntry:
    """Put together what is known of a case; metrics that were computed go before those that were found."""
    if row.status == "mask only":
        row = replace(row, volume_ml=made.volume_ml, lesion_count=made.lesions)
    lesions = tuple(replace(lesion, diameter_mm=dicom.diameters_mm.get(lesion.id or 0)) for lesion in row.lesions)
    row = replace(row, lesions=lesions)
    return CaseEntry(row=row, made=made, doubt=doubt_of(row), folder=folder, scores=made.scores or known, dicom=dicom)


def _jobs(run: RunFolder, request: ReportRequest, places: Mapping[str, Path]) -> list[CaseJob]:
    truths = {} if request.truths is None else true_labels(request.truths)
    truth_tumor = TumorLabel() if request.truths is None else _truth_tumor(request.truths, request.truth_labels)
    tumor = _tumor(run)
    scans = {} if request.images is None else given_scans(request.images, run)
    return [
        CaseJob(
            case=row.case,
            results=run.path,
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


def _truth_tumor(truths: Path, labels: tuple[str, ...]) -> TumorLabel:
    """Read which values are tumor; a raw dataset has its `dataset.json` above `labelsTr`."""
    folder = truths if truths.is_dir() else truths.parent
    of_raw_dataset = folder.name.startswith("labels") and dataset_file(folder) is None
    return TumorLabel.of(folder.parent if of_raw_dataset else folder, labels)
