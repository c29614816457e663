"""Folders that appear whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from nnunet_cascade.errors import CascadeError, SettingsError
from nnunet_cascade.files import flush_folder


def require_free(target: Path, error: type[CascadeError] = SettingsError) -> None:
    """Raise an error if a file, folder or link has this name already, or if nothing can have it."""
    if "\0" in str(target):
        raise error(f"{str(target)!r} cannot be made; expected a name without a NUL")
    if target.exists() or target.is_symlink():
        raise error(f"{target} is there already; choose another name or remove it")


@contextmanager
def scratch_folder(target: Path, *, alone: bool = False) -> Generator[Path, None, None]:
    """Yield an empty folder next to `target`, which is removed at the end.

    Args:
        target: The folder that is being made. Its parent must exist.
        alone: Nobody else makes `target` now: what killed processes left of it is removed first.

    Raises:
        OSError: The folder cannot be made.
    """
    if alone:
        _sweep(target)
    scratch = target.with_name(f".{os.getpid()}.{token_hex(4)}.{target.name}")
    scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def atomic_folder(
    target: Path, *, alone: bool = False, replace: bool = False, error: type[CascadeError] = SettingsError
) -> Generator[Path, None, None]:
    """Yield an empty folder next to `target` to fill; it is on the disk before it gets the name.

    After an error nothing of it is left, and a folder that was there is as it was.

    Args:
        target: The folder to make. Its parent must exist.
        alone: As for `scratch_folder`.
        replace: A folder that has the name is replaced.
        error: The type of error if the name is taken.

    Raises:
        CascadeError: The name is taken and nothing may be replaced.
        OSError: The folder cannot be made, flushed or renamed.
    """
    if not replace:
        require_free(target, error)
    with scratch_folder(target, alone=alone) as scratch:
        yield scratch
        _flush(scratch)
        if replace:
            _replace(target, scratch)
        else:
            require_free(target, error)
            scratch.rename(target)
        flush_folder(target.parent)


def _replace(target: Path, scratch: Path) -> None:
    """Let a folder take the place of another one, which comes back if that fails."""
    old = scratch.with_name(f"{scratch.name}.old")
    if target.is_dir():
        target.rename(old)
    try:
        scratch.rename(target)
    except OSError:
        if old.is_dir():
            old.rename(target)
        raise
    _sweep(target, ending=r"\.old")


def _sweep(target: Path, ending: str = "") -> None:
    left = re.compile(rf"\.\d+\.[0-9a-f]{{8}}\.{re.escape(target.name)}{ending}", re.DOTALL)
    for path in list(target.parent.glob(".*")):
        if left.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def _flush(folder: Path) -> None:
    """Bring all that lies below a folder to the disk."""
    mode = "rb+" if os.name == "nt" else "rb"  # Windows flushes only files that are open for writing
    for path in folder.rglob("*"):
        if path.is_dir():
            flush_folder(path)
        else:
            with path.open(mode) as file:
                os.fsync(file.fileno())
    flush_folder(folder)
