"""A report appears whole or not at all: made beside its place, then put there for the one that was."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from nnunet_cascade.errors import ReportError, SettingsError
from nnunet_cascade.files import flush_folder, write_json
from nnunet_cascade.versions import NOTICE, versions

MARK = "nnc-report.json"
"""What tells a report of ours from any other folder."""


@contextmanager
def atomic_report(output: Path) -> Generator[Path, None, None]:
    """Return a folder beside a report's to write to; it takes the report's place when all is written.

    An error inside leaves nothing of it, and a report that was there as it was.

    Args:
        output: Where the report is to be: nothing, an empty folder, or a report of ours.

    Raises:
        SettingsError: Something else is there.
        ReportError: A folder cannot be made or moved, or another process is making the same report.
    """
    beside, old = (output.with_name(f"{output.name}.{ending}") for ending in ("partial", "old"))
    for folder in (output, beside, old):
        _require_ours(folder)
    lock: int | None = None
    try:
        lock = _claimed(beside)
        write_json(beside / MARK, {"made_by": "nnc-report", "notice": NOTICE, "versions": versions()})
    except OSError as error:
        raise ReportError(f"{beside} cannot be written ({error.strerror}); choose another place by -o") from error
    try:
        yield beside
        _swap(beside, output, old)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    finally:
        _let_go(lock)


def _claimed(beside: Path) -> int | None:
    """Make a folder anew that no other process is writing, and lock it; the lock ends with this process."""
    if beside.is_dir():
        left = _locked(beside)
        shutil.rmtree(beside)
        _let_go(left)
    beside.mkdir(parents=True)
    return _locked(beside)


def _locked(folder: Path) -> int | None:
    if sys.platform == "win32":
        return None
    import fcntl  # noqa: PLC0415 - not on Windows

    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise ReportError(f"another nnc-report is writing {folder}; wait for it, or use -o") from error
    except OSError:  # a file system without locks
        pass
    return handle


def _let_go(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def _swap(beside: Path, output: Path, old: Path) -> None:
    flush_folder(beside)
    try:
        _remove(old)
        if output.is_dir():
            output.rename(old)
        beside.rename(output)
    except OSError as error:
        if old.is_dir() and not output.exists():
            old.rename(output)
        raise ReportError(f"{output} cannot be replaced ({error.strerror}); close what uses it, or use -o") from error
    shutil.rmtree(old, ignore_errors=True)


def _require_ours(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise SettingsError(f"{folder} is no plain folder; give another one by -o")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file():
        raise SettingsError(f"{folder} is there and is no report of nnc-report; give another folder by -o")


def _remove(folder: Path) -> None:
    if folder.is_dir():
        shutil.rmtree(folder)
