"""CT series: where the slices lie, their voxels, and writing them."""
