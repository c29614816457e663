"""Settings of a run as rows of a table, and where those of two runs differ."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from nnunet_cascade.case_folders.unchecked_json import UncheckedJson
from nnunet_cascade.prediction.spec import CascadeSpec
from nnunet_cascade.report.reading.privacy import HIDDEN, without_paths

_FILTER_SETTINGS = ("tumor_values", "uncertainty")
_PATHS = ("lungs.path", "lungs.weights")
SettingRows = dict[str, str]
"""Values in words by dotted name, in the order of the file."""


class SettingDifference(NamedTuple):
    """A setting that two runs do not share.

    Attributes:
        name: Dotted.
        first: Its value in the first run; "–" where it has none.
        second: The same of the second.
    """

    name: str
    first: str
    second: str


def setting_rows(settings: UncheckedJson) -> SettingRows:
    """Return settings by dotted name, those that this version knows; paths are told to be there and no more."""
    flat = _flat(settings)
    known = _known()
    return {name: HIDDEN if name in _PATHS and text != "–" else text for name, text in flat.items() if name in known}


def unknown_settings(settings: UncheckedJson) -> int:
    """Count the settings that this version does not know, which are not shown."""
    return len(_flat(settings).keys() - _known())


def differing(first: SettingRows, second: SettingRows) -> tuple[SettingDifference, ...]:
    """List the settings that differ; none where all agree."""
    names = dict.fromkeys([*first, *second])
    pairs = ((name, first.get(name, "–"), second.get(name, "–")) for name in names)
    return tuple(SettingDifference(*pair) for pair in pairs if pair[1] != pair[2])


@cache
def _known() -> frozenset[str]:
    return frozenset({*_flat(UncheckedJson(CascadeSpec().to_json())), *_FILTER_SETTINGS})


def _flat(settings: UncheckedJson, prefix: str = "") -> SettingRows:
    rows: SettingRows = {}
    for name, value in settings.items():
        rows.update(_flat(value, f"{prefix}{name}.") if value.is_table else {f"{prefix}{name}": _in_words(value)})
    return rows


def _in_words(told: UncheckedJson) -> str:
    value = told.value
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(_in_words(UncheckedJson(item)) for item in value) or "none"
    return without_paths(told.text) if isinstance(value, str) else f"{value:g}" if told.number is not None else "–"
