"""Settings as frozen dataclasses that travel as JSON: nothing unknown is accepted, nothing is lost."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from nnunet_cascade.errors import SettingsError

_Settings = TypeVar("_Settings")


def to_json(settings: Any) -> dict[str, Any]:
    """Return a settings dataclass as a dictionary that JSON can hold; paths become text."""
    return dataclasses.asdict(settings, dict_factory=_plain)


def from_json(kind: type[_Settings], block: Any, *, where: str) -> _Settings:
    """Build a settings dataclass from a JSON object; what the object leaves out keeps its default.

    Args:
        kind: A dataclass whose fields are plain values or tuples of them.
        block: The JSON object. Lists become tuples.
        where: Names the source in the error message.

    Raises:
        SettingsError: A name is unknown or a value is refused by the dataclass.
    """
    require(isinstance(block, Mapping), f"{where}: expected a JSON object of settings; found {block!r}")
    known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(block) - known)
    if unknown:
        named = ", ".join(with_nearest(name, known) for name in unknown)
        raise SettingsError(f"{where}: unknown settings {named}; known are {', '.join(sorted(known))}")
    try:
        return kind(**{name: _as_tuple(value) for name, value in block.items()})
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{where}: {error}") from error


def require(condition: bool, message: str) -> None:  # noqa: FBT001 - reads like the sentence it guards
    """Raise a SettingsError with `message` unless `condition` holds."""
    if not condition:
        raise SettingsError(message)


def with_nearest(name: str, known: set[str]) -> str:
    """Return a name, and the known one that is most like it, if any is."""
    nearest = get_close_matches(name, sorted(known), n=1)
    return f"{name} (did you mean {nearest[0]}?)" if nearest else name


def _plain(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in items}


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list) else value
