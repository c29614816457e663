"""Real tumors, handed in as stage 1's prediction, survive the recommended rules on lungs by threshold."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from nnunet_cascade.dicom.ct.reading import read_ct_series, stack_files
from nnunet_cascade.dicom.folder import index_folder
from nnunet_cascade.dicom.rtstruct.rasterizing import rasterize
from nnunet_cascade.dicom.rtstruct.reading import read_structure_set
from nnunet_cascade.images import Volume
from nnunet_cascade.postprocessing.anatomy import AnatomySettings, filter_candidates
from nnunet_cascade.postprocessing.lungs.threshold import threshold_lungs


@pytest.mark.parametrize("case", ["LUNG1-001", "LUNG1-002"])
def test_a_primary_tumor_survives_as_drawn_and_3_mm_smaller_and_larger(real_data, case):
    patient = index_folder(real_data / case).patients[0]
    series = read_ct_series(stack_files(patient.of_modality("CT")))
    structures = read_structure_set(patient.of_modality("RTSTRUCT")[0].path)
    number = next(number for number, name in structures.names.items() if name == "GTV-1")
    tumor = rasterize(structures.contours(number).closed, series.stack).mask
    grid = series.stack.grid
    lungs = threshold_lungs(Volume(series.voxels.astype(np.float32), grid))
    outside_mm, inside_mm = (ndimage.distance_transform_edt(mask, sampling=grid.spacing_mm) for mask in (~tumor, tumor))
    for mask in (tumor, inside_mm > 3.0, outside_mm <= 3.0):
        found = filter_candidates(mask, grid, lungs, replace(AnatomySettings.recommended(), top_k="all"))
        assert found.candidates[0].kept, found.candidates[0].verdict
        assert found.candidates[0].voxels > 0.9 * np.count_nonzero(mask)
        assert found.flags == ()
