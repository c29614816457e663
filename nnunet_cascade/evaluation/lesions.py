"""Lesions found, lesions missed and islands where there is none."""

from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation.pairs import cropped_to_union, empty_masks, require_pair
from nnunet_cascade.geometry import Mask

_CONNECTIVITY = 26


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionCounts:
    """How many lesions one case has, and how the prediction meets them.

    Attributes:
        lesions: 26-connected components of the truth.
        found: Those of them that the prediction overlaps.
        false_positive_components: 26-connected components of the prediction without a voxel of truth.
        false_positive_voxels: Voxels in them.

    Raises:
        SettingsError: A count is negative, or more lesions are found than there are.
    """

    lesions: int
    found: int
    false_positive_components: int
    false_positive_voxels: int

    def __post_init__(self) -> None:
        if not 0 <= self.found <= self.lesions:
            raise SettingsError(f"found {self.found} of {self.lesions} lesions; expected 0 up to all of them")
        if not 0 <= self.false_positive_components <= self.false_positive_voxels:
            raise SettingsError(
                f"found {self.false_positive_components} false positive components of "
                f"{self.false_positive_voxels} voxels together; expected at least one voxel each"
            )


def count_lesions(truth: Mask, prediction: Mask, *, min_overlap_voxels: int = 1) -> LesionCounts:
    """Count lesions found and islands predicted where there is none.

    One predicted component may find several lesions. A component that touches
    truth with a single voxel is no false positive, whatever `min_overlap_voxels`.

    Args:
        truth: (Z, Y, X); each 26-connected component is a lesion. May be empty: no lesions.
        prediction: (Z, Y, X), same grid. May be empty: none found.
        min_overlap_voxels: Voxels of a lesion that must be predicted for it to count as found.

    Returns:
        The counts.

    Raises:
        SettingsError: A mask is not a boolean volume, or `min_overlap_voxels` is below 1.
        GridMismatchError: The shapes differ.
    """
    require_pair(truth, prediction)
    if min_overlap_voxels < 1:
        raise SettingsError(f"min_overlap_voxels is {min_overlap_voxels}; a lesion is found by at least 1 voxel")
    if empty_masks(truth, prediction) == "both":
        return LesionCounts(lesions=0, found=0, false_positive_components=0, false_positive_voxels=0)
    truth, prediction = cropped_to_union(truth, prediction)
    _, predicted_of_lesion = _component_sizes(truth, prediction)
    island_sizes, truth_of_island = _component_sizes(prediction, truth)
    false_positives = island_sizes[truth_of_island == 0]
    return LesionCounts(
        lesions=predicted_of_lesion.size,
        found=int(np.count_nonzero(predicted_of_lesion >= min_overlap_voxels)),
        false_positive_components=false_positives.size,
        false_positive_voxels=int(false_positives.sum()),
    )


def _component_sizes(mask: Mask, other: Mask) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Give, for each component of `mask`, its voxels and those of them that lie in `other`."""
    # bytes, not booleans: cc3d 4.1.1 sizes its tables too small for some boolean masks ("maximum length exception")
    labels, count = cc3d.connected_components(mask.astype(np.uint8), connectivity=_CONNECTIVITY, return_N=True)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    shared = np.bincount(labels[other], minlength=count + 1)[1:]
    return sizes, shared
