"""Settings written as NAME=VALUE: each value is read as the type of its setting."""

from __future__ import annotations

from collections.abc import Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.settings.serialization import with_nearest

_BOOLEANS = {"true": True, "false": False}


def settings_values(kind: type, pairs: Sequence[str]) -> dict[str, Any]:
    """Read NAME=VALUE pairs of a settings dataclass; commas separate the values of a tuple, `none` stands for None.

    Raises:
        SettingsError: A pair has no =, the name is unknown or the value is of another type.
    """
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or name not in hints:
            expected = f"expected NAME=VALUE with NAME one of {', '.join(hints)}"
            raise SettingsError(f"{pair!r} is not a setting: {with_nearest(name, set(hints))}; {expected}")
        try:
            values[name] = _parsed(text, hints[name])
        except (ValueError, KeyError) as error:
            default = getattr(kind(), name)
            example = ",".join(map(str, default)) if isinstance(default, tuple) else default
            raise SettingsError(f"{pair!r}: expected a value such as {name}={example}") from error
    return values


def _parsed(text: str, hint: Any) -> Any:
    """Read a value as the type that a setting is annotated with; words of a `Literal` are checked by the setting."""
    kinds: tuple[Any, ...] = get_args(hint) if get_origin(hint) in {Union, UnionType} else (hint,)
    words = {word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)}
    if text in words or (text.lower() == "none" and NoneType in kinds):
        return text if text in words else None
    kind = next(kind for kind in kinds if kind is not NoneType)
    if get_origin(kind) is tuple:
        return tuple(_parsed(part, get_args(kind)[0]) for part in text.split(","))
    if kind is bool:
        return _BOOLEANS[text.lower()]
    return kind(text) if kind in {int, float} else text
