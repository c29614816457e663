"""A candidate with nothing special about it."""

from nnunet_cascade.geometry import Box
from nnunet_cascade.postprocessing.candidates import Candidate

PLAIN = {
    "id": 1,
    "voxels": 1000,
    "volume_mm3": 1000.0,
    "box": Box((0, 0, 0), (10, 10, 10)),
    "centroid_voxels": (0.0, 0.0, 0.0),
    "centroid_mm": (0.0, 0.0, 0.0),
    "lung_overlap": 0.5,
    "lung_distance_mm": 0.0,
    "near_surface_share": 0.6,
    "central": False,
    "side": "left",
    "touches_border": False,
    **dict.fromkeys(("mean_probability", "max_probability", "mean_uncertainty")),
}


def plain_candidate(**changes):
    return Candidate(**{**PLAIN, **changes})
