"""Many cases through a cascade: none twice, none lost, a bad one named and passed over."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_cascade.bundles.checksums import model_checksums
from nnunet_cascade.case_folders.case_files import CHANNEL
from nnunet_cascade.case_folders.case_record import CaseRecord, read_record
from nnunet_cascade.case_folders.record_parts import UncertaintyRecord, VolumeRecord
from nnunet_cascade.case_folders.records import read_finished, record_path
from nnunet_cascade.case_folders.run import (
    log_case_error,
    open_folder,
    remove_case,
    require_case_name,
    require_writable,
)
from nnunet_cascade.case_folders.run_report import CaseLine, RunContext, RunReport, write_run
from nnunet_cascade.cohort.dispatch import Cases, Dispatcher
from nnunet_cascade.cohort.engine import Engine
from nnunet_cascade.cohort.jobs import CaseFiles, CaseOutcome, CohortJob
from nnunet_cascade.cohort.local_engine import LocalEngine
from nnunet_cascade.errors import DicomError, InputImageError, RecordError, one_line
from nnunet_cascade.images import ENDING
from nnunet_cascade.machine import threads_per_worker
from nnunet_cascade.postprocessing.lungs.inputs import lung_files
from nnunet_cascade.scans.scans import Scan
from nnunet_cascade.settings.serialization import require

if TYPE_CHECKING:
    from nnunet_cascade.cohort.dicom_exports import DicomExports

_log = logging.getLogger(__name__)
_STORY_SECONDS = 60.0
_HASHING_THREADS = 2
_HASHED_AHEAD = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """Who predicts.

    Attributes:
        count: How many there are at most.
        devices: Where the networks run; workers take them in turn.
        engine: Where workers live, as `run.json` names it.
        make: Starts the engine for a job, with so many workers on such devices.

    Raises:
        SettingsError: There is no worker, or no device for it.
    """

    count: int = 1
    devices: tuple[str, ...] = ("cpu",)
    engine: str = "local"
    make: Callable[[CohortJob, Workers], Engine] = lambda job, workers: LocalEngine(job, workers.devices, workers.count)

    def __post_init__(self) -> None:
        require(self.count >= 1, f"workers must be at least 1; found {self.count}")
        require(bool(self.devices), "workers need a device; name one, such as cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortRequest:
    """Which cases to predict, with what, and by whom.

    Attributes:
        cases: CTs by case.
        job: What to do with each; checksums of its models are taken when the run begins.
        stage1_masks: Folder of `<case>.nii.gz` to take instead of stage 1, or None.
        resume: Leave out cases whose record is there, made from the same.
        workers: Who predicts.
        context: What is known of the run besides.
        told: Further values for `varying` in `run.json`, such as the series that are no cases.
        exports: Writes DICOM of each case, or None.
    """

    cases: Mapping[str, Scan]
    job: CohortJob
    stage1_masks: Path | None = None
    resume: bool = False
    workers: Workers = field(default_factory=Workers)
    context: RunContext = field(default_factory=lambda: RunContext(begun=time.time()))
    told: Mapping[str, Any] = field(default_factory=dict[str, Any])
    exports: DicomExports | None = None


def case_name(path: Path) -> str:
    """Return the case of an image file: its name without channel and ending."""
    return path.name.removesuffix(ENDING).removesuffix(CHANNEL)


def predict_cohort(request: CohortRequest) -> Generator[CaseOutcome, None, None]:
    """Predict cases, and tell the story of it in `run.json`, which is renewed now and then and at the end.

    Models are loaded once per worker, and not at all where every case is done.

    Yields:
        The outcome of each case, as soon as it is final; not in the order of the cases.

    Raises:
        InputImageError: The output folder cannot be written, or can be no more, or two cases would share a file.
        BundleError, DropoutError, LungMaskError, SettingsError: The bundle, or lungmask's weights, cannot be loaded.
        RunError: Another run is at work in the output folder, or no worker lives.
    """
    share, job = request.context.share, request.job
    job = replace(
        job,
        threads=job.threads or threads_per_worker(request.workers.count),
        model=model_checksums(job.bundle, job.spec, with_stage1=job.with_stage1),
        worker_lock=share.worker_lock(job.output),
    )
    with open_folder(job.output, share, request.cases):
        run = _Run(request, job)
        run.write()  # before the first case, so that other parts know of this one
        try:
            yield from run.outcomes()
            run.export()
        except BaseException:
            with suppress(OSError):
                run.write()
            raise
        finally:
            if request.exports is not None:
                request.exports.close()
        run.write()


class _Run:
    """A run under way; the job is as workers get it."""

    def __init__(self, request: CohortRequest, job: CohortJob) -> None:
        self._request, self._job = request, job
        self._lines: dict[str, CaseLine] = {}
        self._dispatcher: Dispatcher | None = None
        self._written = 0.0

    def outcomes(self) -> Iterator[CaseOutcome]:
        """Do all cases; an engine is made when the first of them is not done yet."""
        with closing(_todo(self._request, self._job)) as todo:
            for files in todo:
                if isinstance(files, CaseFiles):
                    yield from self._predicted(chain([files], todo))
                else:
                    yield self._noted(files)

    def _predicted(self, cases: Cases) -> Iterator[CaseOutcome]:
        workers, output = self._request.workers, self._job.output
        _log.info("loading the models (%s)", ", ".join(workers.devices))
        with closing(workers.make(self._job, workers)) as engine:
            self._dispatcher = Dispatcher(
                engine,
                cases,
                workers=workers.count,
                capacity=self._job.capacity,
                check=lambda: require_writable(output),
            )
            for outcome in self._dispatcher.run():
                yield self._noted(outcome)

    def _noted(self, outcome: CaseOutcome) -> CaseOutcome:
        """Keep what the run's files tell of a case, and renew them now and then."""
        line = _line(outcome, self._job.output)
        if line.status == "failed" and outcome.tried:  # a worker that is lost leaves what it had written
            try:
                remove_case(self._job.output, line.case)
            except OSError as error:
                _log.warning("what is left of %s cannot be removed (%s)", line.case, error.strerror)
        self._lines[line.case] = line
        if line.status == "done" and not line.earlier and self._request.exports is not None:
            self._request.exports.begin(self._request.cases[line.case])
        if time.monotonic() - self._written > _STORY_SECONDS:
            try:
                self.write()
            except OSError as error:
                _log.warning("run.json cannot be renewed (%s); it will be tried again", error.strerror)
        return replace(outcome, status=line.status, error=line.error)

    def export(self) -> None:
        """Write the DICOM that is asked for of all cases that are done, those of earlier runs too."""
        done = {case for case, line in self._lines.items() if line.status == "done"}
        if self._request.exports is not None and done:
            self._request.exports.finish({case: scan for case, scan in self._request.cases.items() if case in done})

    def write(self) -> None:
        """Write what is known so far."""
        self._written = time.monotonic()
        request, job, dispatcher = self._request, self._job, self._dispatcher
        workers = request.workers
        report = RunReport(
            output=job.output,
            context=request.context,
            settings=job.spec.to_json(),
            total=len(request.cases),
            made_with={"model": dict(job.model), "precision": job.precision},
            varying={
                **request.told,
                **({} if request.exports is None else {"dicom": request.exports.to_json()}),
                "engine": workers.engine,
                "workers": workers.count,
                "devices": list(workers.devices),
                "threads": job.threads,
                "attempts": {} if dispatcher is None else dict(sorted(dispatcher.attempts.items())),
                "lost_workers": [] if dispatcher is None else dispatcher.lost,
            },
        )
        write_run([self._lines[case] for case in request.cases if case in self._lines], report)


def _todo(request: CohortRequest, job: CohortJob) -> Generator[CaseFiles | CaseOutcome, None, None]:
    """Return what is to do, and the outcomes that are known without: each is looked at shortly before its turn."""
    with ThreadPoolExecutor(_HASHING_THREADS) as pool:
        ahead: deque[Future[CaseFiles | CaseOutcome]] = deque()
        for scan in request.cases.values():
            ahead.append(pool.submit(_looked_up, scan, request, job))
            if len(ahead) > _HASHED_AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _looked_up(scan: Scan, request: CohortRequest, job: CohortJob) -> CaseFiles | CaseOutcome:
    """Return the files of a case, or its outcome where an earlier run did it from the same, or it cannot be done."""
    try:
        require_case_name(scan.case)
        if scan.trouble:
            remove_case(job.output, scan.case)
        scan.require_readable()
        masks = request.stage1_masks
        files = CaseFiles(
            scan=scan,
            stage1_mask=None if masks is None else masks / f"{scan.case}{ENDING}",
            lungs=tuple(lung_files(job.spec.lungs, scan.case)),
        )
        if not (request.resume and _is_done(files, job)):
            return files
    except (InputImageError, DicomError, RecordError, OSError) as error:
        return CaseOutcome(case=scan.case, status="failed", error=log_case_error(scan.case, error), tried=False)
    return CaseOutcome(case=scan.case, status="done", earlier=True, tried=False)


def _is_done(files: CaseFiles, job: CohortJob) -> bool:
    record = read_finished(job.output, files.case, job.made_from(None))
    return record is not None and record.inputs == tuple(map(tuple, files.checksums()))


def _line(outcome: CaseOutcome, output: Path) -> CaseLine:
    """Return what the run's files tell of a case; one without a record is not done, whoever says so."""
    if outcome.status == "failed":
        return CaseLine(case=outcome.case, status="failed", error=outcome.error)
    try:
        figures = _figures(read_record(record_path(output, outcome.case)))
    except RecordError as error:
        return CaseLine(case=outcome.case, status="failed", error=one_line(error))
    return CaseLine(case=outcome.case, status="done", figures=figures, earlier=outcome.earlier)


def _figures(record: CaseRecord) -> dict[str, Any]:
    uncertainty = record.uncertainty or UncertaintyRecord()
    volume = uncertainty.volume or VolumeRecord()
    return {
        "tumor_ml": None if record.tumor is None else record.tumor.volume_ml,
        "candidates": len(record.candidates or ()),
        "kept": len(record.rois or ()),
        "tumor_ml_p5": volume.p5_ml,
        "tumor_ml_p95": volume.p95_ml,
        "mean_uncertainty_in_tumor": uncertainty.mean_in_tumor,
        "lungs_ml": None if record.lungs is None else record.lungs.volume_ml,
        "flags": list(record.flags or ()),
    }
