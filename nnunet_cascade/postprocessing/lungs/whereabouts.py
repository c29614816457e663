"""Whether a lung mask lies where the lungs are."""

from __future__ import annotations

import numpy as np

from nnunet_cascade.geometry import Mask
from nnunet_cascade.images import Volume
from nnunet_cascade.postprocessing.lungs.air import AIR_HU
from nnunet_cascade.postprocessing.lungs.edge import with_open_lung
from nnunet_cascade.postprocessing.lungs.tissue import inside_body
from nnunet_cascade.postprocessing.lungs.upright import Upright

_LOOK_MM = 4.0


def share_in_lung_air(ct: Volume, mask: Mask) -> float:
    """Give the share of a lung mask that is air inside the body, on a grid of about 4 mm.

    Of healthy lungs it is nearly all, of diseased ones less; of a mask from another
    scan what the two happen to share.

    Args:
        ct: In Hounsfield units, in any orientation.
        mask: (Z, Y, X), on its grid, not empty.

    Returns:
        0 to 1.
    """
    upright = Upright.of(ct.grid, about_mm=_LOOK_MM)
    hu = upright.coarse(ct)
    body = with_open_lung(hu, inside_body(hu, upright.spacing_mm), upright.spacing_mm)
    weights = upright.coarse(Volume(mask.astype(np.float32), ct.grid))
    return float(weights[(hu < AIR_HU) & body].sum() / weights.sum())
