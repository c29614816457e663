"""What each flag of a record means, in words."""

from __future__ import annotations

from collections.abc import Mapping

_NO_MASK = "there is no lung mask; candidates were kept"
FLAGS: Mapping[str, str] = {
    "no_candidate": "stage 1 found nothing",
    "all_rejected": "the rules rejected every candidate",
    "best_kept": "the rules rejected every candidate, and the first of them was kept by setting",
    "empty_result": "the final mask is empty",
    "roi_without_tumor": "stage 2 found nothing in a region",
    "roi_clipped": "the tumor reaches a face of its region; it may go on beyond",
    "islands_dropped": "there were components away from every kept candidate",
    "islands_kept": "there were components away from every kept candidate",
    "lungs_missing": _NO_MASK,
    "lungs_not_found": _NO_MASK,
    "lungs_empty": _NO_MASK,
    "lungs_implausible": "less than 1 l or more than 10 l; candidates were kept",
    "one_lung_small": "one lung is less than a tenth of the other; candidates were kept",
    "lungs_misplaced": "the lung mask lies as if it were another scan's; candidates were kept",
    "thick_slices": "voxels are longer than 5 mm along an axis; distances are no finer",
    "not_axial": "slices are sagittal or coronal and the networks see them as they are stored",
    "missing_slices": "slices of the series are missing; what lies there is interpolated",
    "uneven_steps": "slices do not lie at equal distances; some planes are interpolated",
    "gantry_tilt": "the gantry was tilted; slices were moved back within their planes",
    "duplicate_slices": "slices stand twice, the same in both; each was taken once",
    "slices_of_other_orientation": "images not parallel to the others were left out",
    "probability_unused": "the `.npz` beside the prediction does not belong to its mask",
}
"""By flag, as docs/outputs.md has them."""
_UNKNOWN = "this version knows no such flag; the record is of another one"


def explained(flag: str) -> str:
    """Return a flag's meaning; of an unknown one, that it is unknown."""
    return FLAGS.get(flag, _UNKNOWN)
