"""What stands around the panels of a figure: titles, key, color bar, verdicts and notice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from nnunet_cascade.case_folders.record_parts import CandidateRecord
from nnunet_cascade.report.figures.layout import (
    LEFT,
    PLAIN,
    SMALL_PT,
    TEXT_PT,
    Layout,
    Place,
    TextBlock,
    plain,
    width_in,
    wrapped,
)
from nnunet_cascade.report.figures.palette import Line, heat
from nnunet_cascade.report.figures.rows import FigureRows
from nnunet_cascade.report.figures.sources import FigureSources
from nnunet_cascade.uncertainty_measures import measure_info

_MOST_CANDIDATES = 8
_MOST_FLAGS = 12


def heading(sources: FigureSources, rows: FigureRows) -> tuple[str, str]:
    """Return the title: the case and where it is shown; then volume and flags."""
    record, at = sources.record, ", ".join(in_mm(height_mm) for height_mm in reversed(rows.heights_mm))
    size_ml = None if record.tumor is None else record.tumor.volume_ml
    volume = "volume unknown" if size_ml is None else f"tumor {size_ml:.1f} ml"
    lesions = f" in {_counted(len(record.lesion_boxes), 'lesion')}" if record.lesion_boxes else ""
    mean = None if record.uncertainty is None else record.uncertainty.mean_in_tumor
    sure = "" if mean is None else f", mean {in_words(record.measure)} {mean:.3f}"
    found = tuple(dict.fromkeys(record.flags or ()))
    flags = f"flags: {', '.join(found[:_MOST_FLAGS])}" if found else "no flags"
    known = sources.request.record is not None
    told = f"{volume}{lesions}{sure} · {flags}" if known else "no record: verdicts, volume and flags are unknown"
    return plain(f"{sources.request.case} · axial, {at}"), plain(told)


def in_mm(height_mm: float) -> str:
    """Return where a slice lies."""
    return f"S {round(height_mm, 1) + 0.0:.1f} mm".replace("-", "−")


def in_words(measure: str) -> str:
    """Return a measure's name with spaces."""
    return measure.replace("_", " ")


def shown_candidates(sources: FigureSources, rows: FigureRows) -> dict[int | None, CandidateRecord]:
    """Return the candidates that the slices meet, by number."""
    labels = rows.candidates.planes
    there = set() if labels is None else set(np.unique(labels).tolist())
    return {each.id: each for each in sources.record.numbered_candidates if each.id in there}


def verdicts(sources: FigureSources, rows: FigureRows) -> list[str]:
    """Return a line for each candidate that is shown, then for the largest others, then how many there are besides."""
    shown = shown_candidates(sources, rows)
    others = [candidate for candidate in sources.record.numbered_candidates if candidate.id not in shown]
    named = list(shown.values())[:_MOST_CANDIDATES]
    room = _MOST_CANDIDATES - len(named)
    more = len(shown) - len(named) + len(others[room:])
    lines = [_verdict(candidate) for candidate in named]
    lines += [f"{_verdict(candidate)} (on other slices)" for candidate in others[:room]]
    if more:
        lines.append(f"and {_counted(more, 'more candidate')}, which the record {sources.request.case}.json tells of")
    none = "no record: candidates are unknown" if sources.request.record is None else "stage 1 found no candidate"
    return [plain(line) for line in lines or [none]]


def _verdict(candidate: CandidateRecord) -> str:
    verdict = candidate.verdict
    said = {True: "kept", False: "dropped", None: "no verdict"}[verdict.kept]
    return f"{candidate.id}  {said}, {candidate.volume_ml or 0:.2f} ml: {verdict.reason or 'no reason is told'}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


_SHADE = "0.15"
_BAR = (0.1, 0.12)  # inches: distance from the panels, width
_SAMPLE = 0.32


def fraction(figure: Figure, place: Place) -> tuple[float, float, float, float]:
    """Return a place in inches as matplotlib wants it: left, bottom, width and height as shares of the figure."""
    width, height = figure.get_size_inches()
    return (place.left / width, place.bottom / height, place.width / width, place.height / height)


def write_block(figure: Figure, block: TextBlock, *, weight: str = "normal", color: str = "black") -> None:
    """Write lines one below the other."""
    how: dict[str, Any] = {"fontsize": block.size_pt, "weight": weight, "color": color, "linespacing": 1.15}
    _write(figure, LEFT, block.top, "\n".join(block.lines), va="top", ha="left", **how)


def _write(figure: Figure, x: float, y: float, text: str, **how: Any) -> None:
    how = {"transform": figure.dpi_scale_trans, "fontsize": TEXT_PT, **PLAIN, **how}
    figure.text(x, y, text, **how)


def name_panels(figure: Figure, places: Sequence[Place], names: Sequence[str]) -> None:
    """Write what the panels of a column show above the first of them."""
    for place, name in zip(places, names, strict=True):
        x, y = place.left + place.width / 2, place.bottom + place.height + 0.03
        _write(figure, x, y, name, ha="center", va="bottom")


def name_row(figure: Figure, place: Place, name: str) -> None:
    """Write where a row of panels lies beside its first one."""
    _write(figure, place.left - 0.06, place.bottom + place.height / 2, name, ha="right", va="center", rotation=90)


def draw_key(figure: Figure, layout: Layout, lines: Sequence[Line]) -> None:
    """Show what each kind of outline stands for, on a dark strip as on the panels."""
    place, scale = layout.key, figure.dpi_scale_trans
    strip = Rectangle((place.left, place.bottom), place.width, place.height, facecolor=_SHADE, linewidth=0)
    figure.add_artist(strip).set_transform(scale)
    x, middle = place.left + 0.12, place.bottom + place.height / 2
    for line in lines:
        if line.hatch:
            sample = Rectangle((x, middle - 0.06), _SAMPLE, 0.12, fill=False, hatch=line.hatch, edgecolor=line.color)
        else:
            sample = Line2D([x, x + _SAMPLE], [middle, middle], color=line.color)
        sample.set(linewidth=line.width_pt, linestyle=(0, line.dashes) if line.dashes else "solid")
        figure.add_artist(sample).set_transform(scale)
        x += _SAMPLE + 0.07
        _write(figure, x, middle, line.name, ha="left", va="center", color="white")
        x += width_in(line.name, TEXT_PT) + 0.25


def draw_color_bar(figure: Figure, panel: Place, measure: str, most: float) -> None:
    """Show which color stands for how much of a measure, beside the last panel of a row."""
    distance, width = _BAR
    place = Place(panel.left + panel.width + distance, panel.bottom, width, panel.height)
    axes = figure.add_axes(fraction(figure, place))
    colors = heat(np.linspace(0, 1, 256, dtype=np.float32)[:, np.newaxis])
    axes.imshow(colors, origin="lower", extent=(0, 1, 0, most), aspect="auto")
    axes.set(xticks=[], yticks=[0, most / 2, most])
    axes.set_yticklabels([f"{value:.3g}" for value in (0, most / 2, most)], fontsize=SMALL_PT, **PLAIN)
    axes.yaxis.set_ticks_position("right")
    axes.tick_params(length=2, pad=1)
    info = measure_info(measure)
    unit = "unknown unit" if info is None else info.unit
    name = plain(f"{in_words(measure)} of the tumor probability ({unit})")
    lines = "\n".join(wrapped(name, width_in=panel.height, size_pt=SMALL_PT))
    x, y = place.left + width + 0.3, panel.bottom + panel.height / 2
    _write(figure, x, y, lines, ha="left", va="center", rotation=90, fontsize=SMALL_PT)
