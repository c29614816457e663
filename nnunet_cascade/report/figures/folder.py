"""The figures of a run's cases, side by side; a bad case costs its figure alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nnunet_cascade.case_folders.pool import KILLED, map_in_processes
from nnunet_cascade.errors import SettingsError, one_line
from nnunet_cascade.report.figures.drawing import draw_figure
from nnunet_cascade.report.figures.request import FigureRequest
from nnunet_cascade.report.reading.run_folder import RunFolder
from nnunet_cascade.scans.recorded import recorded_scan
from nnunet_cascade.scans.scans import Scan


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureJob:
    """A figure to draw.

    Attributes:
        request: Of what; without a CT, that of its record is searched.
        path: Of the figure.
        problem: Why there can be none, where that is known before.
    """

    request: FigureRequest
    path: Path
    problem: str = ""


@dataclass(frozen=True, slots=True)
class FigureResult:
    """What became of a figure: the case, and why there is none or "" where there is one."""

    case: str
    problem: str = ""


def chosen_cases(run: RunFolder, cases: Collection[str]) -> tuple[str, ...]:
    """Return the cases asked for, or all of a run.

    Raises:
        SettingsError: One is none of the run's.
    """
    known = tuple(row.case for row in run.rows)
    unknown = [case for case in cases if case not in known]
    if unknown:
        few = ", ".join(known[:5]) + (" …" if len(known) > 5 else "")
        raise SettingsError(f"{run.path} has no case {unknown[0]}; found {few or 'none'}")
    return tuple(case for case in known if not cases or case in cases)


def figure_jobs(
    run: RunFolder, cases: Sequence[str], drawn: FigureRequest, paths: Mapping[str, Path], scans: Mapping[str, Scan]
) -> list[FigureJob]:
    """Return a job for each case.

    Args:
        run: The run.
        cases: Of it.
        drawn: How figures look; what it says of a case is replaced, and its truth is a folder of true labels or None.
        paths: Of the figures, by case.
        scans: CTs that are given, by case.
    """
    problems = {row.case: "; ".join(row.problems) for row in run.rows if row.status in {"failed", "unreadable"}}
    return [
        FigureJob(
            request=replace(
                drawn,
                case=case,
                folder=run.path,
                record=run.records.get(case),
                scan=scans.get(case),
                truth=_truth(drawn.truth, case),
            ),
            path=paths[case],
            problem=problems.get(case, ""),
        )
        for case in cases
    ]


def _truth(truths: Path | None, case: str) -> Path | None:
    if truths is None or truths.is_file():
        return truths
    path = truths / f"{case}.nii.gz"
    return path if path.is_file() else None


def draw_figures(jobs: Sequence[FigureJob], processes: int) -> Iterator[FigureResult]:
    """Draw figures side by side and yield what became of them as they come; a killed process costs its figure."""
    for _, drawn in map_in_processes(
        _drawn, jobs, processes, killed=lambda job: FigureResult(job.request.case, KILLED)
    ):
        yield drawn


def _drawn(job: FigureJob) -> FigureResult:
    request = job.request
    if job.problem:
        return FigureResult(request.case, job.problem)
    try:
        scan = request.scan or (recorded_scan(request.record) if request.record else None)
        draw_figure(replace(request, scan=scan), job.path)
    except Exception as error:  # noqa: BLE001 - whatever one case does, the others go on
        return FigureResult(request.case, one_line(error))
    return FigureResult(request.case)
