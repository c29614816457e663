"""What every figure of a score means, in words for tables and files, and where others define it otherwise."""

from types import MappingProxyType

from nnunet_cascade.evaluation.mask_pair import EMPTY_POLICY

NSD_DEFINITION = (
    "normalized surface Dice: share of the surface voxels of both masks that lie within the tolerance of the other's "
    "surface, each counting once, as MONAI's without sub-voxels (surface-distance, and MONAI with sub-voxels, weigh by "
    'area on the voxels\' corners and give more); what papers call "Boundary Dice" is taken to be this surface Dice '
    "of Nikolov et al., not Boundary IoU"
)
DEFINITIONS = MappingProxyType(
    {
        "dice": "2·|A ∩ B| / (|A| + |B|) over voxels (where both masks are empty nnU-Net has NaN as here, MONAI NaN or "
        "1 by its settings; where only the truth is, MONAI has NaN or 0)",
        "hd95_mm": "maximum of the two directed 95th percentiles of the distances between surface voxels, in mm on the "
        "truth's own grid",
        "hd95_pooled_mm": "95th percentile of the distances from both sides taken together, as MedPy's hd95; for "
        "comparison with figures made that way only, for it hides a far false positive behind a large lesion",
        "hd_mm": "largest distance between surface voxels, from either side, in mm; a single voxel decides it, and "
        "some published code reports it as HD95",
        "assd_mm": "mean of the distances from both sides taken together, in mm, each surface voxel counting once, as "
        "MONAI's (MedPy averages the two directed means; surface-distance weighs by area and gives them apart)",
        "nsd_1mm": f"at 1 mm: {NSD_DEFINITION}",
        "nsd_2mm": f"at 2 mm: {NSD_DEFINITION}",
        "nsd_3mm": f"at 3 mm: {NSD_DEFINITION}",
        "volume_error_ml": "predicted minus true volume (MONAI's absolute volume difference counts voxels, unsigned)",
        "lesions": "lesions are 26-connected components of the truth, found where the prediction has at least one of "
        "their voxels; a 26-connected component of the prediction without a voxel of truth is a false positive; "
        "recall is found lesions of all, precision true components of all predicted, F1 their harmonic mean (one "
        "component may find several lesions; panoptica and nnDetection match one to one by IoU, and differ)",
        "lesion_spread_mm": "largest distance between the centroids of two lesions; 0 for one, undefined for none",
        "predicted_spread_mm": "the same of the prediction's components",
        "empty": EMPTY_POLICY,
    }
)
"""By the field of `CaseScore` that they define, and the policy for empty masks."""
