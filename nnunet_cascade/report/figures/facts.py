"""What a figure needs of a case's record, which nobody has checked: what is not as expected is left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.geometry import Box, Grid, as_index
from nnunet_cascade.report.reading.lenient_json import UncheckedJson


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnCandidate:
    """A candidate as its record tells of it.

    Attributes:
        id: Its value in the map of candidates.
        kept: Its verdict; None where none is told.
        reason: Of the verdict, or "".
        volume_ml: Its size.
        box: Where it lies in the array; None where that is not told.
    """

    id: int
    kept: bool | None
    reason: str
    volume_ml: float
    box: Box | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureFacts:
    """What the record of a case tells.

    Attributes:
        known: Whether there is a record.
        grid: Of all maps; None where it is not told.
        flags: Each once.
        volume_ml: Of the tumor, or None.
        candidates: By size, the largest first.
        regions: Boxes that stage 2 looked at.
        lesions: Boxes of the tumor's components, the largest first; None where they are not told.
        measure: Of uncertainty, or "" where none was measured.
        mean_in_tumor: Of the measure, or None.
    """

    known: bool
    grid: Grid | None
    flags: tuple[str, ...]
    volume_ml: float | None
    candidates: tuple[DrawnCandidate, ...]
    regions: tuple[Box, ...]
    lesions: tuple[Box, ...] | None
    measure: str
    mean_in_tumor: float | None


def facts_of(record: Mapping[str, Any]) -> FigureFacts:
    """Take what is told, of a record or of an empty one."""
    told = UncheckedJson(dict(record))
    candidates = [candidate for item in told.at("candidates") if (candidate := _candidate(item)) is not None]
    lesions = told.at("lesions")
    return FigureFacts(
        known=bool(record),
        grid=_grid(told.at("grid")),
        flags=tuple(dict.fromkeys(told.at("flags").texts())),
        volume_ml=told.at("tumor", "volume_ml").number,
        candidates=tuple(sorted(candidates, key=lambda candidate: (-candidate.volume_ml, candidate.id))),
        regions=_boxes(told.at("rois")),
        lesions=_boxes(lesions) if lesions.is_list else None,
        measure=told.at("uncertainty", "measure").text,
        mean_in_tumor=told.at("uncertainty", "mean_in_tumor").number,
    )


def _candidate(told: UncheckedJson) -> DrawnCandidate | None:
    number = told.at("id").count
    if not number:
        return None
    return DrawnCandidate(
        id=number,
        kept=told.at("verdict", "kept").truth,
        reason=told.at("verdict", "reason").text,
        volume_ml=told.at("volume_ml").number or 0.0,
        box=_box(told.at("box")),
    )


def _boxes(items: UncheckedJson) -> tuple[Box, ...]:
    return tuple(box for item in items if (box := _box(item.at("box"))) is not None)


def _box(told: UncheckedJson) -> Box | None:
    start, stop = ([item.count for item in told.at(end)] for end in ("start", "stop"))
    whole = [place for place in (*start, *stop) if place is not None]
    if not len(start) == len(stop) == 3 or len(whole) != 6:
        return None
    try:
        return Box(as_index(whole[:3]), as_index(whole[3:]))
    except SettingsError:
        return None


def _grid(told: UncheckedJson) -> Grid | None:
    parts: dict[str, Any] = {
        "shape": tuple(item.count for item in told.at("shape")),
        "spacing_mm": tuple(item.number for item in told.at("spacing_mm")),
        "origin_mm": tuple(item.number for item in told.at("origin_mm")),
        "axes": tuple(tuple(part.number for part in axis) for axis in told.at("axes")),
    }
    flat = [
        *parts["shape"],
        *parts["spacing_mm"],
        *parts["origin_mm"],
        *(part for axis in parts["axes"] for part in axis),
    ]
    if [len(part) for part in (*parts.values(), *parts["axes"])] != [3] * 7 or None in flat:
        return None
    try:
        return Grid(**parts)
    except SettingsError:
        return None
