"""Lungs by thresholds and shapes: no weights, no network, a few seconds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.errors import NoLungsError
from nnunet_cascade.geometry import Image, Spacing
from nnunet_cascade.images import Volume
from nnunet_cascade.postprocessing.lungs.air import bowel_gas, lung_air
from nnunet_cascade.postprocessing.lungs.airway import airway
from nnunet_cascade.postprocessing.lungs.edge import open_lung
from nnunet_cascade.postprocessing.lungs.result import LungMask
from nnunet_cascade.postprocessing.lungs.sides import close_sides, split_sides
from nnunet_cascade.postprocessing.lungs.tissue import inside_body
from nnunet_cascade.postprocessing.lungs.upright import Upright

_WORKING_MM = 2.0


def threshold_lungs(ct: Volume) -> LungMask:
    """Find the lungs of a CT by their air.

    The CT is turned upright and averaged to about 2 mm. There the body is found, gas
    and airway are taken out, the rest of the air is lung where it looks like lung;
    right and left are parted and closed over vessels and tumors by 10 mm each.

    Large tumors, consolidation and effusion at the pleura stay outside.

    Args:
        ct: In Hounsfield units, in any orientation. Left unchanged.

    Returns:
        The lungs on the CT's own grid, never empty.

    Raises:
        NoLungsError: Nothing in the CT looks like lung.
    """
    upright = Upright.of(ct.grid, about_mm=_WORKING_MM)
    labels = _find(upright.coarse(ct), upright.spacing_mm)
    if not labels.any():
        raise NoLungsError(
            f"no air in this CT of shape {ct.grid.shape} looks like lung; is it a thorax in Hounsfield units? "
            "Choose the 'lungmask' or 'folder' source"
        )
    return LungMask.of(upright.fine(labels), ct.grid, source="threshold")


def _find(hu: Image, spacing_mm: Spacing) -> NDArray[np.uint8]:
    body = inside_body(hu, spacing_mm)
    if not body.any():
        return np.zeros(hu.shape, dtype=np.uint8)
    body |= open_lung(hu, body, spacing_mm)
    tract = airway(hu, body, spacing_mm)
    allowed = body & ~tract & ~bowel_gas(hu, body, tract, spacing_mm)
    lungs = lung_air(hu, allowed, spacing_mm)
    if not lungs.any():
        return np.zeros(hu.shape, dtype=np.uint8)
    return close_sides(split_sides(lungs, body, spacing_mm), ~allowed, spacing_mm)
