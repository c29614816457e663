"""Text without markup or formulas, and where things stand on a figure, in inches from its lower left corner."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.ft2font import FT2Font

from nnunet_cascade.report.figures.rows import PanelExtent

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


TITLE_PT, TEXT_PT, SMALL_PT = 11.0, 8.0, 6.5
_LINE = 1.35 / 72  # inches a line takes for each point of its font
_PANEL_WIDTH, _GAP = 2.5, 0.06
LEFT, _RIGHT, _EDGE = 0.3, 0.8, 0.08
_KEY = 0.26
_MOST_LINES = 4


@dataclass(frozen=True, slots=True)
class Place:
    """A rectangle."""

    left: float
    bottom: float
    width: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TextBlock:
    """Lines of one size, the first one's top at `top`.

    Attributes:
        lines: Them.
        top: Distance from the figure's lower edge.
        size_pt: Of the font.
    """

    lines: tuple[str, ...]
    top: float
    size_pt: float

    @property
    def bottom(self) -> float:
        """Where the last line ends."""
        return self.top - len(self.lines) * self.size_pt * _LINE


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A figure.

    Attributes:
        width: Of all.
        height: Of all.
        panels: By row from the top, from left to right.
        title: The case.
        subtitle: Volume and flags.
        key: Strip below the panels.
        legend: Verdicts.
        notice: What it is not.
    """

    width: float
    height: float
    panels: tuple[tuple[Place, ...], ...]
    title: TextBlock
    subtitle: TextBlock
    key: Place
    legend: TextBlock
    notice: TextBlock


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """What is to be written."""

    title: str
    subtitle: str
    legend: Sequence[str]
    notice: str


def lay_out(rows: int, columns: int, crop: PanelExtent, lines: Lines) -> Layout:
    """Place rows of panels, all at one scale, with the text above and below them."""
    panel_height = _PANEL_WIDTH * crop.height_mm / crop.width_mm
    width = LEFT + columns * _PANEL_WIDTH + (columns - 1) * _GAP + _RIGHT
    texts = _broken(lines, width - LEFT - _EDGE)
    heights = [len(text) * size * _LINE for text, size in texts]
    name_height = TEXT_PT * _LINE + 0.03
    panels_height = rows * panel_height + (rows - 1) * _GAP
    height = 3 * _EDGE + sum(heights) + name_height + panels_height + _GAP + _KEY + 0.04
    top = height - _EDGE
    title = TextBlock(lines=texts[0][0], top=top, size_pt=TITLE_PT)
    subtitle = TextBlock(lines=texts[1][0], top=title.bottom, size_pt=TEXT_PT)
    first = subtitle.bottom - name_height
    panels = tuple(
        tuple(
            Place(
                LEFT + column * (_PANEL_WIDTH + _GAP),
                first - (row + 1) * panel_height - row * _GAP,
                _PANEL_WIDTH,
                panel_height,
            )
            for column in range(columns)
        )
        for row in range(rows)
    )
    key = Place(LEFT, first - panels_height - _GAP - _KEY, width - LEFT - _RIGHT, _KEY)
    legend = TextBlock(lines=texts[2][0], top=key.bottom - 0.04, size_pt=TEXT_PT)
    notice = TextBlock(lines=texts[3][0], top=legend.bottom - 0.02, size_pt=SMALL_PT)
    return Layout(
        width=width, height=height, panels=panels, title=title, subtitle=subtitle, key=key, legend=legend, notice=notice
    )


def _broken(lines: Lines, width: float) -> tuple[tuple[tuple[str, ...], float], ...]:
    """Wrap all text, the title with room for bold letters."""
    title = wrapped(lines.title, width_in=width / 1.15, size_pt=TITLE_PT, most_lines=_MOST_LINES)
    subtitle = wrapped(lines.subtitle, width_in=width, size_pt=TEXT_PT, most_lines=_MOST_LINES)
    legend = [
        part for line in lines.legend for part in wrapped(line, width_in=width, size_pt=TEXT_PT, most_lines=_MOST_LINES)
    ]
    notice = wrapped(lines.notice, width_in=width, size_pt=SMALL_PT)
    return (
        (tuple(title), TITLE_PT),
        (tuple(subtitle), TEXT_PT),
        (tuple(legend), TEXT_PT),
        (tuple(notice), SMALL_PT),
    )
