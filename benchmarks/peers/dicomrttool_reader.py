"""DicomRTTool: CT and all ROIs of one patient as arrays."""

from __future__ import annotations

import sys

import numpy as np
from DicomRTTool.ReaderWriter import DicomReaderWriter
from measure import report


def work() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Let DicomRTTool walk the folder and draw every ROI as a label of its own."""
    reader = DicomReaderWriter(description="benchmark", arg_max=False, verbose=False)
    reader.walk_through_folders(sys.argv[1], thread_count=1)
    names = reader.return_rois(print_rois=False)
    reader.set_contour_names_and_associations(contour_names=names)
    reader.get_images_and_mask()
    return reader.ArrayDicom, {name: reader.mask[..., place + 1] for place, name in enumerate(names)}


report(work)
