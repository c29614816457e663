"""Flags of a grid alone."""

import pytest

from nnunet_cascade.geometry import Grid
from nnunet_cascade.scans.flags import grid_flags


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(
    ("size_mm", "flags"), [(4.99, []), (5.0, []), (5.01, ["thick_slices"]), (8.0, ["thick_slices"])]
)
def test_voxels_longer_than_5_mm_are_thick(axis, size_mm, flags):
    spacing_mm = [1.0, 1.0, 1.0]
    spacing_mm[axis] = size_mm
    assert list(grid_flags(Grid(shape=(2, 3, 4), spacing_mm=tuple(spacing_mm)))) == flags
