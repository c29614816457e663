"""Values out of JSON that nobody has checked: what is not as expected is not there."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_cascade.errors import one_line

_LONGEST_TEXT = 2000


@dataclass(frozen=True, slots=True)
class UncheckedJson:
    """A value of a JSON file, whatever it is.

    Attributes:
        value: As `json` gives it; None where there is none.
    """

    value: Any = None

    def at(self, *names: str) -> UncheckedJson:
        """Return what stands under nested names; nothing where one of them is missing or holds no names."""
        value = self.value
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        return UncheckedJson(value)

    @property
    def number(self) -> float | None:
        """A finite number."""
        fits = isinstance(self.value, (int, float)) and not isinstance(self.value, bool)
        try:
            number = float(self.value) if fits else math.nan
        except OverflowError:
            return None
        return number if math.isfinite(number) else None

    @property
    def count(self) -> int | None:
        """A whole number from 0 up."""
        number = self.number
        return int(number) if number is not None and number >= 0 and number == int(number) else None

    @property
    def text(self) -> str:
        """Text in one line, shortened where it is endless; "" where it is none."""
        words = " ".join(self.value.split()) if isinstance(self.value, str) else ""
        return words if len(words) <= _LONGEST_TEXT else f"{words[:_LONGEST_TEXT]} …"

    @property
    def truth(self) -> bool | None:
        """True or false, or None."""
        return self.value if isinstance(self.value, bool) else None

    @property
    def is_table(self) -> bool:
        """Whether it holds names."""
        return isinstance(self.value, dict)

    def __iter__(self) -> Iterator[UncheckedJson]:
        """Go through a list; through nothing where it is none."""
        return iter([UncheckedJson(item) for item in self.value] if isinstance(self.value, list) else [])

    def items(self) -> list[tuple[str, UncheckedJson]]:
        """Return names and values; none where it holds no names."""
        table = self.value if isinstance(self.value, dict) else {}
        return [(str(name), UncheckedJson(value)) for name, value in table.items()]

    def texts(self) -> tuple[str, ...]:
        """Return the texts of a list."""
        return tuple(item.text for item in self if item.text)


def read_json_lenient(path: Path) -> tuple[UncheckedJson, str]:
    """Read a JSON file.

    Returns:
        What it holds, and "" or why it cannot be read, without its folder.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return UncheckedJson(), f"{path.name} is not there"
    except OSError as error:
        return UncheckedJson(), f"{path.name} cannot be read ({error.strerror})"
    except (ValueError, RecursionError) as error:
        return UncheckedJson(), f"{path.name} is damaged ({one_line(error)}); it was not written by a run as it is"
    if not isinstance(content, dict):
        return UncheckedJson(), f"{path.name} is damaged: it holds no JSON object"
    return UncheckedJson(content), ""
