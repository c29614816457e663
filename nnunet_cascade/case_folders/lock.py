"""One run per output folder: locks of the operating system, which end with the process that holds them."""

from __future__ import annotations

import errno
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
    """Keep other runs off an output folder, but for other parts of the same number of parts.

    Nothing is left of the lock at the end; what a killed run leaves holds nobody up, unless it
    is another user's and cannot be opened. On systems or folders without locks there is a
    warning and no protection.

    Raises:
        RunError: Another run is at work there, workers of one that was killed are, or an earlier
            one shared the cases out among another number of runs.
        OSError: The lock's file cannot be opened, for another reason than whose it is.
    """
    _require_same_parts(folder, share)
    file = _own_lock(folder, share)
    if file is None:
        yield
        return
    try:
        _tell_holder(file, share)
        _require_alone(folder, share)
        try:
            yield
        finally:  # where the folder was refused, workers of a killed run may hold it
            with suppress(OSError):
                _clear(share.worker_lock(folder), patience_seconds=_PROBES_SECONDS)
    finally:
        with suppress(OSError):
            share.lock(folder).unlink(missing_ok=True)
        file.close()


@contextmanager
def hold_as_worker(path: Path | None) -> Generator[None, None, None]:
    """Show that a worker lives; no run after this one begins before the worker has ended.

    Where that cannot be shown there is a warning: the run itself holds a lock of its own.
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
def hold_file(path: Path) -> Generator[None, None, None]:
    """Keep others off a file from reading it until it is written anew, by a lock beside it; nothing is left of that.

    On systems or folders without locks there is no protection.

    Raises:
        RunError: Somebody else holds it for longer than that takes.
        OSError: The lock's file cannot be opened.
    """
    beside, file = path.with_name(f".{path.stem}.lock"), None
    if fcntl is not None:
        try:
            file = _locked(beside, patience_seconds=_PATIENCE_SECONDS)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        else:
            if file is None:
                raise RunError(f"{path} is being written by another process all the time; end that one, and run again")
    try:
        yield
    finally:
        if file is not None:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
            file.close()


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


def _own_lock(folder: Path, share: Part) -> IO[str] | None:
    """Return the run's lock, held; None, with a warning, where there are no locks."""
    if fcntl is None:
        _log.warning("this system has no file locks; see to it that no other run writes to %s", folder)
        return None
    path = share.lock(folder)
    try:
        file = _locked(path, patience_seconds=_PROBES_SECONDS)
    except PermissionError as error:
        raise _in_use(path) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        _log.warning("%s takes no locks (%s); see to it that no other run writes there", folder, error.strerror)
        return None
    if file is None:
        raise _in_use(path)
    return file


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
        if not _free(path, patience_seconds=0.0):
            raise _in_use(path, "runs side by side need -part_id of their own and the same -num_parts; ")
    for path in workers:
        if not _clear(path, patience_seconds=_PATIENCE_SECONDS):
            raise RunError(
                f"workers of an earlier run are still at work in {folder}; wait until they have ended, or end them; "
                f"where there are none, remove {path.name} there"
            )


def _clear(path: Path, *, patience_seconds: float) -> bool:
    """Remove the lock that workers held; tells whether it is gone, for it stays where one of them still lives."""
    return not path.is_file() or _free(path, patience_seconds=patience_seconds)


def _others(folder: Path, share: Part, ending: str) -> list[Path]:
    """List the files of runs that may not be at work beside this one: all but parts of the same number."""
    own = {share.lock(folder).name, share.worker_lock(folder).name}
    found = [path for path in sorted(folder.glob(f".run*{ending}")) if path.name not in own]
    if share.num_parts == 1:
        return found
    return [path for path in found if _number_of_parts(path.with_suffix(".lock")) not in {None, share.num_parts}]


def _free(path: Path, *, patience_seconds: float) -> bool:
    """Tell whether nobody holds a lock on a file, and remove it then: who held it was killed.

    A file of another user's may be held, for all that can be known.
    """
    try:
        file = _locked(path, patience_seconds=patience_seconds)
    except PermissionError:
        return False
    if file is None:
        return False
    with suppress(PermissionError):
        path.unlink(missing_ok=True)
    file.close()
    return True


def _locked(path: Path, *, patience_seconds: float) -> IO[str] | None:
    """Return a file open and locked; None where somebody else holds it all the time.

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


def _tell_holder(file: IO[str], share: Part) -> None:
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
