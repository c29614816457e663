"""Lungs by thresholds and shapes: no weights, no network, a few seconds."""

from __future__ import annotations

from nnunet_cascade.errors import NoLungsError
from nnunet_cascade.geometry import Image, Mask, Spacing
from nnunet_cascade.images import Volume
from nnunet_cascade.postprocessing.lungs.air import bowel_gas, lung_air
from nnunet_cascade.postprocessing.lungs.airway import airway
from nnunet_cascade.postprocessing.lungs.result import LungMask
from nnunet_cascade.postprocessing.lungs.sides import close_sides, split_sides
from nnunet_cascade.postprocessing.lungs.surface_refinement import refine
from nnunet_cascade.postprocessing.lungs.tissue import inside_body
from nnunet_cascade.postprocessing.lungs.truncated_field_of_view import with_open_lung
from nnunet_cascade.postprocessing.lungs.upright import Upright

_WORKING_MM = 2.0


def threshold_lungs(ct: Volume) -> LungMask:
    """Find the lungs of a CT by their air.

    The CT is turned upright and averaged to about 2 mm. There the body is found, gas and airway are taken out, the rest
    of the air is lung where it looks like lung; right and left are parted and closed over vessels and tumors by 10 mm
    each. Its surface follows the CT's own voxels.

    Large tumors, consolidation and effusion at the pleura stay outside.

    Args:
        ct: In Hounsfield units, in any orientation. Left unchanged.

    Returns:
        The lungs on the CT's own grid, never empty.

    Raises:
        NoLungsError: Nothing in the CT looks like lung.
    """
    upright = Upright.of(ct.grid, about_mm=_WORKING_MM)
    hu = upright.coarse(ct)
    allowed, body = _where_lung_may_be(hu, upright.spacing_mm)
    lungs = lung_air(hu, allowed, upright.spacing_mm)
    if not lungs.any():
        raise NoLungsError(
            f"no air in this CT of shape {ct.grid.shape} looks like lung; is it a thorax in Hounsfield units? "
            "Choose the 'lungmask' or 'folder' source"
        )
    labels = close_sides(split_sides(lungs, body, upright.spacing_mm), ~allowed, upright.spacing_mm)
    return LungMask.of(refine(labels, lungs, allowed, upright, ct), ct.grid, source="threshold")


def _where_lung_may_be(hu: Image, spacing_mm: Spacing) -> tuple[Mask, Mask]:
    """Return the body without airway and bowel gas, and all of the body; both may be empty."""
    body = inside_body(hu, spacing_mm)
    if not body.any():
        return body, body
    body = with_open_lung(hu, body, spacing_mm)
    tract = airway(hu, body, spacing_mm)
    return body & ~tract & ~bowel_gas(hu, body, tract, spacing_mm), body
