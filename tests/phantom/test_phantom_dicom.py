"""Phantoms as DICOM."""

import numpy as np
import pydicom
import pytest

from nnunet_cascade.dicom.ct.reading import read_ct_series, stack_files
from nnunet_cascade.dicom.folder import index_folder
from nnunet_cascade.dicom.rtstruct.rasterizing import rasterize
from nnunet_cascade.dicom.rtstruct.reading import read_structure_set
from nnunet_cascade.errors import DicomError
from nnunet_cascade.phantom import dicom
from nnunet_cascade.phantom.dicom import write_phantom_dicom


@pytest.fixture
def write(tmp_path):
    """Write a phantom and scan the folder: `write(phantom)`."""

    def build(phantom):
        write_phantom_dicom(phantom, tmp_path / "collection", patient_id="phantom_7")
        (patient,) = index_folder(tmp_path / "collection").patients
        return patient

    return build


@pytest.fixture
def truth_of():
    """Give the regions of a phantom by name, and turned where its slices are read in the opposite order."""

    def build(phantom):
        turned = phantom.grid.axes[0] @ np.cross(phantom.grid.axes[2], phantom.grid.axes[1]) < 0
        regions = {"GTV-1": phantom.tumors > 0, "Lung-Left": phantom.lungs == 2, "Lung-Right": phantom.lungs == 1}
        arrays = {"CT": phantom.ct, **regions}
        return {name: array[::-1] if turned else array for name, array in arrays.items()}

    return build


def structure_set_of(patient):
    return read_structure_set(patient.of_modality("RTSTRUCT")[0].path)


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "LPI", "PIR"])
def test_a_phantom_comes_back_voxel_for_voxel(write, truth_of, phantom_of, orientation):
    phantom = phantom_of(7, orientation=orientation, tumors=(2, 2))
    patient, truth = write(phantom), truth_of(phantom)
    ct = read_ct_series(stack_files(patient.of_modality("CT")))
    np.testing.assert_array_equal(ct.voxels, truth["CT"])
    if orientation == "LPS":
        assert phantom.grid.difference(ct.stack.grid) is None
    found = structure_set_of(patient)
    assert list(found.names.values()) == ["GTV-1", "Lung-Left", "Lung-Right"]
    for number, name in found.names.items():
        raster = rasterize(found.contours(number).closed, ct.stack)
        assert raster.mask.any()
        np.testing.assert_array_equal(raster.mask, truth[name])


def test_a_phantom_without_a_tumor_has_a_gtv_without_contours(write, phantom_of):
    found = structure_set_of(write(phantom_of(7, tumors=(0, 0))))
    assert found.names[1] == "GTV-1"
    assert found.contours(1).closed == ()


def test_the_same_phantom_has_the_same_bytes(tmp_path, phantom_of):
    contents = []
    for name in ("once", "again"):
        write_phantom_dicom(phantom_of(7), tmp_path / name, patient_id="p")
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        contents.append({str(path.relative_to(tmp_path / name)): path.read_bytes() for path in files})
    assert contents[0] == contents[1]


def test_other_phantoms_have_other_uids(tmp_path, phantom_of):
    changes = ({}, {"tumors": (1, 1)}, {"noise_hu": 5.0}, {"orientation": "RAS"})
    phantoms = [phantom_of(7, spacing_mm=(12.0, 12.0, 12.0), **changed) for changed in changes]
    for number, phantom in enumerate(phantoms):
        write_phantom_dicom(phantom, tmp_path / str(number), patient_id="p")
    (patient,) = index_folder(tmp_path).patients
    assert len({header.study_uid for header in patient.headers}) == 4
    assert len(patient.headers) == sum(phantom.grid.shape[0] + 1 for phantom in phantoms)


def test_files_and_folders_name_a_phantom_and_nobody_else(write, phantom_of, tmp_path):
    headers = write(phantom_of(7)).headers
    folders = {header.path.parent.relative_to(tmp_path / "collection").parts for header in headers}
    assert {(len(parts), parts[0], parts[2].split(".")[0]) for parts in folders} == {
        (3, "phantom_7", "1"), (3, "phantom_7", "3")
    }  # fmt: skip
    assert {header.patient_id for header in headers} == {"phantom_7"}
    assert {header.series_description for header in headers} == {"Phantom CT", "Phantom contours"}
    for header in (headers[0], *(h for h in headers if h.modality == "RTSTRUCT")):
        dataset = pydicom.dcmread(header.path)
        assert (dataset.PatientName, dataset.StudyDescription) == ("PHANTOM", "Phantom")
        assert (dataset.PatientBirthDate, dataset.PatientSex, dataset.AccessionNumber) == ("", "", "")


def test_a_patient_that_is_there_is_not_replaced(write, phantom_of):
    write(phantom_of(7))
    with pytest.raises(DicomError, match="exists already"):
        write(phantom_of(8))


@pytest.mark.parametrize("patient_id", ["", "..", "../elsewhere", "a/b", ".hidden", "x" * 65])
def test_a_patient_id_that_is_no_folder_name_is_refused(tmp_path, phantom_of, patient_id):
    with pytest.raises(DicomError, match="patient_id"):
        write_phantom_dicom(phantom_of(7), tmp_path / "collection", patient_id=patient_id)
    assert not any(tmp_path.iterdir())


def test_a_failure_leaves_no_patient(tmp_path, phantom_of, monkeypatch):
    def fail(*_, **__):
        raise DicomError("no space left")

    monkeypatch.setattr(dicom, "write_structure_set", fail)
    with pytest.raises(DicomError, match="no space left"):
        write_phantom_dicom(phantom_of(7), tmp_path, patient_id="phantom_7")
    assert not any(tmp_path.iterdir())
