"""The figure of a case: what was found, what was dropped and why, and where the model is unsure."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.files import atomic_file
from nnunet_cascade.report.figures.layout import Layout, Lines, Place, lay_out
from nnunet_cascade.report.figures.margins import (
    draw_color_bar,
    draw_key,
    fraction,
    heading,
    in_mm,
    name_panels,
    name_row,
    verdicts,
    write_block,
)
from nnunet_cascade.report.figures.palette import DROPPED, LUNGS, PREDICTED, REGION, TRUTH
from nnunet_cascade.report.figures.panels import Drawing, Panel, PanelKind, highest, panel_kinds
from nnunet_cascade.report.figures.request import FigureRequest
from nnunet_cascade.report.figures.rows import choose_heights, panel_extent, read_rows
from nnunet_cascade.report.figures.sources import FigureSources, edge_letters
from nnunet_cascade.versions import NOTICE

FORMATS = ("png", "pdf", "svg")
_DPI = 110
_PACKED = {"compress_level": 3}
"""Of PNG: a little larger than the default, in a fraction of the time."""


def draw_figure(request: FigureRequest, path: Path) -> None:
    """Draw a row of panels for each chosen slice of a case.

    The panels are the CT, ground truth where there is one, stage 1, the candidates with their verdicts,
    and the final mask with the uncertainty in the regions of stage 2. A map that is missing is said in its panel.

    Args:
        request: Which case.
        path: Of the figure; .png, .pdf or .svg. It appears whole or not at all.

    Raises:
        SettingsError: The file's ending is none of these.
        InputImageError, DicomError: There is nothing to draw of the case, or the slice asked for lies outside it.
        OSError: The file cannot be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise SettingsError(f"figure {path.name}: expected a name ending with .{', .'.join(FORMATS)}")
    packed: dict[str, Any] = {"pil_kwargs": _PACKED} if kind == "png" else {}
    figure = compose_figure(request)
    with style.context("default"), atomic_file(path) as beside:
        figure.savefig(beside, format=kind, dpi=_DPI, metadata=_metadata(kind), **packed)


@style.context("default")
def compose_figure(request: FigureRequest) -> Figure:
    """Put the figure of a case together, to be saved or looked at; one inch of it is 110 pixels.

    Whatever style matplotlib has been given elsewhere, such as by nnU-Net for its plots, is left aside.

    Raises:
        InputImageError, DicomError: As `draw_figure`.
    """
    sources = FigureSources.of(request)
    rows = read_rows(sources, choose_heights(sources))
    _, dy, dx = sources.spacing_mm
    drawing = Drawing(
        sources=sources,
        rows=rows,
        crop=panel_extent(rows, (dy, dx), sources.shape[1:]),
        letters=edge_letters(sources.grid),
        most=highest(sources.record.measure, rows.uncertainty),
    )
    kinds = panel_kinds(rows)
    layout = _layout(drawing, len(kinds))
    figure = Figure(figsize=(layout.width, layout.height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    for places, row in zip(layout.panels, reversed(range(len(rows.heights))), strict=True):
        _draw_row(figure, places, kinds, (drawing, row))
    _draw_margins(figure, layout, kinds, drawing)
    return figure


def _layout(drawing: Drawing, columns: int) -> Layout:
    sources, rows = drawing.sources, drawing.rows
    title, subtitle = heading(sources, rows)
    notice = f"CT {sources.request.window}. {NOTICE}"
    lines = Lines(title=title, subtitle=subtitle, legend=verdicts(sources, rows), notice=notice)
    return lay_out(len(rows.heights), columns, drawing.crop, lines)


def _draw_row(figure: Figure, places: tuple[Place, ...], kinds: tuple[PanelKind, ...], of: tuple[Drawing, int]) -> None:
    drawing, row = of
    _, dy, dx = drawing.sources.spacing_mm
    ct = drawing.rows.ct.planes
    shades = None if ct is None else drawing.sources.request.window.shades(ct[row])
    for place, kind in zip(places, kinds, strict=True):
        panel = Panel(figure.add_axes(fraction(figure, place)), drawing.crop, (dy, dx))
        if shades is not None:
            panel.show_shades(shades, brightness=kind.brightness)
        missing = kind.draw(panel, drawing, row)
        if missing:
            panel.says(missing, width_in=place.width)
        panel.letters(drawing.letters)
        panel.scale_bar()
    name_row(figure, places[0], in_mm(drawing.rows.heights_mm[row]))


def _draw_margins(figure: Figure, layout: Layout, kinds: tuple[PanelKind, ...], drawing: Drawing) -> None:
    write_block(figure, layout.title, weight="bold")
    write_block(figure, layout.subtitle)
    name_panels(figure, layout.panels[0], [kind.name for kind in kinds])
    if drawing.rows.uncertainty.planes is not None:
        draw_color_bar(figure, layout.panels[0][-1], drawing.sources.record.measure or "uncertainty", drawing.most)
    truth = () if drawing.rows.truth is None else (TRUTH,)
    draw_key(figure, layout, (*truth, PREDICTED, DROPPED, LUNGS, REGION))
    write_block(figure, layout.legend)
    write_block(figure, layout.notice, color="0.35")


def _metadata(kind: str) -> dict[str, str | None]:
    """Say which software drew it, and nothing of the case or the hour."""
    made_by = f"nnunet-cascade {version('nnunet-cascade')}"
    if kind == "png":
        return {"Software": made_by}
    return {"Creator": made_by, ("CreationDate" if kind == "pdf" else "Date"): None}
