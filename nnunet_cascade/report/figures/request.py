"""What a figure is drawn of, and how: the case, the slices and the window of the CT."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.case_folders.case_record import CaseRecord
from nnunet_cascade.case_folders.prediction_files import TumorLabel
from nnunet_cascade.errors import SettingsError
from nnunet_cascade.scans.scans import Scan

_NAMED = {"lung": (-600.0, 1500.0), "mediastinum": (40.0, 400.0), "bone": (400.0, 1800.0)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A range of Hounsfield units.

    Attributes:
        level_hu: Its middle.
        width_hu: From black to white.

    Raises:
        SettingsError: The width is not positive, or one of them no number.
    """

    level_hu: float = -600.0
    width_hu: float = 1500.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.level_hu) and math.isfinite(self.width_hu) and self.width_hu > 0):
            raise SettingsError(
                f"window of level {self.level_hu:g} and width {self.width_hu:g} HU; expected a positive width"
            )

    @classmethod
    def parsed(cls, text: str) -> Window:
        """Read "lung", "mediastinum", "bone", or LEVEL,WIDTH in Hounsfield units.

        Raises:
            SettingsError: It is none of them.
        """
        parts = _NAMED.get(text) or text.split(",")
        try:
            level_hu, width_hu = map(float, parts)
        except ValueError as error:
            raise SettingsError(
                f"window {text!r}; expected {', '.join(_NAMED)}, or LEVEL,WIDTH in HU such as -600,1500"
            ) from error
        return cls(level_hu=level_hu, width_hu=width_hu)

    def shades(self, hounsfield: NDArray[Any]) -> NDArray[np.uint8]:
        """Return values in HU as shades, 0 black to 255 white."""
        share = (hounsfield.astype(np.float32) - (self.level_hu - self.width_hu / 2)) / self.width_hu
        return np.rint(share.clip(0, 1) * 255).astype(np.uint8)

    def __str__(self) -> str:
        return f"window {self.level_hu:g}, {self.width_hu:g} HU"


_MOST_SLICES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureRequest:
    """A case to draw.

    Attributes:
        case: Its name.
        folder: Where its maps lie.
        record: Of it; None if there is none.
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
    record: CaseRecord | None = None
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
