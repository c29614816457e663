"""Small CT series on disk, and segmentations of them."""

import numpy as np
import pytest

from nnunet_cascade.dicom.ct.reading import stack_files
from nnunet_cascade.dicom.ct.writing import write_ct_series
from nnunet_cascade.dicom.headers import read_header
from nnunet_cascade.dicom.seg.writing import SegmentToWrite, write_segmentation


@pytest.fixture
def ct_paths(tmp_path, series_of):
    """Write the slices of a grid: `ct_paths(grid, planes=[0, 1, 3])`, in the order of the planes."""

    def write(grid, *, planes=slice(None)):
        folder = tmp_path / f"ct{len(list(tmp_path.iterdir()))}"
        paths = write_ct_series(np.zeros(grid.shape, dtype=np.int16), grid, folder, series=series_of("ct"))
        return np.array(paths)[planes].tolist()

    return write


@pytest.fixture
def stack_of():
    """Stack slices on disk as the conversion does: `stack_of(paths)`."""
    return lambda paths: stack_files([read_header(path) for path in paths]).stack


@pytest.fixture
def seg_of(tmp_path):
    """Write masks as a SEG of slices on disk: `seg_of(paths, mask, other)`, segments 1 and 2; gives its path."""

    def write(paths, *masks, **more):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.seg.dcm"
        segments = [SegmentToWrite(name=f"GTV-{place}", mask=mask) for place, mask in enumerate(masks, start=1)]
        write_segmentation(segments, paths, path, **more)
        return path

    return write


@pytest.fixture
def blob(rng):
    """Draw a mask that has no symmetry: `blob(shape)`, about a third of the voxels, none in the outer planes."""

    def draw(shape):
        mask = rng.random(shape) < 0.3
        mask[[0, -1]] = False
        return mask

    return draw
