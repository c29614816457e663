"""Phantoms as DICOM."""

import json

import numpy as np
import pydicom
import pytest

from nnunet_cascade.dicom.ct.reading import read_ct_series, stack_files
from nnunet_cascade.dicom.folder import index_folder
from nnunet_cascade.dicom.rtstruct.rasterizing import rasterize
from nnunet_cascade.dicom.rtstruct.reading import read_structure_set
from nnunet_cascade.dicom.seg.rasterizing import segment_on_stack
from nnunet_cascade.dicom.seg.reading import read_segmentation
from nnunet_cascade.errors import DatasetError, DicomError, SettingsError
from nnunet_cascade.phantom import dicom
from nnunet_cascade.phantom.dicom import write_dicom_cohort, write_phantom_dicom
from nnunet_cascade.phantom.record import phantom_name
from nnunet_cascade.phantom.settings import PhantomSettings

COARSE = PhantomSettings(spacing_mm=(9.0, 9.0, 9.0), tumors=(1, 1))


@pytest.fixture
def write(tmp_path):
    """Write a phantom and scan the folder: `write(phantom)`."""

    def build(phantom, **options):
        write_phantom_dicom(phantom, tmp_path / "collection", patient_id="phantom_7", **options)
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
    found = structure_set_of(patient)
    assert list(found.names.values()) == ["GTV-1", "Lung-Left", "Lung-Right"]
    for number, name in found.names.items():
        raster = rasterize(found.contours(number).closed, ct.stack)
        assert raster.mask.any()
        np.testing.assert_array_equal(raster.mask, truth[name])


def test_the_grid_comes_back(write, phantom_of):
    phantom = phantom_of(7)
    grid = stack_files(write(phantom).of_modality("CT")).stack.grid
    last = tuple(np.array(grid.shape) - 1)
    assert grid.shape == phantom.grid.shape
    for corner in ((0, 0, 0), last):
        np.testing.assert_allclose(grid.world_mm(corner), phantom.grid.world_mm(corner), atol=1e-9)


def test_a_segmentation_shows_the_same_regions(write, truth_of, phantom_of):
    pytest.importorskip("highdicom")
    phantom = phantom_of(7, tumors=(1, 1))
    patient, truth = write(phantom, with_seg=True), truth_of(phantom)
    stack = stack_files(patient.of_modality("CT")).stack
    file = read_segmentation(patient.of_modality("SEG")[0].path)
    assert [segment.names[0] for segment in file.segments] == ["GTV-1", "Lung-Left", "Lung-Right"]
    for segment in file.segments:
        np.testing.assert_array_equal(segment_on_stack(file, segment.number, stack).mask, truth[segment.names[0]])


def test_a_phantom_without_a_tumor_has_a_gtv_without_contours(write, phantom_of):
    found = structure_set_of(write(phantom_of(7, tumors=(0, 0))))
    assert found.names[1] == "GTV-1"
    assert found.contours(1).closed == ()


@pytest.mark.parametrize("with_seg", [False, True])
def test_the_same_phantom_has_the_same_bytes(tmp_path, phantom_of, with_seg):
    if with_seg:
        pytest.importorskip("highdicom")
    contents = []
    for name in ("once", "again"):
        write_phantom_dicom(phantom_of(7), tmp_path / name, patient_id="p", with_seg=with_seg)
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        contents.append({str(path.relative_to(tmp_path / name)): path.read_bytes() for path in files})
    assert contents[0] == contents[1]


def test_other_phantoms_have_other_uids(tmp_path, phantom_of):
    phantoms = (phantom_of(7), phantom_of(8), phantom_of(7, noise_hu=5.0), phantom_of(7, orientation="RAS"))
    for number, phantom in enumerate(phantoms):
        write_phantom_dicom(phantom, tmp_path / str(number), patient_id="p")
    (patient,) = index_folder(tmp_path).patients
    assert len({header.study_uid for header in patient.headers}) == 4
    assert len(patient.headers) == sum(phantom.grid.shape[0] + 1 for phantom in phantoms)


def test_the_files_name_a_phantom_and_nobody_else(write, phantom_of):
    headers = write(phantom_of(7)).headers
    assert {header.patient_id for header in headers} == {"phantom_7"}
    assert {header.series_description for header in headers} == {"Phantom CT", "Phantom contours"}
    for header in (headers[0], *(h for h in headers if h.modality == "RTSTRUCT")):
        dataset = pydicom.dcmread(header.path)
        assert (dataset.PatientName, dataset.StudyDescription) == ("PHANTOM", "Phantom")
        assert (dataset.PatientBirthDate, dataset.PatientSex, dataset.AccessionNumber) == ("", "", "")


def test_the_folders_are_those_of_a_public_collection(write, phantom_of, tmp_path):
    patient = write(phantom_of(7))
    folders = {header.path.parent.relative_to(tmp_path / "collection").parts for header in patient.headers}
    assert {len(parts) for parts in folders} == {3}
    assert {parts[0] for parts in folders} == {"phantom_7"}
    assert {parts[2].split(".")[0] for parts in folders} == {"1", "3"}


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


@pytest.fixture
def cohort(tmp_path):
    folder = tmp_path / "collection"
    write_dicom_cohort(folder, train_seeds=(7, 8), test_seeds=(9,), settings=COARSE)
    return folder


@pytest.fixture
def drawn_seeds(monkeypatch):
    """The seeds that are drawn from here on."""
    seeds = []
    draw = dicom.make_phantom

    def watched(seed, settings):
        seeds.append(seed)
        return draw(seed, settings)

    monkeypatch.setattr(dicom, "make_phantom", watched)
    return seeds


def test_a_cohort_is_a_folder_of_patients_and_a_record(cohort):
    assert [patient.patient_id for patient in index_folder(cohort).patients] == [f"phantom_000{n}" for n in (7, 8, 9)]
    assert {path.name for path in cohort.iterdir()} == {*(f"phantom_000{n}" for n in (7, 8, 9)), "phantoms.json"}
    record = json.loads((cohort / "phantoms.json").read_text())
    assert record["cases"]["phantom_0009"] == {"seed": 9, "split": "Ts"}
    assert record["cases"][phantom_name(7)] == {"seed": 7, "split": "Tr"}
    assert record["made_with"]["settings"]["spacing_mm"] == [9.0, 9.0, 9.0]
    assert "No patients" in record["description"]


def test_what_is_there_is_not_drawn_again(cohort, drawn_seeds):
    (cohort / "phantom_0008").rename(cohort / ".phantom_0008.unfinished")
    write_dicom_cohort(cohort, train_seeds=(7, 8, 10), test_seeds=(9,), settings=COARSE)
    assert drawn_seeds == [8, 10]
    assert not (cohort / ".phantom_0008.unfinished").exists()
    assert len(index_folder(cohort).patients) == 4


def test_other_settings_draw_all_again(cohort, drawn_seeds):
    before = {header.study_uid for patient in index_folder(cohort).patients for header in patient.headers}
    louder = PhantomSettings(spacing_mm=(9.0, 9.0, 9.0), tumors=(1, 1), noise_hu=40.0)
    write_dicom_cohort(cohort, train_seeds=(7, 8), test_seeds=(9,), settings=louder)
    after = {header.study_uid for patient in index_folder(cohort).patients for header in patient.headers}
    assert drawn_seeds == [7, 8, 9]
    assert len(after) == 3
    assert not after & before


def test_patients_nobody_asked_for_are_refused_and_stay(cohort, drawn_seeds):
    with pytest.raises(DatasetError, match="1 patients that were not asked for, such as phantom_0008"):
        write_dicom_cohort(cohort, train_seeds=(7, 10), test_seeds=(9,), settings=COARSE)
    (cohort / "LUNG-1").mkdir()
    with pytest.raises(DatasetError, match="such as LUNG-1"):
        write_dicom_cohort(cohort, train_seeds=(7, 8), test_seeds=(9,), settings=PhantomSettings())
    (cohort / "phantoms.json").unlink()
    with pytest.raises(DatasetError, match="4 patients"):
        write_dicom_cohort(cohort, train_seeds=(7, 8), test_seeds=(9,), settings=COARSE)
    assert drawn_seeds == []
    assert len(index_folder(cohort).patients) == 3


@pytest.mark.parametrize("text", ["{}", "[]", "no json", '{"cases": {"a": {"seed": "../.."}}, "made_with": {}}'])
def test_a_broken_record_is_refused(tmp_path, text):
    (tmp_path / "phantoms.json").write_text(text)
    with pytest.raises(DatasetError, match=r"phantoms\.json"):
        write_dicom_cohort(tmp_path, train_seeds=(7, 8), test_seeds=(9,), settings=COARSE)


def test_a_seed_belongs_to_training_or_to_testing(tmp_path):
    with pytest.raises(SettingsError, match="twice"):
        write_dicom_cohort(tmp_path, train_seeds=(1, 2), test_seeds=(2,), settings=COARSE)
    assert not any(tmp_path.iterdir())
