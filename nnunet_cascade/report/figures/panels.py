"""One panel: a slice of the CT with what is outlined on it, letters of orientation and a scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from contourpy import LineType, contour_generator
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from nnunet_cascade.geometry import Box
from nnunet_cascade.report.figures.layout import PLAIN, TEXT_PT, plain, wrapped
from nnunet_cascade.report.figures.margins import shown_candidates
from nnunet_cascade.report.figures.palette import DROPPED, HEAT_BRIGHTNESS, LUNGS, PREDICTED, REGION, TRUTH, Line, heat
from nnunet_cascade.report.figures.rows import FigureRows, PanelExtent
from nnunet_cascade.report.figures.sources import EdgeLetters, FigureLayer, FigureSources
from nnunet_cascade.uncertainty_measures import measure_info

BARS_MM = (5, 10, 20, 50, 100)
_BAR_SHARE = 0.3
_HALO_PT = 1.4
_BEHIND: dict[str, Any] = {"facecolor": "black", "edgecolor": "none", "alpha": 0.65, "pad": 1.2}
_OPAQUE_FROM, _OPACITY = 0.08, 0.85


class Panel:
    """A panel in mm: x to the right and y downwards from the outer corner of a slice's first pixel."""

    def __init__(self, axes: Axes, crop: PanelExtent, spacing_mm: tuple[float, float]) -> None:
        self.axes, self.crop = axes, crop
        self.dy, self.dx = spacing_mm
        axes.set(xlim=(crop.left_mm, crop.right_mm), ylim=(crop.bottom_mm, crop.top_mm), xticks=[], yticks=[])
        axes.set_facecolor("black")

    def show(self, plane: NDArray[Any], **drawn: Any) -> None:
        """Draw the part of a plane (rows, columns), or of colors for each of its pixels, that the crop holds."""
        crop, (rows, columns) = self.crop, plane.shape[:2]
        first, last = max(0, int(crop.top_mm // self.dy)), min(rows, int(-(-crop.bottom_mm // self.dy)))
        left, right = max(0, int(crop.left_mm // self.dx)), min(columns, int(-(-crop.right_mm // self.dx)))
        part = plane[first:last, left:right]
        if part.size:
            extent = (left * self.dx, right * self.dx, last * self.dy, first * self.dy)
            self.axes.imshow(part, extent=extent, origin="upper", aspect="auto", **drawn)  # settings of users aside
            self.axes.set(xlim=(crop.left_mm, crop.right_mm), ylim=(crop.bottom_mm, crop.top_mm))

    def show_shades(self, shades: NDArray[np.uint8], *, brightness: float = 1.0) -> None:
        """Draw a slice of the CT, 0 black to 255 white, or as much darker as a brightness below 1 says."""
        self.show(shades, cmap="gray", vmin=0, vmax=255 / brightness, zorder=0)

    def show_heat(self, values: NDArray[Any], inside: NDArray[np.bool_], *, most: float) -> None:
        """Lay a measure over the CT, clear where it is 0 or outside, with its full opacity from 2/25 of the most."""
        share = np.where(inside, values / most, 0).clip(0, 1).astype(np.float32)
        colors = heat(share)
        colors[..., 3] = np.rint((share / _OPAQUE_FROM).clip(0, 1) * _OPACITY * 255)
        self.show(colors, interpolation="nearest", zorder=1)

    def outline(self, mask: NDArray[np.bool_], line: Line) -> None:
        """Draw the outline of a mask, half way between voxels inside and outside."""
        if mask.any():
            self._add(PathPatch(self._path(mask), fill=False, hatch=line.hatch or None), line)

    def frame(self, box: Box, line: Line) -> None:
        """Draw the edges of a box of slices, rows and columns."""
        (_, top, left), (_, height, width) = box.start, box.shape
        corner = (left * self.dx, top * self.dy)
        self._add(Rectangle(corner, width * self.dx, height * self.dy, fill=False), line)

    def number(self, mask: NDArray[np.bool_], text: str, line: Line) -> None:
        """Write a number above a mask, inside the panel."""
        rows, columns = np.nonzero(mask)
        crop, margin = self.crop, 0.06 * self.crop.width_mm
        x = float(np.clip((columns.mean() + 0.5) * self.dx, crop.left_mm + margin, crop.right_mm - margin))
        y = float(np.clip(rows.min() * self.dy, crop.top_mm + 2 * margin, crop.bottom_mm - margin))
        framed = {**_BEHIND, "edgecolor": line.color, "alpha": 0.85, "linewidth": 0.8}
        self._text(x, y - 0.015 * crop.width_mm, text, ha="center", va="bottom", bbox=framed)

    def letters(self, letters: EdgeLetters) -> None:
        """Write what of the patient lies towards each edge."""
        places = ((letters.left, 0.015, 0.5, "left", "center"), (letters.right, 0.985, 0.5, "right", "center"))
        above = ((letters.top, 0.5, 0.985, "center", "top"), (letters.bottom, 0.5, 0.015, "center", "bottom"))
        for text, x, y, ha, va in (*places, *above):
            self._text(x, y, text, ha=ha, va=va, transform=self.axes.transAxes, weight="bold")

    def scale_bar(self) -> None:
        """Draw a bar of whole millimetres at the lower left, its length beside it."""
        crop, fits = self.crop, [bar for bar in BARS_MM if bar <= _BAR_SHARE * self.crop.width_mm]
        length_mm, thick_mm = (fits or BARS_MM)[-1 if fits else 0], 0.012 * crop.width_mm
        x, y = crop.left_mm + 0.03 * crop.width_mm, crop.bottom_mm - 0.03 * crop.width_mm
        bar = Rectangle((x, y - thick_mm), length_mm, thick_mm, facecolor="white", linewidth=0, zorder=6)
        self.axes.add_artist(bar)
        self._text(x, y - 2 * thick_mm, f"{length_mm} mm", ha="left", va="bottom", fontsize=TEXT_PT - 1)

    def says(self, text: str, *, width_in: float) -> None:
        """Write what is missing across the middle."""
        lines = wrapped(plain(text), width_in=0.85 * width_in, size_pt=TEXT_PT, most_lines=8)
        self._text(0.5, 0.3, "\n".join(lines), ha="center", va="center", transform=self.axes.transAxes)

    def _add(self, patch: PathPatch | Rectangle, line: Line) -> None:
        patch.set(edgecolor=line.color, linewidth=line.width_pt, zorder=3)
        patch.set_linestyle((0, line.dashes) if line.dashes else "solid")
        if not line.hatch:
            patch.set_path_effects([withStroke(linewidth=line.width_pt + _HALO_PT, foreground="black")])
        self.axes.add_artist(patch)

    def _text(self, x: float, y: float, text: str, **drawn: Any) -> None:
        how: dict[str, Any] = {"color": "white", "fontsize": TEXT_PT, "bbox": _BEHIND, "zorder": 7, **PLAIN, **drawn}
        self.axes.text(x, y, text, **how)

    def _path(self, mask: NDArray[np.bool_]) -> Path:
        """Trace a mask in mm, cut at the crop."""
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        part = np.pad(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1).astype(np.float32)
        y = (np.arange(part.shape[0]) + rows[0] - 0.5) * self.dy
        x = (np.arange(part.shape[1]) + columns[0] - 0.5) * self.dx
        traced: Any = contour_generator(x, y, part, line_type=LineType.ChunkCombinedCode).lines(0.5)
        points, codes = traced
        return Path(points[0], codes[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A case while it is drawn.

    Attributes:
        sources: What there is of it.
        rows: The chosen slices.
        crop: The part of them to draw.
        letters: Of the edges.
        most: The uncertainty that the color bar ends at.
    """

    sources: FigureSources
    rows: FigureRows
    crop: PanelExtent
    letters: EdgeLetters
    most: float


Missing = str
"""What a panel cannot show and why, "" where it shows all."""
Content = Callable[[Panel, Drawing, int], Missing]
"""Draws the slice of a row, counted from the feet up, over its CT."""


@dataclass(frozen=True, slots=True)
class PanelKind:
    """A column of the figure.

    Attributes:
        name: What stands above it.
        draw: What it shows.
        brightness: Of its CT.
    """

    name: str
    draw: Content
    brightness: float = 1.0


def panel_kinds(rows: FigureRows) -> tuple[PanelKind, ...]:
    """Return the panels of a row, from left to right."""
    truth = () if rows.truth is None else (PanelKind("Ground truth", _draw_truth),)
    brightness = 1.0 if rows.uncertainty.planes is None else HEAT_BRIGHTNESS
    return (
        PanelKind("CT", _draw_ct),
        *truth,
        PanelKind("Stage 1", _draw_stage1),
        PanelKind("After anatomy rules", _draw_anatomy),
        PanelKind("Stage 2: tumor and uncertainty", _draw_result, brightness),
    )


def highest(measure: str, layer: FigureLayer) -> float:
    """Return the end of the color bar: the most that a measure can be; of an unknown one the highest there is."""
    info = measure_info(measure)
    if info is not None:
        return info.largest
    return 1.0 if layer.planes is None else float(layer.planes.max()) or 1.0


def _draw_ct(_panel: Panel, drawing: Drawing, _row: int) -> Missing:
    return drawing.rows.ct.missing


def _draw_truth(panel: Panel, drawing: Drawing, row: int) -> Missing:
    truth = drawing.rows.truth or FigureLayer(None)
    if truth.planes is not None:
        panel.outline(truth.planes[row], TRUTH)
    return truth.missing


def _draw_stage1(panel: Panel, drawing: Drawing, row: int) -> Missing:
    stage1 = drawing.rows.stage1
    if stage1.planes is not None:
        panel.outline(stage1.planes[row] != 0, PREDICTED)
    return stage1.missing


def _draw_anatomy(panel: Panel, drawing: Drawing, row: int) -> Missing:
    """Outline lungs and candidates by verdict, each with its number."""
    lungs, candidates = drawing.rows.lungs, drawing.rows.candidates
    if lungs.planes is not None:
        panel.outline(lungs.planes[row] != 0, LUNGS)
    missing = [layer.missing for layer in (candidates, lungs) if layer.missing]
    if candidates.planes is None:
        return " ".join(missing)
    labels, told = candidates.planes[row], shown_candidates(drawing.sources, drawing.rows)
    for number in (int(value) for value in np.unique(labels) if value):
        dropped = number in told and told[number].verdict.kept is False
        line = DROPPED if dropped else PREDICTED
        panel.outline(labels == number, line)
        panel.number(labels == number, str(number), line)
    return " ".join(missing)


def _draw_result(panel: Panel, drawing: Drawing, row: int) -> Missing:
    """Lay the uncertainty over the regions, frame them and outline the final mask."""
    rows, height = drawing.rows, drawing.rows.heights[row]
    here = [box for box in rows.regions if box.start[0] <= height < box.stop[0]]
    if rows.uncertainty.planes is not None:
        values = rows.uncertainty.planes[row]
        inside = np.zeros(values.shape, dtype=np.bool_)
        for box in here:
            inside[box.slices[1:]] = True
        panel.show_heat(values, inside, most=drawing.most)
    for box in here:
        panel.frame(box, REGION)
    if rows.tumor.planes is not None:
        panel.outline(rows.tumor.planes[row] != 0, PREDICTED)
    nowhere = drawing.sources.request.record is not None and not rows.regions
    missing = "No region: no candidate was kept." if nowhere else rows.uncertainty.missing
    return " ".join(filter(None, (rows.tumor.missing, missing)))
