"""Folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from nnunet_cascade.errors import BundleError
from nnunet_cascade.files import flush_folder


def require_free(target: Path) -> None:
    """Raise a BundleError where a file, folder or link has a name already, or none can have it."""
    if "\0" in str(target):
        raise BundleError(f"{str(target)!r} cannot be made; expected a name without a NUL")
    if target.exists() or target.is_symlink():
        raise BundleError(f"{target} is there already; choose another name or remove it")


@contextmanager
def atomic_folder(target: Path) -> Generator[Path, None, None]:
    """Return an empty folder beside a folder's name to fill; it is on the disk before it gets the name.

    An error inside leaves nothing of it. Nobody else's folder is written to or removed, whatever it is called.

    Raises:
        BundleError: The name is taken.
        OSError: The folder cannot be made, flushed or renamed.
    """
    require_free(target)
    beside = target.with_name(f".{os.getpid()}.{token_hex(4)}.{target.name}")
    beside.mkdir()
    try:
        yield beside
        _flush(beside)
        require_free(target)
        beside.rename(target)
        flush_folder(target.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _flush(folder: Path) -> None:
    """Bring all that lies below a folder to the disk."""
    for path in folder.rglob("*"):
        if path.is_dir():
            flush_folder(path)
        else:
            with path.open("rb+") as file:
                os.fsync(file.fileno())
    flush_folder(folder)
