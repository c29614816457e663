"""Whether a lung mask of unknown origin can be the lungs of a CT."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnunet_cascade.geometry import Mask
from nnunet_cascade.images import Volume
from nnunet_cascade.postprocessing.lungs.air import AIR_HU
from nnunet_cascade.postprocessing.lungs.result import LEFT, RIGHT
from nnunet_cascade.postprocessing.lungs.sides import split_sides
from nnunet_cascade.postprocessing.lungs.tissue import inside_body
from nnunet_cascade.postprocessing.lungs.truncated_field_of_view import with_open_lung
from nnunet_cascade.postprocessing.lungs.upright import Upright

_LOOK_MM = 4.0
_LEAST_AIR = 0.25
_DISEASED_AIR, _COVERED = 0.65, 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class LungPlacement:
    """How a lung mask lies in a CT, on a grid of about 4 mm.

    Attributes:
        air_share: Share of the mask that is air inside the body, 0 to 1. Of healthy lungs it is nearly all, of
            diseased ones less; of a mask from another scan what the two happen to share.
        air_covered: Share of the air inside the body that lies in the mask, 0 to 1. Diseased lungs cover
            theirs; 1 where there is no such air.
        smaller_side_share: Volume of the smaller lung in that of the larger, 0 to 1, by their shape.
    """

    air_share: float
    air_covered: float
    smaller_side_share: float

    @property
    def is_misplaced(self) -> bool:
        """Whether the mask is hardly air, or shares little of its own and of the body's air with the other.

        Measured on two real CTs: their own lungs share and cover over 90 %, those of the other
        patient or moved by 50 mm under 60 %.
        """
        shifted = self.air_share < _DISEASED_AIR and self.air_covered < _COVERED
        return self.air_share < _LEAST_AIR or shifted


def lung_placement(ct: Volume, mask: Mask) -> LungPlacement:
    """Look where a lung mask (Z, Y, X), not empty, lies in its CT of any orientation, in Hounsfield units."""
    upright = Upright.of(ct.grid, about_mm=_LOOK_MM)
    hu = upright.coarse(ct)
    body = with_open_lung(hu, inside_body(hu, upright.spacing_mm), upright.spacing_mm)
    weights = upright.averaged(mask)
    air = (hu < AIR_HU) & body
    shared, air_voxels = float(weights[air].sum()), int(np.count_nonzero(air))
    lungs = weights >= min(0.5, float(weights.max()))
    sides = split_sides(lungs, body if body.any() else lungs, upright.spacing_mm)
    smaller, larger = sorted(int(np.count_nonzero(sides == side)) for side in (RIGHT, LEFT))
    return LungPlacement(
        air_share=shared / float(weights.sum()),
        air_covered=shared / air_voxels if air_voxels else 1.0,
        smaller_side_share=smaller / larger,
    )
