"""Records: what a case was made from and what was made of it, so that nothing is done twice and nothing half."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from nnunet_cascade.case_folders.case_record import CaseRecord, read_record
from nnunet_cascade.case_folders.unchecked_json import read_json_lenient
from nnunet_cascade.errors import NewerRecordError
from nnunet_cascade.files import InputChecksums, flush_folder, write_json
from nnunet_cascade.versions import NOTICE, versions

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

    def to_json(self) -> dict[str, Any]:
        """Return what a record holds of it."""
        values = {"inputs": self.inputs, "settings": self.settings, "model": self.model, "precision": self.precision}
        return json.loads(json.dumps({name: value for name, value in values.items() if value is not None}))

    def matches(self, record: CaseRecord) -> bool:
        """Tell whether a record's files were decided by the same, by this version of the package.

        Settings that decide nothing do not count, such as the path of lung masks whose checksums are known.
        """
        asked, found = self.to_json(), record.to_json()
        same_version = record.versions.get(_PACKAGE) == _version()
        return same_version and all(
            self._deciding(name, found.get(name)) == self._deciding(name, asked[name]) for name in asked
        )

    def _deciding(self, name: str, value: Any) -> Any:
        """Leave out the settings that change no file."""
        return _without(value, self.ignored_settings) if name == "settings" and value else value


def _without(settings: Mapping[str, Any], names: frozenset[str], parent: str = "") -> dict[str, Any]:
    """Copy nested settings without those of some dotted names."""
    return {
        name: _without(cast(dict[str, Any], value), names, f"{parent}{name}.") if isinstance(value, dict) else value
        for name, value in settings.items()
        if f"{parent}{name}" not in names
    }


@lru_cache(maxsize=1)
def _version() -> str:
    return version(_PACKAGE)


def record_path(folder: Path, case: str) -> Path:
    """Return the path of a case's record."""
    return folder / f"{case}.json"


def write_record(folder: Path, record: CaseRecord, made_from: CaseFingerprint) -> CaseRecord:
    """Write the record of a case, and return it as it stands there.

    Call it last: its `files` are on the disk, under their names, before the record is.

    Args:
        folder: Where the case's files lie.
        record: What is known of it; its `files` name what was written there, their sizes are measured here.
        made_from: What decided it.

    Raises:
        OSError: The record cannot be written, or one of the files is not there.
        ValueError: A number is not finite.
    """
    whole = replace(
        record,
        notice=NOTICE,
        files={name: (folder / name).stat().st_size for name in record.files or ()},
        versions=versions(),
    )
    content = {**whole.to_json(), **made_from.to_json()}
    flush_folder(folder)
    write_json(record_path(folder, record.case), content)
    flush_folder(folder)
    return CaseRecord.from_json(content)


def read_finished(folder: Path, case: str, made_from: CaseFingerprint) -> CaseRecord | None:
    """Return the record of a case made from the same by the same version, whose files are there; else None.

    Raises:
        NewerRecordError: A newer version wrote the record; this one does not overwrite it.
    """
    try:
        record = read_record(record_path(folder, case))
        files = None if record.files is None else record.files.items()
        whole = files is not None and all((folder / name).stat().st_size == size for name, size in files)
    except NewerRecordError:
        raise
    except (OSError, ValueError):  # a RecordError is a ValueError
        return None
    return record if whole and made_from.matches(record) else None


def remove_recorded(folder: Path, case: str) -> None:
    """Remove the record of a case, then the files it names."""
    path = record_path(folder, case)
    names = CaseRecord.from_json(read_json_lenient(path)[0].value).files or {}
    path.unlink(missing_ok=True)
    for name in names:
        (folder / Path(name).name).unlink(missing_ok=True)
