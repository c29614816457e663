"""Worker processes: how they are started, that they hear no Ctrl-C, and that none outlives its parent."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_all_start_methods, get_context, parent_process
from multiprocessing.context import BaseContext

_SERVER = "forkserver"


def worker_pool(processes: int, *, preload: str) -> ProcessPoolExecutor:
    """Give a pool whose workers end with the process that started it.

    Args:
        processes: How many.
        preload: Module that workers need; their server imports it once for all.
    """
    return ProcessPoolExecutor(processes, mp_context=_context(preload), initializer=_end_with_parent)


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
    """Start processes that do not hear of Ctrl-C: who started them ends them, without a traceback from each."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.default_int_handler)


def _context(preload: str) -> BaseContext:
    """Give the way workers are started: forked from a server of their own, or fresh where there is none.

    Never forked from the caller itself: they may inherit locks of ITK's threads.
    """
    if _SERVER not in get_all_start_methods():
        return get_context("spawn")
    context = get_context(_SERVER)
    context.set_forkserver_preload([preload])
    return context


def _end_with_parent() -> None:
    """Let a worker end when the process that started it is gone; it would wait for work forever."""
    threading.Thread(target=_wait_for_the_end_of_the_parent, daemon=True).start()


def _wait_for_the_end_of_the_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
