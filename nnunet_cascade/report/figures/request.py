"""What a figure is drawn of, and how."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunet_cascade.case_folders.prediction_files import TumorLabel
from nnunet_cascade.errors import SettingsError
from nnunet_cascade.report.figures.window import Window
from nnunet_cascade.scans.scans import Scan

_MOST_SLICES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureRequest:
    """A case to draw.

    Attributes:
        case: Its name.
        folder: Where its maps lie.
        record: As its JSON file holds it; {} where there is none.
        scan: Its CT; None where nobody knows where that is.
        truth: Its true labels; None where there are none.
        truth_tumor: Which values of the true labels are tumor; None: as `dataset.json` says, 1 without one.
        window: Of the CT.
        slices: Rows of the figure, at most; where a case has fewer slices worth it, there are fewer.
        slice_mm: Height (S) of the slices wanted, the nearest ones are taken; () leaves the choice to the program.

    Raises:
        SettingsError: Fewer than 1 or more than 12 slices, or a height that is no number.
    """

    case: str
    folder: Path
    record: Mapping[str, Any] = field(default_factory=dict[str, Any])
    scan: Scan | None = None
    truth: Path | None = None
    truth_tumor: TumorLabel | None = None
    window: Window = field(default_factory=Window)
    slices: int = 1
    slice_mm: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.slices <= _MOST_SLICES or len(self.slice_mm) > _MOST_SLICES:
            found = self.slices if len(self.slice_mm) <= _MOST_SLICES else len(self.slice_mm)
            raise SettingsError(f"found {found} slices for a figure; expected 1 to {_MOST_SLICES}")
        if not all(math.isfinite(height_mm) for height_mm in self.slice_mm):
            raise SettingsError(f"found heights of slices {self.slice_mm}; expected numbers, in mm")
