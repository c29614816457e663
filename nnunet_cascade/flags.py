"""The flags of a case: every word and what it means. A flag asks for a look; none is an error."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

_NO_MASK = "there is no lung mask; candidates were kept"
_UNKNOWN = "this version knows no such flag; the record is of another one"


class Flag(StrEnum):
    """A flag: a text that stays the same from version to version.

    Attributes:
        meaning: In words, as docs/outputs.md has them.
    """

    meaning: str

    def __new__(cls, word: str, meaning: str) -> Self:
        """Make a flag of its word."""
        flag = str.__new__(cls, word)
        flag._value_, flag.meaning = word, meaning
        return flag

    def __repr__(self) -> str:
        """Return it as a plain text, as people print the flags of a result."""
        return repr(self.value)

    NO_CANDIDATE = "no_candidate", "stage 1 found nothing"
    ALL_REJECTED = "all_rejected", "the rules rejected every candidate"
    BEST_KEPT = "best_kept", "the rules rejected every candidate; by setting, the best one was kept"
    CANDIDATES_LEFT_OUT = "candidates_left_out", "more candidates than stage 2 may look at; the last were left out"
    EMPTY_RESULT = "empty_result", "the final mask is empty"
    ROI_WITHOUT_TUMOR = "roi_without_tumor", "stage 2 found nothing in a region"
    ROI_CLIPPED = "roi_clipped", "the tumor reaches the border of its region and may extend beyond it"
    ISLANDS_DROPPED = "islands_dropped", "components away from every kept candidate were dropped"
    ISLANDS_KEPT = "islands_kept", "components away from every kept candidate were kept"
    LUNGS_MISSING = "lungs_missing", _NO_MASK
    LUNGS_NOT_FOUND = "lungs_not_found", _NO_MASK
    LUNGS_EMPTY = "lungs_empty", _NO_MASK
    LUNGS_IMPLAUSIBLE = "lungs_implausible", "the lung mask is below 1 l or above 10 l; candidates were kept"
    ONE_LUNG_SMALL = "one_lung_small", "one lung has less than a tenth of the other's volume; candidates were kept"
    LUNGS_MISPLACED = "lungs_misplaced", "the lung mask does not match the scan; candidates were kept"
    THICK_SLICES = "thick_slices", "voxels are longer than 5 mm along an axis; distances are that coarse"
    NOT_AXIAL = "not_axial", "slices are sagittal or coronal, and the networks see them as stored"
    MISSING_SLICES = "missing_slices", "slices of the series are missing; the image is interpolated there"
    UNEVEN_STEPS = "uneven_steps", "slices are not equally spaced; some planes are interpolated"
    GANTRY_TILT = "gantry_tilt", "the gantry was tilted; slices were moved back within their planes"
    DUPLICATE_SLICES = "duplicate_slices", "some slices occur twice with the same content; each was used once"
    OTHER_ORIENTATION = "slices_of_other_orientation", "images not parallel to the others were left out"
    PROBABILITY_UNUSED = (
        "probability_unused",
        "the `.npz` file of the prediction does not match its mask and was not used",
    )


def meaning_of(flag: str) -> str:
    """Return a flag's meaning; of a word that is none, that it is unknown."""
    try:
        return Flag(flag).meaning
    except ValueError:
        return _UNKNOWN
