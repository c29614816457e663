"""Scored candidates of folders of predictions against true lesions: each case read once, none dropped silently."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_cascade.case_folders.case_record import CaseRecord
from nnunet_cascade.case_folders.pool import KILLED, map_in_processes
from nnunet_cascade.case_folders.prediction_files import read_true_tumor
from nnunet_cascade.case_folders.unchecked_json import read_json_lenient
from nnunet_cascade.errors import SettingsError, one_line
from nnunet_cascade.evaluation.findings import ScoredFindings, findings_of
from nnunet_cascade.evaluation.froc import Froc, FrocDifference, compare_froc, froc_of
from nnunet_cascade.evaluation.statistics.bootstrap import Resampling
from nnunet_cascade.geometry import Grid, Mask
from nnunet_cascade.images import ENDING, read_labels
from nnunet_cascade.workflows.evaluation import EvaluationRequest, Predictions
from nnunet_cascade.workflows.evaluation_workers import LabelFile, read_grid

PROPOSALS = "_proposals"
"""Ending of the map of all that stage 2 drew, each voxel with the id of its candidate."""
_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredProposals:
    """The proposals of a case of a method.

    Attributes:
        path: Of the map; it need not be there.
        scores: Of the candidates that have one, by id.
        lacking: Why there are no findings to be had, or "".
        failed: Whether that is because a file cannot be read.
    """

    path: Path
    scores: Mapping[int, float] = field(default_factory=dict[int, float])
    lacking: str = ""
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFindings:
    """What became of a case of a method.

    Attributes:
        findings: None if there are none to be had.
        lacking: Why not, or "".
        failed: Whether that is because a file cannot be read.
    """

    findings: ScoredFindings | None = None
    lacking: str = ""
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingsJob:
    """One case to read.

    Attributes:
        case: Its name.
        truth: Its true labels.
        proposals: By method, at least one.
    """

    case: str
    truth: LabelFile
    proposals: Mapping[str, ScoredProposals]


ProposalsByMethod = Mapping[str, Mapping[str, ScoredProposals]]
"""By method, then by case."""
FindingsByCase = Mapping[str, Mapping[str, CaseFindings]]
"""By case, then by method."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrocResult:
    """The FROC of all methods whose candidates are scored in every case.

    Attributes:
        frocs: By method, in the order of the tables; may be empty.
        reference: The method that the others are compared with; "" without methods.
        differences: Of each other method, less the reference.
        resampling: How intervals were drawn.
    """

    frocs: Mapping[str, Froc]
    reference: str
    differences: Mapping[str, FrocDifference]
    resampling: Resampling


def scored_proposals(request: EvaluationRequest, cases: Mapping[str, Path]) -> ProposalsByMethod:
    """Find the scored candidates of each method, given the true labels by case, without reading a map.

    Returns:
        All cases of each method that has a map of proposals or a score in one of them; else nothing of the method.
        Patterns such as `RUN/*_stage1.nii.gz` have none, because candidates are scored in the final folder.
    """
    found = {
        method.name: {case: _proposals(method, case) for case in sorted(cases)}
        for method in request.predictions
        if "*" not in method.place.name
    }
    return {
        name: of_cases
        for name, of_cases in found.items()
        if any(each.scores or each.path.is_file() for each in of_cases.values())
    }


def _proposals(method: Predictions, case: str) -> ScoredProposals:
    path = method.folder / f"{case}{PROPOSALS}{ENDING}"
    record = method.record(case)
    if record is None:
        return ScoredProposals(path=path, lacking=f"no {case}.json")
    content, problem = read_json_lenient(record)
    if problem:
        return ScoredProposals(path=path, lacking=problem, failed=True)
    candidates = CaseRecord.from_json(content.value).candidates or ()
    scores = {each.id: each.score for each in candidates if each.id is not None and each.score is not None}
    return ScoredProposals(path=path, scores=scores, lacking="" if path.is_file() else f"no {path.name}")


def read_findings(
    request: EvaluationRequest, cases: Mapping[str, Path], proposals: ProposalsByMethod
) -> Iterator[tuple[str, dict[str, CaseFindings]]]:
    """Read the findings of every case of the methods with scored candidates.

    Yields:
        Each case with what became of it by method, as soon as it is known: in no fixed order.
    """
    jobs: list[FindingsJob] = []
    lacking: dict[str, dict[str, CaseFindings]] = {}
    for case, truth in cases.items():
        of_case = {name: of_cases[case] for name, of_cases in proposals.items()}
        lacking[case] = {name: _lacking(each) for name, each in of_case.items() if each.lacking}
        usable = {name: each for name, each in of_case.items() if not each.lacking}
        if usable:
            jobs.append(FindingsJob(case=case, truth=LabelFile(truth, request.truth_tumor), proposals=usable))
        else:
            yield case, lacking[case]
    for job, found in map_in_processes(find_in_case, jobs, request.processes, killed=_killed):
        yield job.case, {**lacking[job.case], **found}


def _lacking(proposals: ScoredProposals) -> CaseFindings:
    return CaseFindings(lacking=proposals.lacking, failed=proposals.failed)


def find_in_case(job: FindingsJob) -> dict[str, CaseFindings]:
    """Read the findings of all methods in a case; one that cannot be read does not keep the others from it."""
    try:
        grid = read_grid(job.truth.path)
        truth = read_true_tumor(job.truth.path, job.case, grid, job.truth.tumor)
    except Exception as error:  # noqa: BLE001 - whatever one case does, the others go on
        return _all_failed(job, one_line(error))
    return {name: _found(each, truth, grid) for name, each in job.proposals.items()}


def _found(proposals: ScoredProposals, truth: Mask, grid: Grid) -> CaseFindings:
    try:
        labels = read_labels(proposals.path, grid, what="map of proposals")
        return CaseFindings(findings=findings_of(labels, proposals.scores, truth))
    except Exception as error:  # noqa: BLE001 - whatever one map does, the others go on
        return CaseFindings(lacking=one_line(error), failed=not isinstance(error, SettingsError))


def _killed(job: FindingsJob) -> dict[str, CaseFindings]:
    return _all_failed(job, KILLED)


def _all_failed(job: FindingsJob, reason: str) -> dict[str, CaseFindings]:
    return dict.fromkeys(job.proposals, CaseFindings(lacking=reason, failed=True))


def froc_of_methods(
    proposals: ProposalsByMethod, found: FindingsByCase, resampling: Resampling, reference: str | None = None
) -> FrocResult:
    """Compute the FROC of each method that has findings in all cases, and compare them with one of them.

    Args:
        proposals: Say the methods and their order.
        found: All cases of these methods.
        resampling: How to draw.
        reference: The method to compare with; if it has no FROC, the first that has one.
    """
    scans = {
        name: [each for case in sorted(found) if (each := found[case][name].findings) is not None] for name in proposals
    }
    whole = {name: of_cases for name, of_cases in scans.items() if len(of_cases) == len(found)}
    first = reference if reference in whole else next(iter(whole), "")
    return FrocResult(
        frocs={name: froc_of(of_cases, resampling) for name, of_cases in whole.items()},
        reference=first or "",
        differences={
            name: compare_froc(of_cases, whole[first or ""], resampling)
            for name, of_cases in whole.items()
            if name != first
        },
        resampling=resampling,
    )


def tell_of_no_froc(proposals: ProposalsByMethod, found: FindingsByCase) -> list[str]:
    """Say in a line per method that has no FROC which cases lack scored candidates, and why."""
    lines: list[str] = []
    for name in proposals:
        lacking = [f"{case} ({each[name].lacking})" for case, each in sorted(found.items()) if each[name].lacking]
        if lacking:
            more = f" and {len(lacking) - _NAMED} more" if len(lacking) > _NAMED else ""
            named = ", ".join(lacking[:_NAMED]) + more
            lines.append(f"{name}: no FROC: {len(lacking)} of {len(found)} cases lack scored candidates: {named}")
    return lines
