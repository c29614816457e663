"""This package: CT and all ROIs of one patient as arrays."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from measure import report

from nnunet_cascade.dicom.ct.reading import read_ct_series, stack_files
from nnunet_cascade.dicom.folder import index_folder
from nnunet_cascade.dicom.rtstruct.rasterizing import rasterize
from nnunet_cascade.dicom.rtstruct.reading import read_structure_set


def work() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Read headers, CT and contours, and draw all ROIs."""
    patient = index_folder(Path(sys.argv[1])).patients[0]
    ct = read_ct_series(stack_files(patient.of_modality("CT")))
    structures = read_structure_set(patient.of_modality("RTSTRUCT")[0].path)
    names = structures.names.items()
    masks = {name: rasterize(structures.contours(number).closed, ct.stack).mask for number, name in names}
    return ct.voxels, masks


report(work)
