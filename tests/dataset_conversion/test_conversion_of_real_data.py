"""Files of real scanners and planning systems, which are no part of the project: NNC_REAL_DATA names their folder."""

import shutil

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_cascade.dataset_conversion.sources import choose_ct
from nnunet_cascade.dicom.ct.reading import read_ct_series, stack_files
from nnunet_cascade.dicom.folder import index_folder
from nnunet_cascade.dicom.rtstruct.polygons import fill
from nnunet_cascade.dicom.rtstruct.rasterizing import rasterize
from nnunet_cascade.dicom.rtstruct.reading import read_structure_set
from nnunet_cascade.images import grid_of


class Read:
    """A patient's CT and contours."""

    def __init__(self, folder):
        (self.patient,) = index_folder(folder).patients
        (header,) = self.patient.of_modality("RTSTRUCT")
        self.structures = read_structure_set(header.path)
        self.files = stack_files(choose_ct(self.patient, self.structures))

    def contours(self, name):
        (number,) = (number for number, called in self.structures.names.items() if called == name)
        return self.structures.contours(number)

    def raster(self, name):
        return rasterize(self.contours(name).closed, self.files.stack)


@pytest.fixture(scope="module")
def lung1_001(real_data):
    return Read(real_data / "LUNG1-001")


@pytest.fixture(scope="module")
def lung1_002(real_data):
    return Read(real_data / "LUNG1-002")


@pytest.fixture(scope="module")
def ibsi(real_data):
    return Read(real_data / "IBSI1" / "dicom")


def nifti(folder):
    (path,) = folder.rglob("*.nii*")
    return sitk.ReadImage(str(path))


def test_the_ct_of_ibsi_is_its_nifti_image(ibsi, real_data):
    expected = nifti(real_data / "IBSI1" / "nifti" / "image")
    ct = read_ct_series(ibsi.files)
    np.testing.assert_array_equal(ct.voxels, sitk.GetArrayViewFromImage(expected))
    assert ct.stack.grid.difference(grid_of(expected)) is None
    assert ct.stack.irregularities == ()


def test_the_contours_of_ibsi_give_its_nifti_mask(ibsi, real_data):
    expected = sitk.GetArrayFromImage(nifti(real_data / "IBSI1" / "nifti" / "mask")) > 0
    assert np.count_nonzero(expected) == 125_256
    raster = ibsi.raster("GTV-1")
    assert np.count_nonzero(raster.mask ^ expected) == 0
    assert (raster.twins, raster.outside, raster.clipped, raster.between) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("patient", "name", "voxels"),
    [("lung1_001", "GTV-1", 54_639), ("lung1_001", "Lung-Left", 795_750), ("lung1_002", "GTV-1", 125_204)],
)
def test_regions_of_the_collection_are_matched_by_position(request, patient, name, voxels):
    raster = request.getfixturevalue(patient).raster(name)
    assert np.count_nonzero(raster.mask) == voxels
    assert (raster.twins, raster.outside, raster.clipped, raster.between, raster.skipped_slices) == (0, 0, 0, 0, 0)


def test_the_ct_of_lung1_002_is_found_among_other_files_and_points_are_no_regions(lung1_002):
    kinds = {kind: len(lung1_002.patient.of_modality(kind)) for kind in ("CT", "RTSTRUCT", "RTPLAN", "RTDOSE")}
    assert kinds == {"CT": 111, "RTSTRUCT": 1, "RTPLAN": 1, "RTDOSE": 1}
    assert lung1_002.files.stack.grid.shape == (111, 512, 512)
    assert lung1_002.files.stack.irregularities == ()
    found = lung1_002.contours("Isocenter 1")
    assert (found.closed, found.ignored) == ((), {"POINT": 1})


def test_repeated_contours_of_lung1_002_leave_no_holes(lung1_002):
    raster = lung1_002.raster("Lung L")
    assert (np.count_nonzero(raster.mask), raster.twins) == (686_333, 62)
    # No contour of this lung lies in another one, so that their union is what was meant.
    stack, union = lung1_002.files.stack, np.zeros(raster.mask.shape, dtype=bool)
    for contour in lung1_002.contours("Lung L").closed:
        points = stack.coordinates(contour)
        union[round(points[0, 0] / stack.step_mm)] |= fill([points[:, 1:]], raster.mask.shape[1:])
    np.testing.assert_array_equal(raster.mask, union)


@pytest.mark.parametrize("name", ["invalid_reference_rt.dcm", "non_existent_reference_rt.dcm"])
def test_references_to_missing_slices_do_no_harm(real_data, tmp_path, name):
    for file in ("ct_1.dcm", "ct_2.dcm", name):
        shutil.copy(real_data / "rtstruct_mock" / file, tmp_path)
    raster = Read(tmp_path).raster("ROI-1")
    assert raster.mask.any(axis=(1, 2)).all()
    assert (raster.contours, raster.outside) == (3, 1)  # the third slice is not there, and that is told
