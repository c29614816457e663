"""Real CTs: lungs by threshold agree with the drawn ones, and tumors survive the recommended rules on them."""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from nnunet_cascade.dicom.ct.reading import read_ct_series, stack_files
from nnunet_cascade.dicom.folder import index_folder
from nnunet_cascade.dicom.rtstruct.rasterizing import rasterize
from nnunet_cascade.dicom.rtstruct.reading import read_structure_set
from nnunet_cascade.geometry import Box
from nnunet_cascade.images import Volume, read_volume
from nnunet_cascade.postprocessing.anatomy import AnatomySettings, filter_candidates
from nnunet_cascade.postprocessing.lungs.threshold import threshold_lungs

# Volumes of the clinical contours, right and left: data/README.md, voxels × voxel size.
DRAWN_ML = {"LUNG1-001": (2966, 2277), "LUNG1-002": (None, 1963)}


@pytest.fixture(scope="module", params=["LUNG1-001", pytest.param("LUNG1-002", marks=pytest.mark.long)])
def patient(request, real_data):
    """The files of a patient, the series of the CT, and the lungs that are found in it."""
    files = index_folder(real_data / request.param).patients[0]
    series = read_ct_series(stack_files(files.of_modality("CT")))
    return files, series, threshold_lungs(Volume(series.voxels.astype(np.float32), series.stack.grid))


def test_a_coarse_thorax_agrees_with_its_labels(real_data):
    folder = real_data / "CIP_ct64"
    found = threshold_lungs(read_volume(folder / "ct-64.nrrd"))
    regions = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "lm-64.nrrd"))) & 255
    for side, values in ((1, (12, 13, 14)), (2, (9, 10, 11))):
        here, there = found.labels == side, np.isin(regions, values)
        assert 2 * np.count_nonzero(here & there) / (here.sum() + there.sum()) > 0.95


def test_clinical_cts_give_lungs_of_the_clinical_volume(patient):
    files, series, lungs = patient
    assert 2000 < lungs.volume_ml < 8000
    assert lungs.flags == ()
    for side, expected_ml in enumerate(DRAWN_ML[files.patient_id], start=1):
        volume_ml = np.count_nonzero(lungs.labels == side) * series.stack.grid.voxel_volume_mm3 / 1000
        assert expected_ml is None or volume_ml == pytest.approx(expected_ml, rel=0.05)


def test_a_primary_tumor_survives_as_drawn_and_3_mm_smaller_and_larger(patient):
    files, series, lungs = patient
    structures = read_structure_set(files.of_modality("RTSTRUCT")[0].path)
    number = next(number for number, name in structures.names.items() if name == "GTV-1")
    tumor = rasterize(structures.contours(number).closed, series.stack).mask
    grid = series.stack.grid
    near = Box.around(tumor).grown_mm(5.0, grid.spacing_mm).slices
    inside_mm = ndimage.distance_transform_edt(tumor[near], sampling=grid.spacing_mm)
    outside_mm = ndimage.distance_transform_edt(~tumor[near], sampling=grid.spacing_mm)
    for part in (tumor[near], inside_mm > 3.0, outside_mm <= 3.0):
        mask = np.zeros_like(tumor)
        mask[near] = part
        found = filter_candidates(mask, grid, lungs, AnatomySettings(top_k="all"))
        assert found.candidates[0].kept, found.candidates[0].verdict
        assert found.candidates[0].voxels > 0.9 * np.count_nonzero(mask)
        assert found.flags == ()
