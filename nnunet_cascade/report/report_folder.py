"""A report appears whole or not at all, and replaces only a report."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from nnunet_cascade.atomic_folder import atomic_folder
from nnunet_cascade.case_folders.lock import hold_file
from nnunet_cascade.errors import ReportError, SettingsError
from nnunet_cascade.files import write_json
from nnunet_cascade.versions import NOTICE, versions

MARK = "nnc-report.json"
"""What tells a report of ours from any other folder."""


@contextmanager
def atomic_report(output: Path) -> Generator[Path, None, None]:
    """Yield a folder to write a report to; it takes the report's place when all is written.

    After an error nothing of it is left, and a report that was there is as it was.

    Args:
        output: Where the report is to be: nothing, an empty folder, or a report of ours.

    Raises:
        SettingsError: Something else is there.
        RunError: Another process is making the same report.
        ReportError: A folder cannot be made or moved.
    """
    _require_ours(output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with hold_file(output, patience_s=0), atomic_folder(output, alone=True, replace=True) as folder:
            write_json(folder / MARK, {"made_by": "nnc-report", "notice": NOTICE, "versions": versions()})
            yield folder
    except OSError as error:
        raise ReportError(f"{output} cannot be written ({error.strerror}); choose another place by -o") from error


def _require_ours(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise SettingsError(f"{folder} is not a plain folder; give another one by -o")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file():
        raise SettingsError(f"{folder} exists and is not a report of nnc-report; give another folder by -o")
