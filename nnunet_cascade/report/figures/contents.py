"""What each panel of a figure shows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.report.figures.legend import shown_candidates
from nnunet_cascade.report.figures.orientation import EdgeLetters
from nnunet_cascade.report.figures.palette import DROPPED, HEAT_BRIGHTNESS, LUNGS, PREDICTED, REGION, TRUTH
from nnunet_cascade.report.figures.panels import Panel
from nnunet_cascade.report.figures.rows import FigureRows, PanelExtent
from nnunet_cascade.report.figures.sources import FigureLayer, FigureSources

_MOST = {"variance": 0.25, "predictive_entropy": math.log(2), "mutual_information": math.log(2)}


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
    return (
        PanelKind("CT", _draw_ct),
        *truth,
        PanelKind("Stage 1", _draw_stage1),
        PanelKind("After anatomy rules", _draw_anatomy),
        PanelKind(
            "Stage 2: tumor and uncertainty",
            _draw_result,
            1.0 if rows.uncertainty.planes is None else HEAT_BRIGHTNESS,
        ),
    )


def highest(measure: str, layer: FigureLayer) -> float:
    """Return the end of the color bar: the most that a measure can be; of an unknown one the highest there is."""
    known = _MOST.get(measure)
    if known is not None or layer.planes is None:
        return known or 1.0
    return float(layer.planes.max()) or 1.0


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
        dropped = number in told and told[number].kept is False
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
        panel.show_heat(values, _inside(here, values), most=drawing.most)
    for box in here:
        panel.frame(box, REGION)
    if rows.tumor.planes is not None:
        panel.outline(rows.tumor.planes[row] != 0, PREDICTED)
    nowhere = "No region: no candidate was kept." if drawing.sources.facts.known and not rows.regions else ""
    return " ".join(filter(None, (rows.tumor.missing, nowhere, "" if nowhere else rows.uncertainty.missing)))


def _inside(boxes: Any, plane: NDArray[Any]) -> NDArray[np.bool_]:
    """Mark the boxes in a plane (rows, columns)."""
    inside = np.zeros(plane.shape, dtype=np.bool_)
    for box in boxes:
        inside[box.slices[1:]] = True
    return inside
