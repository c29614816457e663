"""Shapes whose volume is known by formula: the rasteriser neither grows nor shrinks them, wherever they lie.

`benchmarks/analytic_shapes.py` prints the figures.
"""

import itertools

import numpy as np
import pytest
from builders.known_shapes import (
    SERIES,
    SHAPES,
    SMALL_SPHERE,
    SPACING_MM,
    Shape,
    centered,
    contours_on,
    dice,
    packed_planes,
    series_grid,
    sphere,
)

from nnunet_cascade.dicom.ct.geometry import stack_slices
from nnunet_cascade.dicom.rtstruct.rasterizing import rasterize

VOLUME_ERROR = 0.003
DICE = 0.9998  # what is missing to 1 the polygons cut off between their vertices
FINE_MM, THIN_MM = (0.2, 0.2, 0.2), (1.0, 0.5, 0.5)


CASES = {
    **{f"{name}, {series}": (SHAPES[name], series_grid(series)) for name in SHAPES for series in SERIES},
    # On slices of 0.2 mm: three or four of 3 mm sample it so coarsely that the volume says nothing of the drawing.
    **{f"small sphere, {series}": (SMALL_SPHERE, series_grid(series, FINE_MM, 12.0)) for series in SERIES},
    **{
        f"shell of {rim_mm:g} mm": (Shape((sphere(30.0), sphere(30.0 - rim_mm))), series_grid("axial", THIN_MM, 70.0))
        for rim_mm in (1.0, 2.0, 4.0)
    },
}


@pytest.mark.parametrize(("shape", "grid"), CASES.values(), ids=CASES)
def test_shapes_keep_their_volume_and_thin_shells_their_hole(shape, grid):
    """The volume is that of the formula, the voxels are those whose centres lie inside."""
    shape, planes = centered(shape, grid), packed_planes(grid)
    stack = stack_slices(planes)
    raster = rasterize(contours_on(shape, planes), stack)
    volume = np.count_nonzero(raster.mask) * stack.grid.voxel_volume_mm3
    assert volume == pytest.approx(shape.volume_mm3, rel=VOLUME_ERROR)
    assert dice(raster.mask, shape.voxels(stack.grid)) >= DICE
    assert (raster.twins, raster.slivers, raster.outside, raster.skipped_slices) == (0, 0, 0, 0)


def test_a_small_sphere_on_clinical_slices_is_right_on_the_average():
    """One sphere of 0.5 ml may be 7 % too large or too small on 3 mm slices; there is no bias."""
    grid = series_grid("axial", SPACING_MM, 18.0)
    planes, middle = packed_planes(grid), (np.array(grid.shape) - 1) / 2
    stack = stack_slices(planes)
    voxels = []
    for offset in itertools.product(np.arange(6) / 6, np.arange(4) / 4, np.arange(4) / 4):
        shape = SMALL_SPHERE.moved(grid.world_mm(tuple(middle + np.array(offset))))
        mask = rasterize(contours_on(shape, planes), stack).mask
        assert np.count_nonzero(mask ^ shape.voxels(grid)) <= 1
        voxels.append(np.count_nonzero(mask))
    volumes = np.array(voxels) * grid.voxel_volume_mm3
    assert volumes.mean() == pytest.approx(SMALL_SPHERE.volume_mm3, rel=VOLUME_ERROR)
    assert volumes.max() < 1.07 * SMALL_SPHERE.volume_mm3
