"""Shapes whose volume is known by formula, drawn from their contours: error of the volume, agreement of the voxels.

    PYTHONPATH=tests python benchmarks/analytic_shapes.py

The contours are ellipses of 720 vertices, cut from the shapes on each slice. Dice compares with the voxels whose
centres lie inside the shape; the volume of those differs from the formula's too, by how slices sample a shape.
"""

from __future__ import annotations

import numpy as np
from builders.known_shapes import (
    SERIES,
    SHAPES,
    SMALL_SPHERE,
    SPACING_MM,
    centered,
    contours_on,
    dice,
    packed_planes,
    series_grid,
)

from nnunet_cascade.dicom.ct.geometry import stack_slices
from nnunet_cascade.dicom.rtstruct.rasterizing import rasterize

_FINE_MM = (0.2, 0.2, 0.2)


def row(name: str, series: str, spacing_mm: tuple[float, float, float]) -> str:
    """Draw a shape and give a table row."""
    shape, size_mm = (SMALL_SPHERE, 18.0) if name == "0.5 ml sphere" else (SHAPES[name], 80.0)
    grid = series_grid(series, spacing_mm, size_mm)
    shape, planes = centered(shape, grid), packed_planes(grid)
    stack = stack_slices(planes)
    mask, truth = rasterize(contours_on(shape, planes), stack).mask, shape.voxels(stack.grid)
    volumes = [np.count_nonzero(voxels) * grid.voxel_volume_mm3 / shape.volume_mm3 - 1 for voxels in (mask, truth)]
    cells = (
        name,
        series,
        " × ".join(f"{size:g}" for size in spacing_mm),
        f"{shape.volume_mm3 / 1000:.2f}",
        *(f"{100 * error:+.3f} %" for error in volumes),
        f"{dice(mask, truth):.6f}",
        str(np.count_nonzero(mask ^ truth)),
    )
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table."""
    print("| shape | series | spacing, mm | ml | volume error | of the voxel centres | Dice | voxels that differ |")
    print("|" + "---|" * 8)
    for name in SHAPES:
        for series in SERIES:
            print(row(name, series, SPACING_MM))
    for series in SERIES:
        print(row("0.5 ml sphere", series, _FINE_MM))
    print(row("0.5 ml sphere", "axial", SPACING_MM))


if __name__ == "__main__":
    main()
