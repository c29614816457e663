"""Structure sets, sound and broken."""

import logging

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.dataelem import DataElement
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from nnunet_cascade.dicom.rtstruct.reading import read_structure_set
from nnunet_cascade.dicom.rtstruct.writing import RoiToWrite, write_structure_set
from nnunet_cascade.errors import DicomError

CONTOUR_DATA = 0x30060050


@pytest.fixture
def masks(rng, axial_grid):
    return {"GTV-1": rng.random(axial_grid.shape) > 0.6, "Lung": rng.random(axial_grid.shape) > 0.4}


@pytest.fixture
def path(write_slices, axial_grid, masks, tmp_path, series_of):
    """An RTSTRUCT of two regions."""
    rois = [RoiToWrite(name=name, mask=mask) for name, mask in masks.items()]
    path = tmp_path / "Jane Doe.dcm"
    write_structure_set(rois, axial_grid, write_slices(axial_grid), path, series=series_of("contours"))
    return path


@pytest.fixture
def edited(path):
    """Change the file and read it: `edited(function)`."""

    def build(change):
        dataset = pydicom.dcmread(path)
        change(dataset)
        dataset.save_as(path)
        return read_structure_set(path)

    return build


def first_contour(dataset):
    return dataset.ROIContourSequence[0].ContourSequence[0]


def with_coordinates(text):
    """Put a text in the place of the first contour's coordinates, as it stands."""

    def change(dataset):
        item = first_contour(dataset)
        del item[CONTOUR_DATA]
        item.add(DataElement(CONTOUR_DATA, "DS", text, already_converted=True))

    return change


def encoded(syntax, undefined_length):
    """Encode the file and its sequences in another way."""

    def change(dataset):
        dataset.file_meta.TransferSyntaxUID = syntax
        for element in dataset.iterall():
            if element.VR == "SQ":
                element.is_undefined_length = undefined_length
                for item in element.value:
                    item.is_undefined_length_sequence_item = undefined_length

    return change


def test_names_and_references_are_those_of_the_file(path, series_of):
    found = read_structure_set(path)
    assert dict(found.names) == {1: "GTV-1", 2: "Lung"}
    assert found.frame_of_reference_uids == {series_of("ct").identity.frame_of_reference_uid}
    assert found.referenced_series_uids == {series_of("ct").uid}
    assert found.sop_uid == pydicom.dcmread(path).SOPInstanceUID


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian], ids=lambda uid: uid.name
)
@pytest.mark.parametrize("undefined_length", [False, True])
def test_all_encodings_give_the_same_contours(path, edited, syntax, undefined_length):
    before = [read_structure_set(path).contours(number).closed for number in (1, 2)]
    found = edited(encoded(syntax, undefined_length))
    for number, contours in zip((1, 2), before, strict=True):
        again = found.contours(number).closed
        assert len(again) == len(contours) > 10
        assert all(np.array_equal(one, other) for one, other in zip(again, contours, strict=True))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian], ids=lambda uid: uid.name)
@pytest.mark.parametrize("undefined_length", [False, True])
def test_a_truncated_file_is_refused_wherever_it_ends(path, edited, syntax, undefined_length, caplog):
    caplog.set_level(logging.CRITICAL, "pydicom")
    edited(encoded(syntax, undefined_length))
    content = path.read_bytes()
    begin = content.index(b"\x06\x30\x39\x00")  # of the contours; after them stands what nobody needs
    end = content.index(b"\x06\x30\x80\x00", begin + 4)
    for size in np.linspace(begin, end - 1, 60, dtype=int).tolist():
        path.write_bytes(content[:size])
        with pytest.raises(DicomError) as caught:
            read_structure_set(path)
        assert "copy it again" in str(caught.value)
        assert "Jane" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "ignored"),
    [
        ("CLOSED_PLANAR", {}),
        ("CLOSEDPLANAR_XOR", {}),
        ("", {}),
        (None, {}),
        ("POINT", {"POINT": 1}),
        ("OPEN_PLANAR", {"OPEN_PLANAR": 1}),
        ("OPEN_NONPLANAR", {"OPEN_NONPLANAR": 1}),
    ],
)
def test_closed_contours_alone_are_drawn_and_others_told(path, edited, kind, ignored):
    count = len(read_structure_set(path).contours(1).closed)
    found = edited(lambda dataset: setattr(first_contour(dataset), "ContourGeometricType", kind)).contours(1)
    assert found.ignored == ignored
    assert len(found.closed) == count - sum(ignored.values())


@pytest.mark.parametrize("text", ["", "1\\2\\3", "1\\2\\3\\4\\5\\6", None, "no element"])
def test_fewer_than_three_vertices_are_no_contour(path, edited, text):
    count = len(read_structure_set(path).contours(1).closed)
    without = lambda dataset: first_contour(dataset).__delitem__("ContourData")  # noqa: E731
    found = edited(without if text == "no element" else with_coordinates(text)).contours(1)
    assert found.ignored == {"degenerate": 1}
    assert len(found.closed) == count - 1


def test_numbers_may_have_blanks_signs_and_exponents(edited):
    text = " 1e0 \\2 \\ 3\\4.0\\5\\6\\ 7\\+8.000000000000000000000\\9. "
    np.testing.assert_array_equal(edited(with_coordinates(text)).contours(1).closed[0], np.arange(1, 10).reshape(3, 3))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1\\2\\3\\4\\5\\6\\7\\8", "a contour of 8 numbers"),
        ("1\\2\\3\\4\\5\\6\\7\\8\\nan", "NaN or infinite"),
        ("1\\2\\3\\4\\5\\6\\7\\8\\1e999", "NaN or infinite"),
        ("1,0\\2\\3\\4\\5\\6\\7\\8\\9", "no numbers"),
        ("1\\\\3\\4\\5\\6\\7\\8\\9", "no numbers"),
        ("left\\2\\3\\4\\5\\6\\7\\8\\9", "no numbers"),
    ],
)
def test_coordinates_that_are_none_are_refused_by_name(edited, text, found):
    structures = edited(with_coordinates(text))
    with pytest.raises(DicomError, match=f"ROI 'GTV-1' has .*{found}"):
        structures.contours(1)
    assert structures.contours(2).closed


@pytest.mark.parametrize(
    "change",
    [lambda d: d.ROIContourSequence.pop(0), lambda d: delattr(d.ROIContourSequence[0], "ContourSequence")],
    ids=["no item", "no contours"],
)
def test_a_region_may_be_without_contours_or_an_item_of_them(edited, change):
    found = edited(change)
    assert found.contours(1).closed == ()
    assert found.contours(2).closed


def test_contours_of_a_region_in_several_items_are_all_read(path, edited):
    count = len(read_structure_set(path).contours(1).closed)

    def change(dataset):
        extra = Dataset()
        extra.ReferencedROINumber = 1
        extra.ContourSequence = [first_contour(dataset)]
        dataset.ROIContourSequence.append(extra)

    assert len(edited(change).contours(1).closed) == count + 1


def test_a_name_may_stand_twice_be_empty_or_missing(edited):
    def change(dataset):
        dataset.StructureSetROISequence[0].ROIName = " Lung "
        del dataset.StructureSetROISequence[1].ROIName

    assert dict(edited(change).names) == {1: "Lung", 2: ""}


def test_an_empty_set_names_nothing(edited):
    def change(dataset):
        del dataset.ROIContourSequence, dataset.StructureSetROISequence, dataset.ReferencedFrameOfReferenceSequence

    found = edited(change)
    assert (dict(found.names), found.frame_of_reference_uids | found.referenced_series_uids) == ({}, frozenset())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: delattr(d.StructureSetROISequence[0], "ROINumber"), "the RTSTRUCT cannot be read .*ROINumber"),
        (lambda d: delattr(d.ROIContourSequence[0], "ReferencedROINumber"), "cannot be read .*ReferencedROINumber"),
        (lambda d: setattr(d.StructureSetROISequence[1], "ROINumber", 1), "2 ROIs with 1 numbers"),
        (lambda d: delattr(d, "ROIContourSequence"), "no ROI Contour Sequence"),
    ],
    ids=["a region without its number", "contours without their number", "a number twice", "no contours of regions"],
)
def test_regions_and_contours_without_order_are_refused(edited, change, message):
    with pytest.raises(DicomError, match=message):
        edited(change)


def test_what_is_no_dicom_is_refused_without_its_name(path):
    path.write_bytes(b"text")
    with pytest.raises(DicomError, match="the RTSTRUCT is no DICOM file") as caught:
        read_structure_set(path)
    assert "Jane" not in str(caught.value)
