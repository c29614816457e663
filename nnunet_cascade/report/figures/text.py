"""Text as text: no markup, no formula, no character that the font lacks, wrapped by its true width."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.ft2font import FT2Font

FONT = "DejaVu Sans"
"""Comes with matplotlib, so that pictures do not depend on the machine."""
_FONT_FILE = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
_BOLDER = 1.15
_POINTS_PER_INCH = 72.0
_MEASURED_AT_PT = 100.0
PLAIN: dict[str, Any] = {"family": FONT, "parse_math": False, "usetex": False}
"""Goes with every text that matplotlib is given: dollars and backslashes are then dollars and backslashes."""


def plain(text: str) -> str:
    """Return a text in one line; what the font has no sign for stands as its number, backslash, u and four digits."""
    words = " ".join("".join(" " if not sign.isprintable() else sign for sign in text).split())
    return "".join(sign if _has(sign) else _number(sign) for sign in words)


def wrapped(text: str, *, width_in: float, size_pt: float, most_lines: int = 0) -> list[str]:
    """Break a text into lines at spaces, and inside words that are longer than a line.

    Args:
        text: In one line, as `plain` gives it.
        width_in: Of a line, in inches.
        size_pt: Of the font, not bold.
        most_lines: What goes beyond is cut and ends with "…"; 0 keeps all.

    Returns:
        At least one line, which may be empty.
    """
    lines = list(_lines(text.split(" "), width_in, size_pt)) or [""]
    if not most_lines or len(lines) <= most_lines:
        return lines
    return [*lines[: most_lines - 1], f"{lines[most_lines - 1][:-1].rstrip()}…"]


def width_in(text: str, size_pt: float, *, bold: bool = False) -> float:
    """Return how wide a text is in inches, at most: bold letters are wider by up to 15 %."""
    points = sum(_advance_pt(sign) for sign in text) * size_pt / _MEASURED_AT_PT
    return points / _POINTS_PER_INCH * (_BOLDER if bold else 1.0)


def _lines(words: list[str], width: float, size_pt: float) -> Iterator[str]:
    line = ""
    for word in words:
        longer = f"{line} {word}" if line else word
        if width_in(longer, size_pt) <= width:
            line = longer
            continue
        if line:
            yield line
        *full, line = _parts(word, width, size_pt)
        yield from full
    if line:
        yield line


def _parts(word: str, width: float, size_pt: float) -> Iterator[str]:
    """Break a word that is longer than a line."""
    part = ""
    for sign in word:
        if part and width_in(part + sign, size_pt) > width:
            yield part
            part = ""
        part += sign
    yield part


@lru_cache(maxsize=1)
def _font() -> FT2Font:
    font = FT2Font(str(_FONT_FILE))
    font.set_size(_MEASURED_AT_PT, _POINTS_PER_INCH)
    return font


@lru_cache(maxsize=4096)
def _advance_pt(sign: str) -> float:
    return _font().load_char(ord(sign)).linearHoriAdvance / 65536


@lru_cache(maxsize=4096)
def _has(sign: str) -> bool:
    return _font().get_char_index(ord(sign)) != 0


def _number(sign: str) -> str:
    return f"\\u{ord(sign):04x}" if ord(sign) <= 0xFFFF else f"\\U{ord(sign):08x}"
