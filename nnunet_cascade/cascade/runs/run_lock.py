"""One run per output folder: locks of the operating system, which end with the process that holds them."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from nnunet_cascade.errors import RunError, SettingsError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_log = logging.getLogger(__name__)
_PATIENCE_SECONDS = 10.0
_PROBES_SECONDS = 1.0
_PAUSE_SECONDS = 0.05
_OF_PART = re.compile(r"run_part\d+\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Which of the cases a run does, as nnU-Net shares them out.

    Attributes:
        num_parts: Runs that share the cases.
        part_id: Which of them this is, from 0.

    Raises:
        SettingsError: There is no such part.
    """

    num_parts: int = 1
    part_id: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.part_id < self.num_parts:
            raise SettingsError(f"-part_id {self.part_id} with -num_parts {self.num_parts}; part_id counts from 0")

    @property
    def ending(self) -> str:
        """What the names of this run's files end with; "" where it does all cases."""
        return f"_part{self.part_id}" if self.num_parts > 1 else ""

    def lock(self, folder: Path) -> Path:
        """Give the file that the run holds a lock on."""
        return folder / f".run{self.ending}.lock"

    def worker_lock(self, folder: Path) -> Path:
        """Give the file that each of its workers holds a lock on."""
        return folder / f".run{self.ending}.workers"


@contextmanager
def hold_folder(folder: Path, share: Share) -> Generator[None, None, None]:
    """Keep other runs off an output folder, but for other parts of the same number of parts.

    Nothing is left of the lock at the end; what a killed run leaves holds nobody up. On
    systems or folders without locks there is a warning and no protection.

    Raises:
        RunError: Another run is at work there, workers of one that was killed are, or an earlier
            one shared the cases out among another number of runs.
    """
    _require_same_parts(folder, share)
    if fcntl is None:
        _log.warning("this system has no file locks; see to it that no other run writes to %s", folder)
        yield
        return
    own = share.lock(folder)
    try:
        file = _locked(own, patience_seconds=_PROBES_SECONDS)
    except OSError as error:
        _log.warning("%s takes no locks (%s); see to it that no other run writes there", folder, error.strerror)
        yield
        return
    if file is None:
        raise RunError(f"{folder} is in use by {_holder(own)}; wait until it ends, or choose another folder")
    try:
        _tell_holder(file, share)
        _require_alone(folder, share)
        yield
    finally:
        with suppress(OSError):
            share.worker_lock(folder).unlink(missing_ok=True)
            own.unlink(missing_ok=True)
        file.close()


@contextmanager
def hold_as_worker(path: Path | None) -> Generator[None, None, None]:
    """Show that a worker lives; no run after this one begins before the worker has ended."""
    with ExitStack() as opened:
        if path is not None and fcntl is not None:
            with suppress(OSError):
                fcntl.flock(opened.enter_context(path.open("ab")), fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield


def _require_same_parts(folder: Path, share: Share) -> None:
    """Refuse to share cases out otherwise than the runs did whose stories lie there: some would be done by nobody."""
    if share.num_parts == 1:
        return
    for path in sorted(folder.glob("run_part*.json")):
        found = _number_of_parts(path) if _OF_PART.fullmatch(path.name) else None
        if found not in (None, share.num_parts):
            raise RunError(
                f"{path} is of a run with -num_parts {found}; found -num_parts {share.num_parts}: parts of one folder "
                "must have the same number; give that one, or remove the folder's run_part*.json to share out anew"
            )


def _number_of_parts(path: Path) -> int | None:
    try:
        number = json.loads(path.read_text(encoding="utf-8"))["num_parts"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return number if isinstance(number, int) else None


def _require_alone(folder: Path, share: Share) -> None:
    """Refuse where a run is at work that does some of the same cases; workers of a killed one end a moment after it."""
    runs = _others(folder, share, ".lock")
    workers = [share.worker_lock(folder), *_others(folder, share, ".workers")]
    for path in runs:
        if not _free(path, patience_seconds=0.0):
            raise RunError(
                f"{folder} is in use by {_holder(path)}; runs side by side need -part_id of their own and the same "
                "-num_parts; wait until it ends, or choose another folder"
            )
    for path in workers:
        if path.is_file() and not _free(path, patience_seconds=_PATIENCE_SECONDS):
            raise RunError(
                f"workers of an earlier run are still at work in {folder}; wait until they have ended, or end them"
            )


def _others(folder: Path, share: Share, ending: str) -> list[Path]:
    """List the files of runs that may not be at work beside this one: all but parts of the same number."""
    own = {share.lock(folder).name, share.worker_lock(folder).name}
    found = [path for path in sorted(folder.glob(f".run*{ending}")) if path.name not in own]
    if share.num_parts == 1:
        return found
    return [path for path in found if _number_of_parts(path.with_suffix(".lock")) not in {None, share.num_parts}]


def _free(path: Path, *, patience_seconds: float) -> bool:
    """Tell whether nobody holds a lock on a file, and remove it then: who held it was killed."""
    file = _locked(path, patience_seconds=patience_seconds)
    if file is None:
        return False
    path.unlink(missing_ok=True)
    file.close()
    return True


def _locked(path: Path, *, patience_seconds: float) -> IO[str] | None:
    """Give a file open and locked; None where somebody else holds it all the time.

    Raises:
        OSError: The file cannot be opened, or its file system has no locks.
    """
    end = time.monotonic() + patience_seconds
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            _lock(file)
            if _is_named(file, path):
                return file
        except BlockingIOError:
            if time.monotonic() >= end:
                file.close()
                return None
        except BaseException:
            file.close()
            raise
        file.close()
        time.sleep(_PAUSE_SECONDS)


def _lock(file: IO[str]) -> None:
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_named(file: IO[str], path: Path) -> bool:
    """Tell whether a file still has its name: who held the lock before may have removed it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _tell_holder(file: IO[str], share: Share) -> None:
    since = time.strftime("%F %T", time.localtime())
    holder = {"host": socket.gethostname(), "process": os.getpid(), "since": since}
    file.truncate(0)
    json.dump({**holder, "num_parts": share.num_parts, "part_id": share.part_id}, file)
    file.flush()


def _holder(path: Path) -> str:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        part = f", part {found['part_id']} of {found['num_parts']}" if found["num_parts"] > 1 else ""
        return f"a run on {found['host']}, process {found['process']}, since {found['since']}{part}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another run"
