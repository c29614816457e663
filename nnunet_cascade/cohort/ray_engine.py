"""Workers as Ray actors: on this machine, or wherever the cluster that Ray is connected to has room."""

from __future__ import annotations

import logging
import math
import os
import platform
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

from nnunet_cascade.case_folders.lock import hold_as_worker
from nnunet_cascade.cohort.engine import Event, Finished, Lost, Ready, Refused
from nnunet_cascade.cohort.jobs import CaseFiles, CaseOutcome, CohortJob
from nnunet_cascade.cohort.local_engine import MakeWorker, Worker, case_worker
from nnunet_cascade.cohort.ray_connection import RayConnection
from nnunet_cascade.errors import CascadeError, SettingsError, one_line
from nnunet_cascade.machine import threads_per_worker, worker_environment
from nnunet_cascade.scans.scans import Scan

_log = logging.getLogger(__name__)
_LOOK_SECONDS = 10.0
_SHUTDOWN_TIMEOUT_S = 10.0
_PAUSE_SECONDS = 0.02
_LONGEST_LINE = 400
_Paths = TypeVar("_Paths", CaseFiles, CohortJob, Scan)
_Home = tuple[str, int]
"""Where an actor lives: its machine, and its process there."""


class CascadeActor:
    """What Ray starts in a process of its own, on this machine or another.

    The paths of its job are absolute; relative ones within the settings begin at `folder`.
    """

    def __init__(self, job: CohortJob, device: str, folder: str, make: MakeWorker) -> None:
        self._job, self._device, self._folder, self._make = job, device, folder, make
        self._worker: Worker | None = None
        self._held = ExitStack()

    async def load(self) -> _Home | CascadeError:
        """Load the models; gives where they are, or the error that every other worker would meet too."""
        with suppress(OSError):
            os.chdir(self._folder)
        try:
            for folder in (self._job.bundle, self._job.output):
                _require_shared(folder)
            self._held.enter_context(hold_as_worker(self._job.worker_lock))
            self._worker = self._make(self._job, self._device)
        except CascadeError as error:
            return error
        return platform.node(), os.getpid()

    async def predict(self, files: CaseFiles) -> CaseOutcome:
        """Predict a case and write its results."""
        if self._worker is None:
            raise SettingsError("no models are loaded; call load first")
        return await self._worker.predict(files)


class RayEngine:
    """One actor per GPU, or per as many CPUs as it has threads, each with both models in memory.

    Ray never restarts an actor: who does what is decided in `dispatch`. All machines must
    see bundle, images and output under the same paths.

    Args:
        job: What to do. Its `threads` are those of each actor; None means as many as the local engine would take.
        device: "cpu", "mps" or "cuda"; with "cuda" each actor has a GPU of its own.
        workers: How many are meant to be started.
        make: Loads the models in the actor; default `CaseWorker`.

    Raises:
        SettingsError: Ray is not installed, cannot be reached, or has no machine with room for an actor.
    """

    def __init__(self, job: CohortJob, device: str, workers: int, make: MakeWorker = case_worker) -> None:
        kind, _, index = device.partition(":")
        if index:
            raise SettingsError(f"Ray gives each worker a GPU of its own; found -device {device}, expected {kind}")
        self._gpus = float(kind == "cuda")
        self._cpus = job.threads or threads_per_worker(workers)
        job = replace(job, threads=self._cpus)
        # Ray would set OMP_NUM_THREADS to the CPUs it shares out, which may be fewer or part of one.
        self._variables = worker_environment(workers, threads=job.threads)
        self._arguments = (_absolute(job), device, str(Path.cwd()), make)
        self._capacity = job.capacity
        self._actors: dict[int, Any] = {}
        self._homes: dict[int, _Home] = {}
        self._asked: dict[Any, tuple[int, CaseFiles | None]] = {}
        self._started = 0
        self._connection = RayConnection(cpus=workers * self._cpus)
        self._ray: Any = self._connection.ray
        try:
            self._require_room(workers)
        except BaseException:
            self.close()
            raise

    def start(self) -> int:
        """Start an actor and give its number; `Ready`, `Refused` or `Lost` follows, once Ray has room for it."""
        number, self._started = self._started, self._started + 1
        remote = self._ray.remote(CascadeActor).options(
            num_cpus=self._cpus,
            num_gpus=self._gpus,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=self._capacity,
            runtime_env={"env_vars": self._variables},
        )
        self._actors[number] = remote.remote(*self._arguments)
        self._asked[self._actors[number].load.remote()] = (number, None)
        return number

    def submit(self, worker: int, files: CaseFiles) -> None:
        """Hand a case to an actor; `Finished` or `Lost` follows. One that is gone already is no error."""
        if worker in self._actors:
            self._asked[self._actors[worker].predict.remote(_absolute(files))] = (worker, files)

    def wait(self) -> Sequence[Event]:
        """Wait until something happens, and give it in the order it happened; nothing asked gives nothing."""
        while self._asked:
            ready, _ = self._ray.wait(list(self._asked), num_returns=1, timeout=_LOOK_SECONDS)
            if ready:
                ready, _ = self._ray.wait(list(self._asked), num_returns=len(self._asked), timeout=0)
                return [event for answer in ready for event in self._event(answer)]
            if not self._homes and self._places() == 0:
                return [Refused(worker, self._no_room()) for worker in self._actors]
        return []

    def close(self) -> None:
        """End all actors, and Ray where this engine started it."""
        actors, homes = self._actors, self._homes
        self._actors, self._homes, self._asked = {}, {}, {}
        try:
            for actor in actors.values():
                self._ray.kill(actor, no_restart=True)
            _await_end([process for host, process in homes.values() if host == platform.node()])
        finally:
            self._connection.close()

    def _event(self, answer: Any) -> list[Event]:
        """Return what an answer says; none for what was lost together with something told before."""
        if answer not in self._asked:
            return []
        worker, files = self._asked.pop(answer)
        try:
            value = self._ray.get(answer)
        except self._ray.exceptions.RayTaskError as error:
            if files is None:
                return self._lost(worker, error.cause)
            return [Finished(worker, CaseOutcome(case=files.case, status="failed", error=_line(error.cause or error)))]
        except self._ray.exceptions.RayError as error:
            return self._lost(worker, error)
        if isinstance(value, CaseOutcome | CascadeError):
            return [Finished(worker, value) if isinstance(value, CaseOutcome) else Refused(worker, value)]
        self._homes[worker] = value
        return [Ready(worker)]

    def _lost(self, worker: int, error: BaseException) -> list[Event]:
        """Return what a lost actor had finished before, then its loss; it is ended for certain."""
        mine = [answer for answer, (owner, _) in self._asked.items() if owner == worker]
        done, _ = self._ray.wait(mine, num_returns=len(mine), timeout=0) if mine else ([], [])
        events: list[Event] = []
        for answer in done:
            with suppress(self._ray.exceptions.RayError):
                events.append(Finished(worker, self._ray.get(answer)))
        for answer in mine:
            del self._asked[answer]
        # An actor that is only out of reach must not write beside the one that takes its place.
        self._ray.kill(self._actors.pop(worker), no_restart=True)
        self._homes.pop(worker, None)
        return [*events, Lost(worker, f"was lost ({_line(error)})")]

    def _places(self) -> int:
        """Count the actors that all machines together could hold."""
        held = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        asked = {"CPU": self._cpus, "GPU": self._gpus}
        return sum(
            min(math.floor(resources.get(name, 0.0) / share) for name, share in asked.items() if share)
            for resources in held
        )

    def _require_room(self, workers: int) -> None:
        places = self._places()
        if places == 0:
            raise self._no_room()
        if places < workers:
            _log.warning("Ray has room for %d of %d workers; the others wait until there is more", places, workers)

    def _no_room(self) -> SettingsError:
        gpu = f" and {self._gpus:g} GPU" if self._gpus else ""
        return SettingsError(
            f"no machine of the Ray cluster has {self._cpus} CPUs{gpu} for a worker; "
            "start one with ray start, ask for fewer threads per worker, or for another -device"
        )


def _absolute(value: _Paths) -> _Paths:
    """Return a value whose paths mean the same in every folder."""
    return replace(value, **{name: _made_absolute(getattr(value, name)) for name in value.__slots__})


def _made_absolute(found: Any) -> Any:
    if isinstance(found, tuple):
        return tuple(map(_made_absolute, cast("tuple[Any, ...]", found)))
    if isinstance(found, Scan):
        return _absolute(found)
    return found.absolute() if isinstance(found, Path) else found


def _require_shared(folder: Path) -> None:
    """Raise where an actor's machine does not see a folder."""
    if not folder.is_dir():
        raise SettingsError(
            f"{platform.node()} has no folder {folder}; with Ray all machines must see "
            "bundle, images and output under the same paths"
        )


def _await_end(processes: Sequence[int]) -> None:
    """Wait until processes of this machine have ended, which Ray does not."""
    end = time.monotonic() + _SHUTDOWN_TIMEOUT_S
    for process in processes:
        with suppress(OSError):  # there is none of that number any more
            while time.monotonic() < end:
                os.kill(process, 0)
                time.sleep(_PAUSE_SECONDS)


def _line(error: BaseException) -> str:
    """Say in a line what happened; of what Ray says in twenty, that which tells why."""
    text = one_line(error)
    _, because, why = text.partition("The actor is dead because ")
    return f"{type(error).__name__}: {why if because else text}"[:_LONGEST_LINE]
