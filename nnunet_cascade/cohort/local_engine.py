"""Workers as processes of this machine, each with a pipe of its own."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pickle import UnpicklingError
from typing import Any, Protocol

from tqdm import tqdm

from nnunet_cascade.case_folders.lock import hold_as_worker
from nnunet_cascade.cohort.engine import Event, Finished, Lost, Ready, Refused
from nnunet_cascade.cohort.jobs import CaseFiles, CaseOutcome, CohortJob
from nnunet_cascade.errors import CascadeError, one_line
from nnunet_cascade.machine import find_device, worker_environment
from nnunet_cascade.processes import end_with_parent, environment, interrupts_ignored, told_exit

_SHUTDOWN_TIMEOUT_S = 10.0
_LONGEST_LINE = 400


class Worker(Protocol):
    """What a process holds; `CaseWorker` is one."""

    async def predict(self, files: CaseFiles) -> CaseOutcome:
        """Predict a case and write its results."""
        ...

    def close(self) -> None:
        """End what the worker started."""


MakeWorker = Callable[[CohortJob, str], Worker]
"""Loads the models of a job on a device."""


def case_worker(job: CohortJob, device: str) -> Worker:
    """Load the models; torch is imported here, in the worker's process alone.

    Raises:
        BundleError, DropoutError: The bundle cannot be loaded.
        SettingsError: It does not go with the settings, or there is no such device.
    """
    from nnunet_cascade.cohort.worker import CaseWorker  # noqa: PLC0415 - see above

    find_device(device)
    return CaseWorker(job, device)


@dataclass(frozen=True, slots=True)
class _Unloaded:
    """What a process says that cannot load its models, for a reason nobody thought of."""

    reason: str


@dataclass(slots=True)
class _Process:
    process: SpawnProcess
    channel: Connection
    device: str


class LocalEngine:
    """One spawned process per worker, which ends with this one.

    Args:
        job: What to do.
        devices: Where the networks run; each worker takes the one with the fewest that live.
        workers: How many are meant to be started; they share the machine's cores.
        make: Loads the models in the worker's process.
    """

    def __init__(
        self, job: CohortJob, devices: Sequence[str], workers: int = 1, make: MakeWorker = case_worker
    ) -> None:
        self._job, self._devices, self._make = job, devices, make
        self._variables = worker_environment(workers, threads=job.threads)
        self._context = multiprocessing.get_context("spawn")
        self._workers: dict[int, _Process] = {}
        self._started = 0

    def start(self) -> int:
        """Start a process and give its number; `Ready`, `Refused` or `Lost` follows."""
        number, self._started = self._started, self._started + 1
        ours, theirs = self._context.Pipe()
        taken = [known.device for known in self._workers.values()]
        device = min(self._devices, key=taken.count)
        process = self._context.Process(
            target=_work, args=(theirs, self._job, device, self._make), name=f"worker {number}"
        )
        with environment(self._variables), interrupts_ignored():
            process.start()
            theirs.close()
            self._workers[number] = _Process(process, ours, device)
        return number

    def submit(self, worker: int, files: CaseFiles) -> None:
        """Hand a case to a process; `Finished` or `Lost` follows. One that is gone already is no error."""
        known = self._workers.get(worker)
        if known is not None:
            with suppress(OSError):  # `wait` tells of its end
                known.channel.send(files)

    def wait(self) -> Sequence[Event]:
        """Wait until something happens, and give it in the order it happened; without workers, nothing does."""
        if not self._workers:
            return []
        numbers: dict[Any, int] = {}
        for number, known in self._workers.items():
            numbers[known.channel] = numbers[known.process.sentinel] = number
        heard = dict.fromkeys(numbers[source] for source in wait(list(numbers)))
        return [event for number in heard for event in self._handle_event(number)]

    def close(self) -> None:
        """End all processes at once: what they have told of is on the disk, and the rest is wanted no more."""
        workers, self._workers = self._workers, {}
        for known in workers.values():
            known.process.kill()
        for known in workers.values():
            known.process.join()
            known.channel.close()

    def _handle_event(self, number: int) -> list[Event]:
        """Return what a process says, and that it is lost where it says no more."""
        known = self._workers[number]
        events: list[Event] = []
        try:
            while known.channel.poll():
                said = known.channel.recv()
                if isinstance(said, _Unloaded):
                    return [*events, self._lost(number, said.reason)]
                events.append(_event(number, said))
        except (OSError, EOFError, UnpicklingError):
            return [*events, self._lost(number)]
        if not events and not known.process.is_alive():
            return [self._lost(number)]
        return events

    def _lost(self, number: int, reason: str = "") -> Lost:
        known = self._workers.pop(number)
        known.channel.close()
        known.process.join(_SHUTDOWN_TIMEOUT_S)
        if known.process.is_alive():
            known.process.kill()
            known.process.join()
        return Lost(number, reason or told_exit(known.process.exitcode))


def _event(number: int, said: object) -> Event:
    if isinstance(said, CaseOutcome):
        return Finished(number, said)
    return Refused(number, said) if isinstance(said, CascadeError) else Ready(number)


def _work(channel: Connection, job: CohortJob, device: str, make: MakeWorker) -> None:
    """Be a worker until the other end of the pipe is closed; what happens to cases is told there, not on the screen."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # nnU-Net's progress bars would make a lock for all processes, which nobody takes down when this one is killed.
    tqdm.set_lock(threading.RLock())
    with hold_as_worker(job.worker_lock):
        logging.getLogger("nnunet_cascade").setLevel(logging.CRITICAL)
        try:
            worker = make(job, device)
        except CascadeError as error:
            channel.send(error)
            return
        except Exception as error:  # noqa: BLE001 - such as a GPU without memory: a line there, no traceback here
            channel.send(_Unloaded(f"cannot load the models: {_line(error)}"))
            return
        channel.send(None)
        asyncio.run(_serve(channel, worker))
        worker.close()


async def _serve(channel: Connection, worker: Worker) -> None:
    under_way: set[asyncio.Task[None]] = set()
    while (files := await asyncio.to_thread(_received, channel)) is not None:
        task = asyncio.create_task(_predict(channel, worker, files))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    if under_way:
        os._exit(1)  # nobody waits for these any more


async def _predict(channel: Connection, worker: Worker, files: CaseFiles) -> None:
    try:
        outcome = await worker.predict(files)
    except Exception as error:  # noqa: BLE001 - whatever one case does, the others go on
        outcome = CaseOutcome(case=files.case, status="failed", error=_line(error))
    channel.send(outcome)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error)}"[:_LONGEST_LINE]


def _received(channel: Connection) -> CaseFiles | None:
    try:
        return channel.recv()
    except (EOFError, OSError):
        return None
