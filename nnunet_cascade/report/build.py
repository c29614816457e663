"""Build a report on one run, or on two runs side by side."""

from __future__ import annotations

from dataclasses import replace

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.report.collect import (
    CASES,
    Progress,
    ReportRequest,
    ReportResult,
    collect_cases,
    no_progress,
    place_library,
)
from nnunet_cascade.report.comparison import SIDES, compare_runs
from nnunet_cascade.report.entries import RunEntries
from nnunet_cascade.report.pages.names import folder_names
from nnunet_cascade.report.reading.run_folder import read_run
from nnunet_cascade.report.report_folder import atomic_report


def make_report(request: ReportRequest, progress: Progress = no_progress) -> ReportResult:
    """Write the report on a run; one that was there is replaced when all is written.

    Raises:
        SettingsError: There are no results, or something else is where the report is to be.
        InputImageError, DatasetError: There are no images or true labels where they are said to be.
        ReportError: The report cannot be written.
    """
    from nnunet_cascade.report.pages.writing import write_report_pages  # noqa: PLC0415 - jinja2, when there is something to show

    run = read_run(request.results)
    names = folder_names(row.case for row in run.rows)
    with atomic_report(request.output) as folder:
        (folder / "assets").mkdir()
        library, notice = place_library(folder / "assets", request)
        places = {case: folder / CASES / name for case, name in names.items()}
        found = collect_cases(run, replace(request, viewer=bool(library)), places, progress=progress)
        write_report_pages(found, folder, library=library, no_viewer=notice)
    lines = [f"{entry.case}: {problem}" for entry in found.entries for problem in entry.problems]
    return ReportResult(
        index=request.output / "index.html",
        cases=len(found.entries),
        problems=(*found.problems, *lines),
        notices=(f"the report has no viewer: {notice}",) if notice and request.viewer else (),
    )


def make_comparison(first: ReportRequest, second: ReportRequest, progress: Progress = no_progress) -> ReportResult:
    """Write a report on two runs beside each other; one that was there is replaced when all is written.

    Args:
        first: The run that the other is compared with; the report goes to its output.
        second: The other run.
        progress: Shows how far it is.

    Raises:
        SettingsError: A folder has no results, both are the same, or something else is where the report is to be.
        InputImageError, DatasetError: There are no images or true labels where they are said to be.
        ReportError: The report cannot be written.
    """
    from nnunet_cascade.report.pages.writing import write_comparison_pages  # noqa: PLC0415 - jinja2, at the end

    if first.results.resolve() == second.results.resolve():
        raise SettingsError(f"{first.results} and {second.results} are the same folder; give two runs")
    runs = {side: read_run(request.results) for side, request in zip(SIDES, (first, second), strict=True)}
    folders = folder_names({row.case for run in runs.values() for row in run.rows})
    found: dict[str, RunEntries] = {}
    with atomic_report(first.output) as folder:
        for side, request in zip(SIDES, (first, second), strict=True):
            places = {row.case: folder / CASES / folders[row.case] / side for row in runs[side].rows}
            found[side] = collect_cases(runs[side], request, places, progress=progress)
        compared = compare_runs(found, folders)
        write_comparison_pages(compared, folder)
    of_cases = [
        f"{compared.names[side]}: {entry.case}: {problem}"
        for side, run in found.items()
        for entry in run.entries
        for problem in entry.problems
    ]
    return ReportResult(
        index=first.output / "index.html", cases=len(compared.cases), problems=(*compared.problems, *of_cases)
    )
