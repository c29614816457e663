"""NSCLC-Radiomics (TCIA, IDC): 422 patients with CT, RTSTRUCT and SEG, as a preset of the general conversion."""

from __future__ import annotations

from collections.abc import Sequence

from nnunet_cascade.dataset_conversion.labels import Label
from nnunet_cascade.dataset_conversion.settings import ConversionSettings, Irregular, Source
from nnunet_cascade.errors import SettingsError

DATASET_NAME = "NSCLCRadiomics"
PRIMARY_TUMOR = "GTV-1"
_EXPERT_SEG = "Segmentation"
_DESCRIPTION = (
    "NSCLC-Radiomics (Aerts et al., The Cancer Imaging Archive, doi:10.7937/K9/TCIA.2015.PF0M9REI), "
    "converted by nnunet-cascade. Not for clinical use."
)


def nsclc_radiomics_settings(
    *,
    targets: Sequence[str] = (PRIMARY_TUMOR,),
    all_gtv: bool = False,
    source: Source = "rtstruct",
    irregular: Irregular = "resample",
) -> ConversionSettings:
    """Return the settings for the collection.

    One label, "tumor". The expert SEG is told from the AI-made ones of the same studies by
    its Series Description. The one patient without GTV-1, whose contour is that of
    before the operation, is left out for that reason.

    Args:
        targets: Names of ROIs, exact but for capitals, that are united. A patient needs the first.
        all_gtv: Unite all ROIs whose names begin with "gtv", nodal ones too.
        source: RTSTRUCT has all ROIs; SEG has GTV-1 alone.
        irregular: What becomes of series with missing or extra slices.

    Raises:
        SettingsError: A target is not an exact name.
    """
    if not targets or any(set(target) & set("*?") for target in targets):
        raise SettingsError(f"targets {list(targets)}; expected exact names of ROIs, such as {PRIMARY_TUMOR}")
    regions = ("gtv*",) if all_gtv else tuple(targets)
    tumor = Label(name="tumor", regions=regions, merge=True, needs=targets[0])
    return ConversionSettings(
        labels=(tumor,),
        source=source,
        seg_description=_EXPERT_SEG,
        irregular=irregular,
        case_names="patient-id",
        licence="CC BY-NC 3.0",
        description=_DESCRIPTION,
    )
