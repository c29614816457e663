"""A report appears whole or not at all: made beside its place, then put there for the one that was."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from nnunet_cascade.errors import ReportError, SettingsError
from nnunet_cascade.files import flush_folder, write_json
from nnunet_cascade.versions import NOTICE, versions

MARK = "nnc-report.json"
"""What tells a report of ours from any other folder."""


@contextmanager
def whole_report(output: Path) -> Generator[Path, None, None]:
    """Give a folder beside a report's to write to; it takes the report's place when all is written.

    An error inside leaves nothing of it, and a report that was there as it was.

    Args:
        output: Where the report is to be: nothing, an empty folder, or a report of ours.

    Raises:
        SettingsError: Something else is there.
        ReportError: A folder cannot be made or moved.
    """
    beside, old = (output.with_name(f"{output.name}.{ending}") for ending in ("partial", "old"))
    for folder in (output, beside, old):
        _require_ours(folder)
    try:
        _remove(beside)
        beside.mkdir(parents=True)
        write_json(beside / MARK, {"made_by": "nnc-report", "notice": NOTICE, "versions": versions()})
    except OSError as error:
        raise ReportError(f"{beside} cannot be written ({error.strerror}); choose another place by -o") from error
    try:
        yield beside
        _swap(beside, output, old)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


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
