"""One run per output folder: locks of the operating system, which end with the process that holds them."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import socket
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from nnunet_cascade.errors import RunError, SettingsError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_log = logging.getLogger(__name__)
_PATIENCE_SECONDS = 10.0
_FILE_PATIENCE_SECONDS = 60.0  # locks are not handed out in turn: one of many writers may wait long
_FILE_PAUSE_SECONDS = 0.01
_PROBES_SECONDS = 1.0
_PAUSE_SECONDS = 0.05
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL})
"""What file systems without locks answer."""
_OF_PART = re.compile(r"run_part\d+\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
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
        """Return the file that the run holds a lock on."""
        return folder / f".run{self.ending}.lock"

    def worker_lock(self, folder: Path) -> Path:
        """Return the file that each of its workers holds a lock on."""
        return folder / f".run{self.ending}.workers"


@contextmanager
def hold_folder(folder: Path, share: Part) -> Generator[None, None, None]:
    """Keep other runs off an output folder, except other parts of the same number of parts.

    Nothing is left of the lock at the end. What a killed run leaves stops nobody, unless it belongs to another user and
    cannot be opened. In a folder without locks there is a warning and no protection.

    Raises:
        RunError: Another run is at work there, or workers of a killed run are, or an earlier
            run divided the cases into another number of parts.
        OSError: The lock's file cannot be opened, for another reason than its owner.
    """
    _require_same_parts(folder, share)
    lock = _own_lock(folder, share)
    if lock is None:
        yield
        return
    try:
        _require_alone(folder, share)
        try:
            yield
        finally:  # if the folder was refused, workers of a killed run may hold it
            with suppress(OSError):
                _clear(share.worker_lock(folder), patience_s=_PROBES_SECONDS)
    finally:
        _remove(lock)


@contextmanager
def hold_as_worker(path: Path | None) -> Generator[None, None, None]:
    """Show that a worker lives; no run after this one begins before the worker has ended.

    Workers share their lock, which filelock's exclusive locks cannot do. If the lock cannot be
    taken there is a warning: the run itself holds a lock of its own.
    """
    with ExitStack() as opened:
        if path is not None and fcntl is not None:
            try:
                # NFS shares locks among those who may read, "a" may not.
                _share_lock(opened.enter_context(path.open("a+b")))
            except OSError as error:
                _log.warning("%s cannot be locked (%s); a run after this one may begin too early", path, error.strerror)
        yield


@contextmanager
def hold_file(path: Path, *, patience_s: float = _FILE_PATIENCE_SECONDS) -> Generator[None, None, None]:
    """Keep others off a file or folder while it is written, by a lock next to it; nothing is left of the lock.

    On file systems without locks there is no protection.

    Args:
        path: What is written.
        patience_s: How long to wait for somebody else who holds it.

    Raises:
        RunError: Somebody else holds it for longer than that.
        OSError: The lock's file cannot be opened.
    """
    lock = _lock_of(path.with_name(f".{path.stem}.lock"))
    try:
        lock.acquire(timeout=patience_s, poll_interval=_FILE_PAUSE_SECONDS)
    except Timeout as error:
        raise RunError(f"another process is writing {path}; wait for it or end it, and run again") from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    try:
        yield
    finally:
        _remove(lock)


def _lock_of(path: Path, when_held: Callable[[int], None] | None = None) -> FileLock:
    """Return a lock of the operating system, not held yet; filelock locks only a file that still has its name."""
    return FileLock(path, thread_local=False, fallback_to_soft=False, on_acquired=when_held)


def _remove(lock: FileLock) -> None:
    """Remove the file of a lock while it is held, then let go; who waits for it makes the file anew."""
    if lock.is_locked:
        with suppress(OSError):  # Windows does not remove a file in use
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _share_lock(file: IO[bytes]) -> None:
    """Take a lock together with others; a run that looks whether anybody has it holds it for a moment.

    Raises:
        OSError: Somebody holds it alone all the time, or there are no locks.
    """
    end = time.monotonic() + _PROBES_SECONDS
    while fcntl is not None:
        with suppress(BlockingIOError):
            return fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if time.monotonic() >= end:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        time.sleep(_PAUSE_SECONDS)
    return None


def _own_lock(folder: Path, share: Part) -> FileLock | None:
    """Return the run's lock, held; None, with a warning, where there are no locks."""
    path = share.lock(folder)
    lock = _lock_of(path, lambda descriptor: _write_holder(descriptor, share))
    try:
        lock.acquire(timeout=_PROBES_SECONDS)
    except (Timeout, PermissionError) as error:
        raise _in_use(path) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        _log.warning("%s takes no locks (%s); make sure that no other run writes there", folder, error.strerror)
        return None
    return lock


def _in_use(path: Path, advice: str = "") -> RunError:
    """Return the error that tells who holds a lock; what a killed run of another user left cannot be looked into."""
    left = "" if os.access(path, os.W_OK) else f" (another user's; where that run was killed, remove {path.name} there)"
    return RunError(
        f"{path.parent} is in use by {_holder(path)}{left}; {advice}wait until it ends, or choose another folder"
    )


def _require_same_parts(folder: Path, share: Part) -> None:
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


def _require_alone(folder: Path, share: Part) -> None:
    """Refuse where a run is at work that does some of the same cases; workers of a killed one end a moment after it."""
    runs = _others(folder, share, ".lock")
    workers = [share.worker_lock(folder), *_others(folder, share, ".workers")]
    for path in runs:
        if not _free(path, patience_s=0.0):
            raise _in_use(path, "runs side by side need -part_id of their own and the same -num_parts; ")
    for path in workers:
        if not _clear(path, patience_s=_PATIENCE_SECONDS):
            raise RunError(
                f"workers of an earlier run are still at work in {folder}; wait until they have ended, or end them; "
                f"where there are none, remove {path.name} there"
            )


def _clear(path: Path, *, patience_s: float) -> bool:
    """Remove the lock that workers held; tell whether it is gone, for it stays where one of them still lives."""
    return not path.is_file() or _free(path, patience_s=patience_s)


def _others(folder: Path, share: Part, ending: str) -> list[Path]:
    """List the files of runs that may not be at work beside this one: all but parts of the same number."""
    own = {share.lock(folder).name, share.worker_lock(folder).name}
    found = [path for path in sorted(folder.glob(f".run*{ending}")) if path.name not in own]
    if share.num_parts == 1:
        return found
    return [path for path in found if _number_of_parts(path.with_suffix(".lock")) not in {None, share.num_parts}]


def _free(path: Path, *, patience_s: float) -> bool:
    """Tell whether nobody holds a lock on a file, and remove the file then: its holder was killed.

    A file of another user may be held, as far as can be known.
    """
    lock = _lock_of(path)
    try:
        lock.acquire(timeout=patience_s)
    except (Timeout, PermissionError):
        return False
    _remove(lock)
    return True


def _write_holder(descriptor: int, share: Part) -> None:
    """Write into a lock's file who holds it."""
    since = time.strftime("%F %T", time.localtime())
    holder = {"host": socket.gethostname(), "process": os.getpid(), "since": since}
    os.ftruncate(descriptor, 0)
    os.write(descriptor, json.dumps({**holder, "num_parts": share.num_parts, "part_id": share.part_id}).encode())


def _holder(path: Path) -> str:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        part = f", part {found['part_id']} of {found['num_parts']}" if found["num_parts"] > 1 else ""
        return f"a run on {found['host']}, process {found['process']}, since {found['since']}{part}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another run"
