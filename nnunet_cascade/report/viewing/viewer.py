"""What the viewer of a case's page is told: its images, how to show them, and the places to go to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np

from nnunet_cascade.case_folders.case_record import CaseRecord
from nnunet_cascade.case_folders.record_parts import CandidateRecord
from nnunet_cascade.geometry import Box, Grid, Vector
from nnunet_cascade.report.figures.palette import DROPPED, PREDICTED, TRUTH, heat
from nnunet_cascade.report.figures.request import Window
from nnunet_cascade.uncertainty_measures import MEASURES, measure_info

_GREEN, _PURPLE, _BLUE = "#009E73", "#CC79A7", "#0072B2"  # of Okabe and Ito, for what the figure outlines in white
_WINDOWS = ("lung", "mediastinum", "bone")
_STOPS = 9
_CLEAR_BELOW = 0.02
_MOST_PLACES = 200
_HIGHEST_LABEL = np.iinfo(np.uint16).max
"""Of the maps of candidates; NiiVue makes a color for each number up to the highest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewerLayer:
    """How the viewer shows one map over the CT.

    Attributes:
        name: As `place_volumes` calls it.
        title: For the reader.
        kind: A mask has one color; labels are candidates, each of its verdict's color; a measure goes through colors.
        color: #RRGGBB; "" of a measure.
        opacity: To begin with, 0 to 1.
        shown: Whether it is shown to begin with.
    """

    name: str
    title: str
    kind: Literal["mask", "labels", "measure"]
    color: str
    opacity: float
    shown: bool = False


LAYERS = (
    ViewerLayer(name="lungs", title="lungs", kind="mask", color=_BLUE, opacity=0.3),
    ViewerLayer(name="roi", title="region of stage 2", kind="mask", color=_PURPLE, opacity=0.25),
    ViewerLayer(name="stage1", title="stage 1", kind="mask", color=_GREEN, opacity=0.5),
    ViewerLayer(name="candidates", title="candidates", kind="labels", color=PREDICTED.color, opacity=0.5),
    ViewerLayer(name="tumor", title="final mask", kind="mask", color=PREDICTED.color, opacity=0.5, shown=True),
    ViewerLayer(name="truth", title="ground truth", kind="mask", color=TRUTH.color, opacity=0.5),
    ViewerLayer(name="probability", title="probability", kind="measure", color="", opacity=0.6),
    ViewerLayer(name="uncertainty", title="uncertainty", kind="measure", color="", opacity=0.6),
)
"""From the lowest to the topmost."""


def viewer_data(
    record: CaseRecord | None, volumes: Mapping[str, str], *, assets: str, library: str, problem: str = ""
) -> dict[str, Any]:
    """Say what the template `viewer.html` needs, as plain values for JSON.

    Args:
        record: Of the case; None if there is none.
        volumes: What `place_volumes` gave.
        assets: Of the report's assets, relative to the page, such as "../../assets".
        library: What `place_niivue` gave; "" where the library could not be had.
        problem: What there is to say about it, one line.

    Returns:
        `assets`, `library`, `problem`, `ct` (a file or ""), `layers`, `windows`, and `places` with a title and
        (x, y, z) in mm, LPS, the largest lesion first.
    """
    known = record or CaseRecord()
    return {
        "assets": assets,
        "library": library,
        "problem": problem,
        "ct": volumes.get("ct", ""),
        "layers": [_layer(layer, volumes[layer.name], known) for layer in LAYERS if layer.name in volumes],
        "windows": [{"name": name, **asdict(Window.parsed(name))} for name in _WINDOWS],
        "places": [{"title": title, "lps_mm": list(place)} for title, place in islice(_places(known), _MOST_PLACES)],
    }


def _layer(layer: ViewerLayer, file: str, record: CaseRecord) -> dict[str, Any]:
    more: dict[str, Any] = {"colors": [layer.color]}
    if layer.kind == "labels":
        more["labels"] = [
            {"id": one.id, "color": DROPPED.color if one.verdict.kept is False else layer.color, "title": _verdict(one)}
            for one in record.numbered_candidates
            if (one.id or 0) <= _HIGHEST_LABEL
        ]
    if layer.kind == "measure":
        info = measure_info(record.measure) or MEASURES["variance"]
        top = round(info.largest, 3) if layer.name == "uncertainty" else 1.0
        stops = np.linspace(0, 1, _STOPS, dtype=np.float32) ** 2
        shades = [f"#{bytes(shade).hex().upper()}" for shade in heat(stops)[:, :3]]
        more.update(colors=shades, stops=np.rint(255 * stops).astype(int).tolist())
        more.update(clear_below=round(_CLEAR_BELOW * top, 4), top=top)
    return {**asdict(layer), "file": file, **more}


def _places(record: CaseRecord) -> Iterator[tuple[str, Vector]]:
    if record.grid is None:
        return
    for number, box in enumerate(record.lesion_boxes, start=1):
        yield f"lesion {number}", _middle(box, record.grid)
    for candidate in record.numbered_candidates:
        if candidate.box is not None:
            yield f"candidate {_verdict(candidate)}", _middle(candidate.box, record.grid)


def _middle(box: Box, grid: Grid) -> Vector:
    z, y, x = ((low + high - 1) / 2 for low, high in zip(box.start, box.stop, strict=True))
    return grid.world_mm((z, y, x))


def _verdict(candidate: CandidateRecord) -> str:
    kept = {True: "kept", False: "dropped", None: "no verdict told"}[candidate.verdict.kept]
    return f"{candidate.id}, {kept}"
