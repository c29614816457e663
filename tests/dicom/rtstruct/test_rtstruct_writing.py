"""RTSTRUCT, written."""

import dataclasses

import numpy as np
import pydicom
import pytest
from scipy import ndimage

from nnunet_cascade.dicom.ct.reading import stack_files
from nnunet_cascade.dicom.rtstruct.rasterizing import rasterize
from nnunet_cascade.dicom.rtstruct.reading import read_structure_set
from nnunet_cascade.dicom.rtstruct.writing import RoiToWrite, write_structure_set
from nnunet_cascade.dicom.writing import uid_from
from nnunet_cascade.errors import DicomError, GridMismatchError

SQUARE = np.array([(2.0, 2.0), (2.0, 7.0), (8.0, 7.0), (8.0, 2.0)])


@pytest.fixture
def write(tmp_path, series_of):
    """Write regions and read them again: `write(rois, grid, headers)`."""

    def build(rois, grid, headers):
        path = tmp_path / "rs" / "1-1.dcm"
        write_structure_set(rois, grid, headers, path, series=series_of("contours"))
        return path, read_structure_set(path)

    return build


def square_mm(grid, plane, polygon=SQUARE):
    """A square on a plane of a grid, as world positions."""
    return np.array([grid.world_mm((plane, row, column)) for row, column in polygon])


@pytest.fixture
def shapes(rng, axial_grid):
    """Masks with islands, holes, pixels that touch at corners, at borders and nowhere."""
    shape = axial_grid.shape
    shell = np.zeros(shape, dtype=bool)
    shell[1:4, 2:9, 1:9] = True
    shell[2, 4:7, 3:7] = False
    shell[2, 5, 4] = True
    return {
        "noise": rng.random(shape) > 0.5,
        "shell": shell,
        "blobs": ndimage.gaussian_filter(rng.standard_normal(shape), (0, 1.5, 1.5)) > 0,
        "full": np.ones(shape, dtype=bool),
        "empty": np.zeros(shape, dtype=bool),
    }


def test_masks_come_back_bit_for_bit(write, write_slices, as_read, placed_grid, shapes):
    headers = write_slices(placed_grid)
    rois = [RoiToWrite(name=name, mask=mask) for name, mask in shapes.items()]
    _, found = write(rois, placed_grid, headers)
    stack = stack_files(headers).stack
    for number, name in found.names.items():
        raster = rasterize(found.contours(number).closed, stack)
        np.testing.assert_array_equal(raster.mask, as_read(shapes[name], placed_grid))
        assert (raster.twins, raster.slivers, raster.outside) == (0, 0, 0)


def test_a_contour_refers_to_the_slice_on_its_plane(write, write_slices, as_read, placed_grid):
    headers = write_slices(placed_grid)
    contours = tuple(square_mm(placed_grid, plane) for plane in (0, 4, 2))
    path, _ = write([RoiToWrite(name="squares", contours_mm=contours)], placed_grid, as_read(headers, placed_grid))
    items = pydicom.dcmread(path).ROIContourSequence[0].ContourSequence
    found = [item.ContourImageSequence[0].ReferencedSOPInstanceUID for item in items]
    assert found == [headers[plane].sop_uid for plane in (0, 4, 2)]


def test_a_contour_on_a_plane_without_a_slice_refers_to_none(write, write_slices, axial_grid, shapes):
    headers = write_slices(axial_grid)
    path, _ = write([RoiToWrite(name="full", mask=shapes["full"])], axial_grid, [*headers[:2], *headers[3:]])
    items = pydicom.dcmread(path).ROIContourSequence[0].ContourSequence
    assert ["ContourImageSequence" in item for item in items] == [True, True, False, True, True]


def test_the_file_refers_to_study_series_and_slices(write, write_slices, series_of, axial_grid):
    headers = write_slices(axial_grid)
    path, found = write([RoiToWrite(name="nothing")], axial_grid, headers)
    assert found.frame_of_reference_uids == {series_of("ct").identity.frame_of_reference_uid}
    assert found.referenced_series_uids == {headers[0].series_uid}
    study = pydicom.dcmread(path).ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    assert study.ReferencedSOPInstanceUID == headers[0].study_uid
    images = study.RTReferencedSeriesSequence[0].ContourImageSequence
    assert [image.ReferencedSOPInstanceUID for image in images] == [header.sop_uid for header in headers]


def test_an_roi_says_what_it_is_and_who_drew_it(write, write_slices, axial_grid, shapes):
    rois = [
        RoiToWrite(name="Lunge – links", mask=shapes["shell"]),
        RoiToWrite(name="GTV-1", mask=shapes["full"], color=(1, 2, 3), interpreted_type="GTV", algorithm="AUTOMATIC"),
    ]
    path, found = write(rois, axial_grid, write_slices(axial_grid))
    assert dict(found.names) == {1: "Lunge – links", 2: "GTV-1"}
    dataset = pydicom.dcmread(path)
    assert [roi.ROIGenerationAlgorithm for roi in dataset.StructureSetROISequence] == ["MANUAL", "AUTOMATIC"]
    assert [item.RTROIInterpretedType for item in dataset.RTROIObservationsSequence] == ["", "GTV"]
    assert list(dataset.ROIContourSequence[1].ROIDisplayColor) == [1, 2, 3]
    assert dataset.StructureSetLabel == "contours"
    assert (dataset.Modality, dataset.ApprovalStatus) == ("RTSTRUCT", "UNAPPROVED")


def test_a_region_without_a_voxel_is_a_name_without_contours_and_the_same_regions_have_the_same_bytes(
    write, write_slices, axial_grid, shapes
):
    rois = [RoiToWrite(name="empty", mask=shapes["empty"]), RoiToWrite(name="nothing")]
    path, found = write(rois, axial_grid, write_slices(axial_grid))
    assert found.contours(1).closed == found.contours(2).closed == ()
    assert not any("ContourSequence" in item for item in pydicom.dcmread(path).ROIContourSequence)
    first = path.read_bytes()
    assert write(rois, axial_grid, write_slices(axial_grid))[0].read_bytes() == first


def test_a_contour_may_have_thousands_of_vertices_of_at_most_sixteen_characters(write, write_slices, placed_grid):
    angles = np.linspace(0, 2 * np.pi, 5000, endpoint=False)
    circle = square_mm(placed_grid, 2, 5 + 3 * np.column_stack([np.sin(angles), np.cos(angles)]))
    rois = [RoiToWrite(name="circle", contours_mm=(circle,))]
    path, found = write(rois, placed_grid, write_slices(placed_grid))
    np.testing.assert_allclose(found.contours(1).closed[0], circle, atol=1e-10)
    (item,) = pydicom.dcmread(path).ROIContourSequence[0].ContourSequence
    assert max(map(len, item.get_item(0x30060050).value.rstrip(b" ").split(b"\\"))) <= 16


def test_a_mask_of_another_shape_is_refused(write, write_slices, axial_grid, shapes):
    with pytest.raises(GridMismatchError, match="mask of 'full'"):
        write([RoiToWrite(name="full", mask=shapes["full"][1:])], axial_grid, write_slices(axial_grid))


def changed(place, **change):
    return lambda headers: [dataclasses.replace(h, **change) if n == place else h for n, h in enumerate(headers)]


TILTED = ((0.0, 0.6, 0.8), (0.0, 0.8, -0.6), (1.0, 0.0, 0.0))
NOTHING = (RoiToWrite(name="nothing"),)
REFUSED = {
    "slices of two series": (NOTHING, {}, changed(1, series_uid=uid_from("other")), "2 series"),
    "no slices": (NOTHING, {}, lambda _: [], "0 series"),
    "no regions": ((), {}, list, "no region"),
    "a grid that lies elsewhere": (NOTHING, {"origin_mm": (0.0, 0.0, 1000.0)}, list, "none of 5 slices"),
    "a grid that is tilted": (NOTHING, {"axes": TILTED}, list, "not parallel"),
    "a slice without a place": (NOTHING, {}, changed(3, plane=None), r"1-004\.dcm does not say where it lies"),
}


@pytest.mark.parametrize(("rois", "grid", "headers", "message"), REFUSED.values(), ids=REFUSED)
def test_what_fits_no_slices_is_refused(write, write_slices, axial_grid, rois, grid, headers, message):
    with pytest.raises(DicomError, match=message):
        write(list(rois), dataclasses.replace(axial_grid, **grid), headers(write_slices(axial_grid)))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"name": " "}, "without a name"),
        ({"name": "a\\b"}, "backslash"),
        ({"name": "x" * 65}, "at most 64"),
        ({"color": (0, 0, 256)}, "color"),
        ({"contours_mm": (np.zeros((2, 3)),)}, "three vertices"),
        ({"contours_mm": (np.zeros((4, 2)),)}, "three vertices"),
    ],
)
def test_a_region_is_valid_from_birth(changes, word):
    with pytest.raises(DicomError, match=word):
        RoiToWrite(**{"name": "GTV-1", **changes})
