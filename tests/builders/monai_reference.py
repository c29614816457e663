"""What MONAI gives for the metrics that it has, by the names of this package."""

import warnings

import torch


def monai_scores(truth, prediction, spacing_mm):
    """Measure two masks that both have voxels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI warns on import, and about empty masks
        from monai.metrics.absolute_volume_difference import compute_absolute_volume_difference  # noqa: PLC0415
        from monai.metrics.hausdorff_distance import compute_hausdorff_distance  # noqa: PLC0415
        from monai.metrics.meandice import compute_dice  # noqa: PLC0415
        from monai.metrics.surface_dice import compute_surface_dice  # noqa: PLC0415
        from monai.metrics.surface_distance import compute_average_surface_distance  # noqa: PLC0415

        masks = [torch.from_numpy(mask[None, None].copy()) for mask in (prediction, truth)]
        plain = {"include_background": True}
        spaced = {**plain, "spacing": spacing_mm}
        found = {
            "dice": compute_dice(*masks, **plain),
            "hd95_mm": compute_hausdorff_distance(*masks, percentile=95, **spaced),
            "hd_mm": compute_hausdorff_distance(*masks, **spaced),
            "assd_mm": compute_average_surface_distance(*masks, symmetric=True, **spaced),
            **{f"nsd_{mm}mm": compute_surface_dice(*masks, [float(mm)], **spaced) for mm in (1, 2, 3)},
            "volume_difference_voxels": compute_absolute_volume_difference(*masks, **plain),
        }
    return {name: float(value) for name, value in found.items()}


def monai_nsd_by_area(truth, prediction, spacing_mm, tolerance_mm):
    """Measure the surface Dice that weighs by area on the voxels' corners."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.metrics.surface_dice import compute_surface_dice  # noqa: PLC0415

        masks = [torch.from_numpy(mask[None, None].copy()) for mask in (prediction, truth)]
        how = {"include_background": True, "spacing": spacing_mm, "use_subvoxels": True}
        return float(compute_surface_dice(*masks, [tolerance_mm], **how))


COMMON = ("dice", "hd95_mm", "hd_mm", "assd_mm", "nsd_1mm", "nsd_2mm", "nsd_3mm")
"""Metrics that both define alike."""
