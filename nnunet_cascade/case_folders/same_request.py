"""What is done in steps goes on only with the settings with which it began."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from nnunet_cascade.errors import DatasetError
from nnunet_cascade.files import write_json
from nnunet_cascade.nnunet_folders import read_json


def require_same_request(
    path: Path,
    wanted: Mapping[str, Any],
    *,
    advice: str,
    free: Collection[str] = (),
    complete: Callable[[dict[str, Any]], Mapping[str, Any]] = dict,
) -> None:
    """Record the request of a first run; refuse a later run that asks for something else.

    Args:
        path: The record, as JSON. Its folder is made if it does not exist.
        wanted: The request of this run, as plain values; paths become text.
        advice: What a user can do about a refusal.
        free: Names whose values may change from run to run.
        complete: Fills in what an older record does not have.

    Raises:
        DatasetError: An earlier run had other settings, or its record cannot be read.
        OSError: The record cannot be written.
    """
    plain = json.loads(json.dumps(wanted, default=str))
    if path.is_file():
        require_same_settings(
            plain, complete(read_json(path)), what=f"{path} was written by a run", advice=advice, free=free
        )
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, plain)


def require_same_settings(
    wanted: Mapping[str, Any], known: Mapping[str, Any], *, what: str, advice: str, free: Collection[str] = ()
) -> None:
    """Raise a DatasetError that names the settings that differ from those of `what`, and gives advice."""
    changed = sorted(name for name in wanted if name not in free and wanted[name] != known.get(name))
    if changed:
        raise DatasetError(f"{what} with other settings ({', '.join(changed)}); {advice}")
