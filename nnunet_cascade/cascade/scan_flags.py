"""What a reader should know of a scan's grid alone, whatever is found in it."""

from __future__ import annotations

from nnunet_cascade.geometry import Grid

THICK_SLICES = "thick_slices"
NOT_AXIAL = "not_axial"
_THICK_MM = 5.0


def grid_flags(grid: Grid, *, as_stored: bool = False) -> dict[str, str]:
    """Give flags with a line of explanation each.

    Args:
        grid: Of the CT.
        as_stored: Whether a network sees the image as it is stored; it has learned axial slices.
    """
    flags: dict[str, str] = {}
    largest = max(grid.spacing_mm)
    if largest > _THICK_MM:
        flags[THICK_SLICES] = (
            f"voxels are {largest:g} mm long along one axis: distances and merging are no finer than that"
        )
    if as_stored and grid.array_axis("foot-head")[0] != 0:
        flags[NOT_AXIAL] = (
            "slices are not axial and the networks see them as stored: those trained on axial slices may miss tumors; "
            "a bundle made with --orientation LPS turns them"
        )
    return flags
