"""Worker processes: how they are started, that they hear no Ctrl-C, and that none outlives its parent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Generator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_all_start_methods, get_context, parent_process
from multiprocessing.context import BaseContext

_SERVER = "forkserver"
_PR_SET_PDEATHSIG = 1
_SIGKILL = 9


def worker_pool(processes: int, *, preload: str) -> ProcessPoolExecutor:
    """Return a pool whose workers end with the process that started it; their server imports `preload` once for all."""
    return ProcessPoolExecutor(processes, mp_context=_context(preload), initializer=end_with_parent)


def start_early(preload: str) -> None:
    """Start the server before the caller imports what takes long; where there is none, do nothing."""
    if _SERVER not in get_all_start_methods():
        return
    from multiprocessing.forkserver import ensure_running  # noqa: PLC0415 - not everywhere

    _context(preload)
    with interrupts_ignored():
        ensure_running()


@contextmanager
def interrupts_ignored() -> Generator[None, None, None]:
    """Start processes that do not hear of Ctrl-C: who started them ends them, without a traceback from each.

    The caller hears at the end of what came meanwhile.

    Raises:
        KeyboardInterrupt: As the caller's own handling of Ctrl-C does.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: heard.append(number))
    try:
        with _interrupts_blocked():
            yield
    finally:
        signal.signal(signal.SIGINT, before or signal.default_int_handler)
    if heard:
        signal.raise_signal(signal.SIGINT)


@contextmanager
def _interrupts_blocked() -> Generator[None, None, None]:
    """Keep SIGINT from this thread, and from the processes it starts as long as they live; Windows has no such mask."""
    if sys.platform == "win32":
        yield
        return
    from multiprocessing import resource_tracker  # noqa: PLC0415 - not everywhere

    resource_tracker.ensure_running()  # started later, it would undo the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _context(preload: str) -> BaseContext:
    """Return the way workers are started: forked from a server of their own, or fresh where there is none.

    Never forked from the caller itself: they may inherit locks of ITK's threads.
    """
    if _SERVER not in get_all_start_methods():
        return get_context("spawn")
    context = get_context(_SERVER)
    context.set_forkserver_preload([preload])
    return context


@contextmanager
def environment(values: Mapping[str, str]) -> Generator[None, None, None]:
    """Start processes with some variables of the environment set, which libraries read when they are loaded."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def end_with_parent() -> None:
    """Let a worker end when the process that started it is gone; it would wait for work forever.

    Linux ends it at once, whatever it is at, where it was started by that process
    itself; elsewhere a thread does, as soon as it gets its turn.
    """
    if sys.platform == "linux" and not _has_server():
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_wait_for_the_end_of_the_parent, daemon=True).start()


def _has_server() -> bool:
    """Tell whether this worker's parent, to the system, is a server of processes."""
    parent = parent_process()
    return parent is None or parent.pid != os.getppid()


def told_exit(code: int | None) -> str:
    """Say in words how a process ended."""
    if code is None:
        return "was lost"
    if code >= 0:
        return f"ended with exit code {code}"
    hint = "; the system may have run out of memory" if -code == _SIGKILL else ""
    return f"ended by signal {-code}{hint}"


def _wait_for_the_end_of_the_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
