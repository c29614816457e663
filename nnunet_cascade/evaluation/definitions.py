"""What every figure of a score means, in words for tables and files, and where others define it otherwise."""

from types import MappingProxyType

from nnunet_cascade.evaluation.lesions import LESION_DEFINITION
from nnunet_cascade.evaluation.mask_pair import EMPTY_POLICY
from nnunet_cascade.evaluation.overlap import DICE_DEFINITION
from nnunet_cascade.evaluation.surface import (
    ASSD_DEFINITION,
    HD95_DEFINITION,
    HD95_POOLED_DEFINITION,
    HD_DEFINITION,
    NSD_DEFINITION,
)

DEFINITIONS = MappingProxyType(
    {
        "dice": DICE_DEFINITION,
        "hd95_mm": HD95_DEFINITION,
        "hd95_pooled_mm": HD95_POOLED_DEFINITION,
        "hd_mm": HD_DEFINITION,
        "assd_mm": ASSD_DEFINITION,
        "nsd_1mm": f"at 1 mm: {NSD_DEFINITION}",
        "nsd_2mm": f"at 2 mm: {NSD_DEFINITION}",
        "nsd_3mm": f"at 3 mm: {NSD_DEFINITION}",
        "volume_error_ml": "predicted minus true volume (MONAI's absolute volume difference counts voxels, unsigned)",
        "lesions": LESION_DEFINITION,
        "lesion_spread_mm": "largest distance between the centroids of two lesions; 0 for one, undefined for none",
        "predicted_spread_mm": "the same of the prediction's components",
        "empty": EMPTY_POLICY,
    }
)
"""By the field of `CaseScore` that they define, and the policy for empty masks."""
