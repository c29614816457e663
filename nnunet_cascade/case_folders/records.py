"""Records: what a case was made from and what was made of it, so that nothing is done twice and nothing half."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from nnunet_cascade.errors import InputImageError
from nnunet_cascade.files import flush_folder, sha256_of, write_json
from nnunet_cascade.versions import NOTICE, versions

Record = dict[str, Any]
"""What is known of a case, as its JSON file holds it."""
InputChecksums = list[list[str]]
"""Name and SHA-256 of each file a case is made from."""
_PACKAGE = "nnunet-cascade"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFingerprint:
    """What decides the files of a case: a record made from the same need not be made again.

    Attributes:
        settings: As plain values.
        inputs: Name and SHA-256 of each file it is made from; None asks nothing of them.
        model: SHA-256 of each model's files; None where no model is used.
        precision: Of the networks; None where no model is used.
        ignored_settings: Dotted names, such as "lungs.device", of settings that change no file.
    """

    settings: Mapping[str, Any]
    inputs: InputChecksums | None = None
    model: Mapping[str, str] | None = None
    precision: str | None = None
    ignored_settings: frozenset[str] = frozenset()

    def to_json(self) -> Record:
        """Return what a record holds of it."""
        values = {"inputs": self.inputs, "settings": self.settings, "model": self.model, "precision": self.precision}
        return json.loads(json.dumps({name: value for name, value in values.items() if value is not None}))

    def matches(self, record: Record) -> bool:
        """Tell whether a record's files were decided by the same, by this version of the package.

        What decides nothing does not count, such as the path of lung masks whose checksums are known.

        Raises:
            KeyError, TypeError, AttributeError: It is no record.
        """
        asked = self.to_json()
        told = {name: record[name] for name in asked}
        same_version = record["versions"][_PACKAGE] == _version()
        return same_version and self._deciding(told) == self._deciding(asked)

    def _deciding(self, values: Record) -> Record:
        """Leave out the settings that change no file."""
        return {**values, "settings": _without(values["settings"], self.ignored_settings)}


def _without(settings: Record, names: frozenset[str], parent: str = "") -> Record:
    """Copy nested settings without those of some dotted names."""
    return {
        name: _without(cast(Record, value), names, f"{parent}{name}.") if isinstance(value, dict) else value
        for name, value in settings.items()
        if f"{parent}{name}" not in names
    }


@lru_cache(maxsize=1)
def _version() -> str:
    return version(_PACKAGE)


def record_path(folder: Path, case: str) -> Path:
    """Return the path of a case's record."""
    return folder / f"{case}.json"


def write_record(folder: Path, case: str, content: Mapping[str, Any], made_from: CaseFingerprint) -> Record:
    """Write the record of a case, and give it as it stands there; what varies from run to run is in `varying` alone.

    Call it last: its "files" are on the disk, under their names, before the record is.

    Args:
        folder: Where the case's files lie.
        case: The case's name.
        content: What is known of it; its "files" name what was written there.
        made_from: What decided it.

    Raises:
        OSError: The record cannot be written, or one of the files is not there.
        ValueError: A number is not finite.
    """
    files = {name: (folder / name).stat().st_size for name in content.get("files", ())}
    record = {"case": case, "notice": NOTICE, **content, "files": files, **made_from.to_json(), "versions": versions()}
    flush_folder(folder)
    write_json(record_path(folder, case), record)
    flush_folder(folder)
    return json.loads(json.dumps(record))


def read_finished(folder: Path, case: str, made_from: CaseFingerprint) -> Record | None:
    """Return the record of a case made from the same by the same version, whose files are there; else None."""
    try:
        record = json.loads(record_path(folder, case).read_text(encoding="utf-8"))
        same = made_from.matches(record)
        whole = all((folder / name).stat().st_size == size for name, size in record["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return record if same and whole else None


def remove_recorded(folder: Path, case: str) -> None:
    """Remove the record of a case, then the files it names."""
    path = record_path(folder, case)
    try:
        names = [Path(name).name for name in json.loads(path.read_text(encoding="utf-8"))["files"]]
    except (OSError, ValueError, KeyError, TypeError):
        names = []
    path.unlink(missing_ok=True)
    for name in names:
        (folder / name).unlink(missing_ok=True)


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
