"""Dataclasses that travel as JSON, read by their type hints from what nobody has checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from nnunet_cascade.case_folders.unchecked_json import UncheckedJson
from nnunet_cascade.errors import CascadeError, RecordError

Line = Annotated[str, "one line"]
"""Text for people: white space becomes single spaces, and what is endless is cut. Other text stays as it is."""
_Part = TypeVar("_Part")
_Report = Callable[[str, Any], None]
"""Takes the place of a value of a wrong type, and the value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordPart:
    """A part of a record. Every field has a default, which stands for what is not known.

    Attributes:
        leaves_out: Whether fields that are None are not written; else they are written as null.
    """

    leaves_out: ClassVar[bool] = False

    def to_json(self) -> dict[str, Any]:
        """Return all fields as plain values, in their order."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: _plain(value) for name, value in values.items() if value is not None or not self.leaves_out}


def read_part(kind: type[_Part], value: Any, *, where: str, strict: bool = False) -> _Part | None:
    """Build a dataclass from a JSON object by its type hints.

    Args:
        kind: The dataclass. One that is no `RecordPart`, such as `Grid`, is whole or nothing.
        value: As `json` gives it, whatever it is.
        where: Names the source in an error message.
        strict: Whether a value of a wrong type is an error; else it is as if it were not there.

    Returns:
        The dataclass; None if the value is no object, or its dataclass refuses it.

    Raises:
        RecordError: A value has a wrong type and the reading is strict.
    """

    def report(place: str, found: Any) -> None:
        if strict:
            raise RecordError(
                f"{where}: {place[1:] or 'it'} is {found!r:.60}; expected another type: run the case again"
            )

    return cast("_Part | None", _read(kind, value, "", report))


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    if isinstance(value, RecordPart):
        return value.to_json()
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in cast(Mapping[str, Any], value).items()}
    return [_plain(item) for item in value] if isinstance(value, (tuple, list)) else value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return {
        name: hint
        for name, hint in get_type_hints(kind, include_extras=True).items()
        if get_origin(hint) is not ClassVar
    }


def _read(hint: Any, value: Any, place: str, report: _Report) -> Any:
    """Return a value as its type hint asks; None where it is missing or of a wrong type."""
    if get_origin(hint) in {Union, UnionType}:
        hint = next(option for option in get_args(hint) if option is not NoneType)
    if value is None or hint is Any:
        return value
    readers = {tuple: _read_tuple, Mapping: _read_table}
    named = get_origin(hint)
    reader = readers.get(named) if named is not None else _read_dataclass if is_dataclass(hint) else None
    found = _scalar(hint, value) if reader is None else reader(hint, value, place, report)
    if found is None:
        report(place, value)
    return found


def _scalar(hint: Any, value: Any) -> Any:
    told = UncheckedJson(value)
    if hint == Line:
        return told.text if isinstance(value, str) else None
    readers: dict[Any, Any] = {bool: told.truth, int: told.count, float: told.number}
    return readers[hint] if hint in readers else value if isinstance(value, str) else None


def _read_tuple(hint: Any, value: Any, place: str, report: _Report) -> Any:
    """Read a list: one of any length without what cannot be read, or one of a known length as a whole."""
    if not isinstance(value, list):
        return None
    items, kinds = cast(list[Any], value), get_args(hint)
    if kinds[-1] is Ellipsis:
        found = [_read(kinds[0], item, f"{place}[{number}]", report) for number, item in enumerate(items)]
        return tuple(item for item in found if item is not None)
    if len(items) != len(kinds):
        return None
    whole = tuple(_read(kind, item, place, report) for kind, item in zip(kinds, items, strict=True))
    return None if None in whole else whole


def _read_table(hint: Any, value: Any, place: str, report: _Report) -> Any:
    if not isinstance(value, dict):
        return None
    kind, table = get_args(hint)[1], cast(dict[Any, Any], value)
    found = {str(name): _read(kind, item, f"{place}.{name}", report) for name, item in table.items()}
    optional = kind is Any or NoneType in get_args(kind)
    return found if optional else {name: item for name, item in found.items() if item is not None}


def _read_dataclass(kind: Any, value: Any, place: str, report: _Report) -> Any:
    if not isinstance(value, dict):
        return None
    table = cast(dict[str, Any], value)
    found = {name: _read(hint, table.get(name), f"{place}.{name}", report) for name, hint in _hints(kind).items()}
    if not issubclass(kind, RecordPart) and None in found.values():
        return None
    try:
        return kind(**{name: item for name, item in found.items() if item is not None})
    except CascadeError:
        return None
