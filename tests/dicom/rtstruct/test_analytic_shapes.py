"""Shapes whose volume is known by formula: the rasteriser neither grows nor shrinks them, wherever they lie.

`benchmarks/analytic_shapes.py` prints the figures.
"""

import itertools

import numpy as np
import pytest
from builders.known_shapes import (
    SERIES,
    SHAPES,
    SIZE_MM,
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
from nnunet_cascade.dicom.ct.reading import stack_files
from nnunet_cascade.dicom.rtstruct.rasterizing import rasterize
from nnunet_cascade.dicom.rtstruct.reading import read_structure_set
from nnunet_cascade.dicom.rtstruct.writing import RoiToWrite, write_structure_set

VOLUME_ERROR = 0.003
DICE = 0.9998  # what is missing to 1 the polygons cut off between their vertices
FINE_MM = (0.2, 0.2, 0.2)


def require_exact(raster, stack, shape):
    """The volume is that of the formula, the voxels are those whose centres lie inside."""
    truth = shape.voxels(stack.grid)
    volume = np.count_nonzero(raster.mask) * stack.grid.voxel_volume_mm3
    assert volume == pytest.approx(shape.volume_mm3, rel=VOLUME_ERROR)
    assert dice(raster.mask, truth) >= DICE
    assert (raster.twins, raster.slivers, raster.outside, raster.skipped_slices) == (0, 0, 0, 0)


@pytest.mark.parametrize("series", SERIES)
@pytest.mark.parametrize("name", SHAPES)
def test_shapes_keep_their_volume(name, series):
    grid = series_grid(series)
    shape, planes = centered(SHAPES[name], grid), packed_planes(grid)
    stack = stack_slices(planes)
    require_exact(rasterize(contours_on(shape, planes), stack), stack, shape)


@pytest.mark.parametrize("series", SERIES)
def test_shapes_keep_their_volume_through_an_rtstruct(series, write_slices, series_of, tmp_path):
    grid = series_grid(series, SPACING_MM, SIZE_MM)
    headers = write_slices(grid)
    shapes = {name: centered(shape, grid) for name, shape in SHAPES.items()}
    rois = [
        RoiToWrite(name=name, contours_mm=tuple(contours_on(shape, [header.plane for header in headers])))
        for name, shape in shapes.items()
    ]
    write_structure_set(rois, grid, headers, tmp_path / "rs.dcm", series=series_of("shapes"))
    found, stack = read_structure_set(tmp_path / "rs.dcm"), stack_files(headers).stack
    for number, name in found.names.items():
        require_exact(rasterize(found.contours(number).closed, stack), stack, shapes[name])


@pytest.mark.parametrize("series", SERIES)
def test_a_small_sphere_keeps_its_volume(series):
    """On slices of 0.2 mm: three or four of 3 mm sample it so coarsely that the volume says nothing of the drawing."""
    grid = series_grid(series, FINE_MM, 12.0)
    shape, planes = centered(SMALL_SPHERE, grid), packed_planes(grid)
    stack = stack_slices(planes)
    require_exact(rasterize(contours_on(shape, planes), stack), stack, shape)


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


@pytest.mark.parametrize("rim_mm", [1.0, 2.0, 4.0])
def test_thin_shells_keep_their_hole(rim_mm):
    grid = series_grid("axial", (1.0, 0.5, 0.5), 70.0)
    shape = centered(Shape((sphere(30.0), sphere(30.0 - rim_mm))), grid)
    planes = packed_planes(grid)
    stack = stack_slices(planes)
    require_exact(rasterize(contours_on(shape, planes), stack), stack, shape)
