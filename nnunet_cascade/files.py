"""Files that appear whole or not at all, whatever interrupts the writing, be it a power cut."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nnunet_cascade.errors import InputImageError

InputChecksums = list[list[str]]
"""Name and SHA-256 of each file that a case is made from."""
_BESIDE = re.compile(r"\.\d+\.(?P<name>.+)")


@contextmanager
def atomic_file(path: Path) -> Generator[Path, None, None]:
    """Return a name beside a file's to write to; what was written there is on the disk before it gets the file's name.

    An error inside leaves nothing of it, and a file that was there before as it was.

    Raises:
        OSError: The file cannot be flushed or renamed.
    """
    beside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write text as a `atomic_file`; line ends stay as they are.

    Raises:
        OSError: The file cannot be written; one that was there before is as it was.
    """
    with atomic_file(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, content: Any) -> None:
    """Write JSON as `write_text` writes text; NaN and infinity are refused, for no other program reads them.

    Raises:
        OSError: The file cannot be written.
        ValueError: A number is not finite.
    """
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def flush_folder(folder: Path) -> None:
    """Bring a folder's names to the disk, where the system can: those given before last those given after."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError:  # some network file systems know no such thing
        return
    finally:
        os.close(handle)


def sweep_unfinished(folder: Path, ours: Callable[[str], bool]) -> list[str]:
    """Remove what processes that were killed left beside the files they wrote; another user's may have to stay.

    `ours` tells by a file's own name whether nobody else may be writing it. Gives the names of the files that were
    never finished and are gone.
    """
    swept: list[str] = []
    for path in list(folder.glob(".*")):
        match = _BESIDE.fullmatch(path.name)
        if match is not None and ours(match["name"]):
            with suppress(PermissionError):
                path.unlink(missing_ok=True)
                swept.append(match["name"])
    return sorted(swept)


_BLOCK_BYTES = 1 << 20


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def input_checksums(paths: Iterable[Path]) -> InputChecksums:
    """Return name and SHA-256 of files; those that are missing have an empty one.

    Raises:
        InputImageError: A file cannot be read.
    """
    return [[path.name, _checksum(path)] for path in paths]


def _checksum(path: Path) -> str:
    try:
        return sha256_of(path)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise InputImageError(f"{path} cannot be read ({error.strerror}); check the file") from error
