"""How good a segmentation is: voxels, surfaces, lesions, cases and tables of methods."""
