"""Small CT series on disk, and segmentations of them."""

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from nnunet_cascade.dicom.ct.reading import stack_files
from nnunet_cascade.dicom.headers import read_header
from nnunet_cascade.dicom.seg.writing import SegmentToWrite, write_segmentation

STUDY, SERIES, FRAME = "1.2.3.1", "1.2.3.2", "1.2.3.3"


def _slice(grid, plane, shift_mm):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.Modality = CTImageStorage, "CT"
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[str(grid), str(plane), str(shift_mm)])
    dataset.PatientID, dataset.PatientName, dataset.PatientBirthDate, dataset.PatientSex = "1", "A^B", "", ""
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = STUDY, SERIES, FRAME
    dataset.StudyID = dataset.StudyDate = dataset.StudyTime = dataset.AccessionNumber = ""
    position = np.array(grid.world_mm((plane, 0, 0))) + shift_mm
    dataset.ImagePositionPatient = [f"{value:.9g}" for value in position]
    dataset.ImageOrientationPatient = [f"{value:.9g}" for value in (*grid.axes[2], *grid.axes[1])]
    dataset.PixelSpacing = [f"{value:.9g}" for value in grid.spacing_mm[1:]]
    dataset.SliceThickness = f"{grid.spacing_mm[0]:.9g}"
    dataset.Rows, dataset.Columns = grid.shape[1:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelData = bytes(2 * grid.shape[1] * grid.shape[2])
    return dataset


@pytest.fixture
def ct_paths(tmp_path):
    """Write the slices of a grid: `ct_paths(grid, planes=[0, 1, 3])`, in the order of the planes."""

    def write(grid, *, planes=None, shift_mm=lambda plane: np.zeros(3)):  # noqa: ARG005
        folder = tmp_path / f"ct{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        paths = []
        for plane in range(grid.shape[0]) if planes is None else planes:
            paths.append(folder / f"{plane}.dcm")
            _slice(grid, plane, shift_mm(plane)).save_as(paths[-1], enforce_file_format=True)
        return paths

    return write


@pytest.fixture
def stack_of():
    """Stack slices on disk as the conversion does: `stack_of(paths)`."""

    def build(paths):
        return stack_files([read_header(path) for path in paths]).stack

    return build


@pytest.fixture
def seg_of(tmp_path):
    """Write masks as a SEG of slices on disk: `seg_of(paths, mask, other)`, segments 1 and 2; gives its path."""

    def write(paths, *masks):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.seg.dcm"
        segments = [SegmentToWrite(name=f"GTV-{place}", mask=mask) for place, mask in enumerate(masks, start=1)]
        write_segmentation(segments, paths, path)
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
