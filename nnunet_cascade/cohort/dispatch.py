"""Who does what: cases to workers, failed ones once more, and those that a lost worker held alone."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from nnunet_cascade.cohort.engine import Engine, Event, Finished, Lost, Ready, Refused
from nnunet_cascade.cohort.jobs import CaseFiles, CaseOutcome
from nnunet_cascade.errors import RunError

_log = logging.getLogger(__name__)
_STILLBORN = 3
"""Workers lost one after the other before they were ready, from which no other one is expected to live."""

Cases = Iterator[CaseFiles | CaseOutcome]
"""What is to do; outcomes among it were known before and are passed on as they are."""


@dataclass(slots=True)
class _Worker:
    """What is known of a worker that lives; `held` are its cases by name."""

    held: dict[str, CaseFiles] = field(default_factory=dict[str, CaseFiles])
    ready: bool = False  # its models are loaded; before that it is promised cases and given none
    alone: bool = False  # it has a suspect and may have nothing else


class Dispatcher:
    """Hands cases to the workers of an engine and hears of them.

    A case that fails is tried once more when all others are through, then reported. Of the
    cases that a lost worker held nobody knows which one ended it: each is tried again with a
    worker to itself, after all others, so that none is reported for its neighbor; one that loses that
    worker too is reported. No more is asked of `cases` than workers have room for.

    Args:
        engine: Where workers live; whoever made it closes it.
        cases: What is to do.
        workers: How many workers there are at most; fewer are started where cases are fewer.
        capacity: Cases that each holds at a time.
        check: Raises where no case can succeed any more, such as without an output folder;
            asked after each failure.
    """

    def __init__(
        self, engine: Engine, cases: Cases, *, workers: int, capacity: int, check: Callable[[], None] = lambda: None
    ) -> None:
        self.attempts: dict[str, int] = {}
        """How often each case was begun, where more than once."""
        self.lost: list[dict[str, Any]] = []
        """What `run.json` tells of each worker that ended before it should."""
        self._engine, self._fresh, self._check = engine, cases, check
        self._most, self._capacity = workers, capacity
        self._workers: dict[int, _Worker] = {}
        self._pending: deque[CaseFiles] = deque()
        self._failed: deque[CaseFiles] = deque()
        self._suspects: deque[CaseFiles] = deque()
        self._startup_failures = 0

    def run(self) -> Iterator[CaseOutcome]:
        """Do all cases.

        Yields:
            The outcome of each, once, as soon as it is final.

        Raises:
            CascadeError: A worker refused the job, or `check` raised.
            RunError: No worker lives long enough to begin a case.
        """
        while True:
            yield from self._fill()
            if not self._workers or not any(worker.held for worker in self._workers.values()):
                return
            for event in self._engine.wait():
                yield from self._handle_event(event)

    def _fill(self) -> Iterator[CaseOutcome]:
        """Hand out cases until no worker has room or none is left."""
        while (number := self._with_room()) is not None or len(self._workers) < self._most:
            files = self._next()
            if isinstance(files, CaseOutcome):
                yield files
            elif files is not None:
                self._give(files, number)
            else:
                self._give_suspects()
                return

    def _with_room(self) -> int | None:
        """Return the worker with the fewest cases, if it has room and need not wait for another one to be started."""
        free = {number: len(worker.held) for number, worker in self._workers.items() if not worker.alone}
        number = min(free, key=lambda key: free[key], default=None)
        if number is None or free[number] >= self._capacity:
            return None
        return number if free[number] == 0 or len(self._workers) >= self._most else None

    def _next(self) -> CaseFiles | CaseOutcome | None:
        """Return the next case: one that was promised, a fresh one, or one to try again."""
        if self._pending:
            return self._pending.popleft()
        fresh = next(self._fresh, None)
        if fresh is None and self._failed:
            return self._failed.popleft()
        return fresh

    def _give(self, files: CaseFiles, number: int | None) -> _Worker:
        """Hand a case to a worker, or to a new one."""
        if number is None:
            number = self._engine.start()
            self._workers[number] = _Worker()
        worker = self._workers[number]
        worker.held[files.case] = files
        if worker.ready:
            self._engine.submit(number, files)
        return worker

    def _give_suspects(self) -> None:
        """Hand each suspect to a worker that has nothing else and gets nothing else meanwhile."""
        while self._suspects:
            number = next((number for number, worker in self._workers.items() if not worker.held), None)
            if number is None and len(self._workers) >= self._most:
                return
            self._give(self._suspects.popleft(), number).alone = True

    def _handle_event(self, event: Event) -> Iterator[CaseOutcome]:
        if isinstance(event, Refused):
            raise event.error
        worker = self._workers.get(event.worker)
        if worker is None:
            return
        if isinstance(event, Ready):
            worker.ready, self._startup_failures = True, 0
            for files in worker.held.values():
                self._engine.submit(event.worker, files)
        elif isinstance(event, Finished):
            yield from self._finished(worker, event.outcome)
        else:
            del self._workers[event.worker]
            yield from self._handle_worker_loss(worker, event)

    def _finished(self, worker: _Worker, outcome: CaseOutcome) -> Iterator[CaseOutcome]:
        files = worker.held.pop(outcome.case, None)
        if files is None:
            return
        again = outcome.status == "failed" and not worker.alone and outcome.case not in self.attempts
        worker.alone = False
        if outcome.status == "failed":
            _log.error("%s: %s%s", outcome.case, outcome.error, "; it is tried once more at the end" if again else "")
            self._check()
        if not again:
            yield outcome
            return
        self._try_again(files)
        self._failed.append(files)

    def _handle_worker_loss(self, worker: _Worker, event: Lost) -> Iterator[CaseOutcome]:
        """Sort what a lost worker held: not begun, suspect, or at fault."""
        held = tuple(worker.held)
        now = time.strftime("%FT%TZ", time.gmtime())
        self.lost.append({"worker": event.worker, "reason": event.reason, "time": now, "cases": list(held)})
        self._check()
        if not worker.ready:
            self._pending.extend(files for files in worker.held.values() if not worker.alone)
            self._suspects.extend(files for files in worker.held.values() if worker.alone)
            self._check_startup_failures(event.reason)
            _log.warning("worker %d did not begin; another one is tried", event.worker)
            return
        _log.warning("worker %d %s%s", event.worker, event.reason, f"; it held {', '.join(held)}" if held else "")
        if worker.alone:
            for case in held:
                told = f"the worker that did this case alone {event.reason}, as one did before"
                _log.error("%s: %s", case, told)
                yield CaseOutcome(case=case, status="failed", error=told)
        else:
            for files in worker.held.values():
                self._try_again(files)
                self._suspects.append(files)

    def _try_again(self, files: CaseFiles) -> None:
        self.attempts[files.case] = self.attempts.get(files.case, 1) + 1

    def _check_startup_failures(self, reason: str) -> None:
        self._startup_failures += 1
        if self._startup_failures >= _STILLBORN:
            raise RunError(
                f"{self._startup_failures} workers one after the other were lost before they began ({reason}); "
                "check memory and device, and ask for fewer --workers"
            )
