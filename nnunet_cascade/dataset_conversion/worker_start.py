"""Starting worker processes early: they import what they need while their parent does."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.context import BaseContext

_SERVER = "forkserver"
_WORK = "nnunet_cascade.dataset_conversion.writing"


def worker_context() -> BaseContext:
    """Give the way workers are started: forked from a server of their own, or fresh where there is none.

    Never forked from the caller itself: they may inherit locks of ITK's threads.
    """
    if _SERVER not in get_all_start_methods():
        return get_context("spawn")
    context = get_context(_SERVER)
    context.set_forkserver_preload([_WORK])
    return context


def start_early() -> None:
    """Start the server before the caller imports what takes long; where there is none, do nothing."""
    if _SERVER not in get_all_start_methods():
        return
    from multiprocessing.forkserver import ensure_running  # noqa: PLC0415 - not everywhere

    worker_context()
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
