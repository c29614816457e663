"""What takes long for a case: its figure, its volumes for the viewer, and its metrics; each in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nnunet_cascade.case_folders.pool import KILLED, map_in_processes
from nnunet_cascade.case_folders.prediction_files import TumorLabel, read_label_map
from nnunet_cascade.errors import CascadeError, one_line
from nnunet_cascade.geometry import MM3_PER_ML
from nnunet_cascade.images import ENDING, read_volume
from nnunet_cascade.morphology import label_components
from nnunet_cascade.report.figures.request import FigureRequest
from nnunet_cascade.report.reading.own_files import is_own_file
from nnunet_cascade.report.reading.privacy import without_paths
from nnunet_cascade.scans.recorded import recorded_scan
from nnunet_cascade.scans.scans import Scan
from nnunet_cascade.workflows.evaluation_workers import LabelFile, ScoreJob, score_job

FIGURE = "figure.png"
_METHOD = "run"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseAssetsJob(FigureRequest):
    """What to make of a case: its figure, and more; without a CT, that of its record is taken.

    Attributes:
        tumor: Which values of its mask are tumor.
        truth_tumor: Which values of its true labels are tumor.
        into: Its folder in the report, which is there.
        viewer: Whether volumes are placed there for the viewer.
    """

    tumor: TumorLabel
    truth_tumor: TumorLabel = field(default_factory=TumorLabel)
    into: Path
    viewer: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseAssets:
    """What was made of a case.

    Attributes:
        case: Its name.
        figure: Whether its figure is there.
        volumes: Files for the viewer, by what they show.
        scores: Metrics by name; none without true labels.
        volume_ml: Of the mask, where no record tells.
        lesions: Number of its components, where no record tells.
        problems: What could not be made and why, in a sentence each, without paths.
    """

    case: str
    figure: bool = False
    volumes: Mapping[str, str] = field(default_factory=dict[str, str])
    scores: Mapping[str, float] = field(default_factory=dict[str, float])
    volume_ml: float | None = None
    lesions: int | None = None
    problems: tuple[str, ...] = ()


def make_case_assets(jobs: Sequence[CaseAssetsJob], processes: int) -> Iterator[CaseAssets]:
    """Make what is asked for of many cases side by side, and yield it as it comes; a killed process costs its case."""
    for _, made in map_in_processes(
        make_case, jobs, processes, killed=lambda job: CaseAssets(case=job.case, problems=(KILLED,))
    ):
        yield made


def make_case(job: CaseAssetsJob) -> CaseAssets:
    """Make what is asked for of one case; what cannot be made does not keep the rest from it."""
    scan, problems = _scan(job)
    if not is_own_file(job.folder, f"{job.case}{ENDING}"):
        return CaseAssets(case=job.case)
    figure, of_figure = _figure(job, scan)
    volumes, of_volumes = _volumes(job, scan)
    scores, of_scores = _scores(job)
    volume_ml, lesions, of_mask = _measured(job)
    found = (*problems, *of_figure, *of_volumes, *of_scores, *of_mask)
    of_scan = [scan.path, *scan.files] if scan else []
    known = [*of_scan, job.folder, job.into, *([job.truth] if job.truth else [])]
    return CaseAssets(
        case=job.case,
        figure=figure,
        volumes=volumes,
        scores=scores,
        volume_ml=volume_ml,
        lesions=lesions,
        problems=tuple(dict.fromkeys(without_paths(problem, known) for problem in found)),
    )


def _scan(job: CaseAssetsJob) -> tuple[Scan | None, list[str]]:
    """Return the CT of a case, whose files are there; else None and why."""
    try:
        scan = job.scan if job.scan is not None or job.record is None else recorded_scan(job.record)
    except (CascadeError, OSError, ValueError) as error:
        return None, [f"its CT cannot be found: {one_line(error)}"]
    if scan is None:
        return None, ["nothing tells where its CT is; give its folder by --images"]
    if scan.files and all(path.is_file() for path in scan.files):
        return scan, []
    return None, ["its CT is not where it was; give its folder by --images"]


def _figure(job: CaseAssetsJob, scan: Scan | None) -> tuple[bool, list[str]]:
    from nnunet_cascade.report.figures.drawing import draw_figure  # noqa: PLC0415 - loads matplotlib

    try:
        draw_figure(replace(job, scan=scan), job.into / FIGURE)
    except Exception as error:  # noqa: BLE001 - whatever one case does, the others go on
        return False, [f"there is no figure: {one_line(error)}"]
    return True, []


def _volumes(job: CaseAssetsJob, scan: Scan | None) -> tuple[Mapping[str, str], list[str]]:
    if not job.viewer:
        return {}, []
    from nnunet_cascade.report.viewing.volumes import place_volumes  # noqa: PLC0415 - not every report has a viewer

    truth = None if job.truth is None else LabelFile(job.truth, job.truth_tumor)
    try:
        return place_volumes(job.case, job.folder, job.record, scan, truth, job.into), []
    except Exception as error:  # noqa: BLE001 - whatever one case does, the others go on
        return {}, [f"there is no viewer: {one_line(error)}"]


def _scores(job: CaseAssetsJob) -> tuple[Mapping[str, float], list[str]]:
    if job.truth is None:
        return {}, []
    prediction = LabelFile(job.folder / f"{job.case}{ENDING}", job.tumor)
    files = ScoreJob(case=job.case, truth=LabelFile(job.truth, job.truth_tumor), predictions={_METHOD: prediction})
    scored = score_job(files)[_METHOD]
    return scored.values, [f"it cannot be compared with the true labels: {scored.error}"] if scored.error else []


def _measured(job: CaseAssetsJob) -> tuple[float | None, int | None, list[str]]:
    """Measure a mask that has no record: volume and components."""
    if job.record is not None:
        return None, None, []
    path = job.folder / f"{job.case}{ENDING}"
    try:
        grid = read_volume(path).grid
        mask = job.tumor.mask(read_label_map(path, grid, job.tumor, what="mask"))
        lesions = int(label_components(mask).max(initial=0))
    except Exception as error:  # noqa: BLE001 - whatever one case does, the others go on
        return None, None, [f"its mask cannot be read: {one_line(error)}"]
    return float(mask.sum()) * grid.voxel_volume_mm3 / MM3_PER_ML, lesions, []
