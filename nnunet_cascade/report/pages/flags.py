"""What each flag of a record means, in words."""

from __future__ import annotations

from collections.abc import Mapping

_NO_MASK = "there is no lung mask; candidates were kept"
FLAGS: Mapping[str, str] = {
    "no_candidate": "stage 1 found nothing",
    "all_rejected": "the rules rejected every candidate",
    "best_kept": "the rules rejected every candidate; by setting, the best one was kept",
    "empty_result": "the final mask is empty",
    "roi_without_tumor": "stage 2 found nothing in a region",
    "roi_clipped": "the tumor reaches the border of its region and may extend beyond it",
    "islands_dropped": "components away from every kept candidate were dropped",
    "islands_kept": "components away from every kept candidate were kept",
    "lungs_missing": _NO_MASK,
    "lungs_not_found": _NO_MASK,
    "lungs_empty": _NO_MASK,
    "lungs_implausible": "the lung mask is below 1 l or above 10 l; candidates were kept",
    "one_lung_small": "one lung has less than a tenth of the other's volume; candidates were kept",
    "lungs_misplaced": "the lung mask does not match the scan; candidates were kept",
    "thick_slices": "voxels are longer than 5 mm along an axis; distances are that coarse",
    "not_axial": "slices are sagittal or coronal, and the networks see them as stored",
    "missing_slices": "slices of the series are missing; the image is interpolated there",
    "uneven_steps": "slices are not equally spaced; some planes are interpolated",
    "gantry_tilt": "the gantry was tilted; slices were moved back within their planes",
    "duplicate_slices": "some slices occur twice with the same content; each was used once",
    "slices_of_other_orientation": "images not parallel to the others were left out",
    "probability_unused": "the `.npz` file of the prediction does not match its mask and was not used",
}
"""By flag, as docs/outputs.md has them."""
_UNKNOWN = "this version knows no such flag; the record is of another one"


def explained(flag: str) -> str:
    """Give a flag's meaning; of an unknown one, that it is unknown."""
    return FLAGS.get(flag, _UNKNOWN)
