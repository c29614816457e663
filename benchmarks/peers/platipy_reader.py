"""platipy: CT and all ROIs of one patient as arrays."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from measure import report
from platipy.dicom.io.rtstruct_to_nifti import (
    read_dicom_image,
    read_dicom_struct_file,
    transform_point_set_from_dicom_struct,
)


def work() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Let platipy read the series and draw every ROI."""
    folder = Path(sys.argv[1])
    image = read_dicom_image(str(folder / "image"))
    structures = read_dicom_struct_file(str(next((folder / "mask_rtstruct").iterdir())))
    masks, names = transform_point_set_from_dicom_struct(image, structures)
    arrays = [sitk.GetArrayFromImage(mask) for mask in masks]
    return sitk.GetArrayFromImage(image), dict(zip(names, arrays, strict=True))


report(work)
