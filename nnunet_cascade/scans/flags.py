"""What a reader should know of a scan's grid and slices alone, whatever is found in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnunet_cascade.flags import Flag
from nnunet_cascade.geometry import Grid

if TYPE_CHECKING:
    from nnunet_cascade.dicom.ct.reading import SliceFiles

_THICK_MM = 5.0


def grid_flags(grid: Grid, *, as_stored: bool = False) -> dict[str, str]:
    """Return flags with a line of explanation each.

    Args:
        grid: Of the CT.
        as_stored: Whether a network sees the image as it is stored; it has learned axial slices.
    """
    flags: dict[str, str] = {}
    largest = max(grid.spacing_mm)
    if largest > _THICK_MM:
        flags[Flag.THICK_SLICES] = (
            f"voxels are {largest:g} mm long along one axis: distances and merging are no finer than that"
        )
    if as_stored and grid.array_axis("foot-head")[0] != 0:
        flags[Flag.NOT_AXIAL] = (
            "slices are not axial and the networks see them as stored: those trained on axial slices may miss tumors; "
            "a bundle made with --orientation LPS turns them"
        )
    return flags


def series_flags(files: SliceFiles) -> dict[str, str]:
    """Return the flags of a DICOM series, those of the conversion's records, each with one line of explanation."""
    stack = files.stack
    between = f"{len(stack.interpolated)} of {stack.grid.shape[0]} planes lie where no slice does: interpolated"
    lines: dict[str, str] = {
        Flag.MISSING_SLICES: f"slices are missing: {between}",
        Flag.UNEVEN_STEPS: f"slices do not lie at equal distances: {between}",
        Flag.GANTRY_TILT: "the gantry was tilted: each slice was moved back within its plane, by linear interpolation",
    }
    flags: dict[str, str] = {name: lines[name] for name in stack.irregularities}
    if files.duplicates:
        flags[Flag.DUPLICATE_SLICES] = f"{len(files.duplicates)} slice(s) stand twice, the same in both: taken once"
    if stack.set_aside:
        flags[Flag.OTHER_ORIENTATION] = f"{len(stack.set_aside)} image(s) not parallel to the others: left out"
    return flags
