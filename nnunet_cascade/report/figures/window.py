"""Windows: which Hounsfield units are drawn black, gray and white."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.errors import SettingsError

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
