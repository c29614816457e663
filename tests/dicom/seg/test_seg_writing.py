"""Masks written as DICOM SEG."""

from datetime import datetime

import highdicom.seg
import numpy as np
import pytest
from builders.oriented_grids import grid_towards
from pydicom import dcmread
from pydicom.sr.coding import Code

from nnunet_cascade.dicom.derived import Algorithm, ObjectIdentity
from nnunet_cascade.dicom.headers import lenient
from nnunet_cascade.dicom.seg.rasterizing import segment_on_stack
from nnunet_cascade.dicom.seg.reading import read_segmentation
from nnunet_cascade.dicom.seg.writing import (
    FractionToWrite,
    LabeledSegments,
    SegmentDetails,
    SegmentToWrite,
    Tracking,
    write_probability,
    write_segmentation,
)
from nnunet_cascade.errors import DicomError
from nnunet_cascade.geometry import Grid

SPACING = (3.0, 0.9765625, 0.8)
IDENTITY = ObjectIdentity(series_uid="1.2.4.1", sop_uid="1.2.4.2", written_at=datetime(2020, 2, 3, 4, 5, 6))  # noqa: DTZ001


def oblique(shape):
    turn = np.linalg.qr(np.array([[0.9, 0.2, 0.1], [-0.3, 1.0, 0.2], [0.1, -0.2, 0.8]]))[0]
    turn *= np.linalg.det(turn)
    x, y, z = (tuple(float(value) for value in axis) for axis in turn)
    return Grid(shape=shape, spacing_mm=SPACING, origin_mm=(-101.3, 57.25, 800.4), axes=(z, y, x))


GRIDS = {
    "axial": grid_towards("LPS", (9, 5, 7), SPACING),
    "prone": grid_towards("RAS", (9, 5, 7), SPACING),
    "feet-first": grid_towards("RPI", (9, 5, 7), SPACING),
    "feet-first prone": grid_towards("LAI", (9, 5, 7), SPACING),
    "oblique": oblique((9, 5, 7)),
}
AXIAL = GRIDS["axial"]


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_a_mask_reads_back_bit_for_bit(grid, ct_paths, stack_of, seg_of, blob):
    paths, mask = ct_paths(grid), blob(grid.shape)
    stack = stack_of(paths)
    found = segment_on_stack(read_segmentation(seg_of(paths, mask)), 1, stack)
    assert grid.difference(stack.grid) is None
    assert np.array_equal(found.mask, mask)
    assert (found.outside_voxels, found.skipped_slices) == (0, 0)


def test_another_program_reads_the_same_voxels(ct_paths, seg_of, blob):
    mask = blob(AXIAL.shape)
    file = highdicom.seg.segread(seg_of(ct_paths(AXIAL), mask))
    volume = file.get_volume(segment_numbers=[1]).to_patient_orientation("HPL")
    assert np.array_equal(volume.array[..., 0], mask[1:-1])


@pytest.mark.parametrize("overlapping", [True, False])
def test_every_segment_reads_back_whether_or_not_they_overlap(overlapping, ct_paths, stack_of, seg_of, blob):
    paths = ct_paths(AXIAL)
    masks = [blob(AXIAL.shape) for _ in range(3)]
    if not overlapping:
        masks[1] &= ~masks[0]
        masks[2] &= ~(masks[0] | masks[1])
    path = seg_of(paths, *masks)
    file, stack = read_segmentation(path), stack_of(paths)
    for number, mask in enumerate(masks, start=1):
        assert np.array_equal(segment_on_stack(file, number, stack).mask, mask)
    assert dcmread(path).SegmentsOverlap == ("YES" if overlapping else "NO")


def test_only_frames_with_a_set_pixel_are_written(ct_paths, seg_of):
    mask = np.zeros(AXIAL.shape, dtype=bool)
    mask[[2, 5], 1, 1] = True
    assert dcmread(seg_of(ct_paths(AXIAL), mask)).NumberOfFrames == 2


def test_an_empty_segment_beside_others_is_listed_and_reads_back_empty(ct_paths, stack_of, seg_of, blob):
    paths, mask = ct_paths(AXIAL), blob(AXIAL.shape)
    file = read_segmentation(seg_of(paths, mask, np.zeros_like(mask)))
    assert [segment.number for segment in file.segments] == [1, 2]
    assert not segment_on_stack(file, 2, stack_of(paths)).mask.any()
    assert np.array_equal(segment_on_stack(file, 1, stack_of(paths)).mask, mask)


def test_a_file_of_nothing_but_empty_segments_keeps_its_frames_for_an_image_needs_some(ct_paths, stack_of, seg_of):
    paths = ct_paths(AXIAL)
    path = seg_of(paths, np.zeros(AXIAL.shape, dtype=bool))
    found = segment_on_stack(read_segmentation(path), 1, stack_of(paths))
    assert dcmread(path).NumberOfFrames == AXIAL.shape[0]
    assert not found.mask.any()
    assert found.skipped_slices == 0


def test_a_name_is_label_and_description_in_any_script(tmp_path, ct_paths, blob):
    segments = [SegmentToWrite(name="Tumör 肺", mask=blob(AXIAL.shape))]
    write_segmentation(segments, ct_paths(AXIAL), tmp_path / "a.dcm")
    item = dcmread(tmp_path / "a.dcm").SegmentSequence[0]
    assert (item.SegmentLabel, item.SegmentDescription) == ("Tumör 肺", "Tumör 肺")
    assert (item.SegmentAlgorithmType, "SegmentAlgorithmName" in item) == ("MANUAL", False)
    assert item.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
    assert item.SegmentedPropertyTypeCodeSequence[0].CodeValue == "86049000"


def test_codes_and_the_algorithm_can_be_chosen(tmp_path, ct_paths, blob):
    segment = SegmentToWrite(
        name="Left lung",
        mask=blob(AXIAL.shape),
        category=Code("123037004", "SCT", "Anatomical Structure"),
        property_type=Code("39607008", "SCT", "Lung"),
        algorithm=Algorithm(name="cascade", version="0.1"),
    )
    write_segmentation([segment], ct_paths(AXIAL), tmp_path / "a.dcm")
    item = dcmread(tmp_path / "a.dcm").SegmentSequence[0]
    made_by = item.SegmentationAlgorithmIdentificationSequence[0]
    assert item.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Lung"
    assert item.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "123037004"
    assert (item.SegmentAlgorithmType, made_by.AlgorithmName) == ("AUTOMATIC", "cascade")
    assert made_by.AlgorithmVersion == "0.1"
    assert made_by.AlgorithmFamilyCodeSequence[0].CodeValue == "123110"


def test_the_same_identity_gives_the_same_bytes_and_none_gives_fresh_uids(tmp_path, ct_paths, blob):
    paths, segments = ct_paths(AXIAL), [SegmentToWrite(name="GTV-1", mask=blob(AXIAL.shape))]
    for name, identity in (("a", IDENTITY), ("b", IDENTITY), ("c", None), ("d", None)):
        write_segmentation(segments, paths, tmp_path / name, identity=identity)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    fresh = [dcmread(tmp_path / name) for name in "cd"]
    assert len({file.SOPInstanceUID for file in fresh} | {file.SeriesInstanceUID for file in fresh}) == 4


def test_patient_study_and_references_are_those_of_the_slices(tmp_path, ct_paths, blob):
    paths = ct_paths(AXIAL)
    for path in paths:
        dataset = dcmread(path)
        dataset.SpecificCharacterSet, dataset.PatientName, dataset.PatientSex = "ISO_IR 100", "Müller^Ä", "F"
        dataset.save_as(path)
    segments = [SegmentToWrite(name="GTV-1", mask=blob(AXIAL.shape))]
    write_segmentation(segments, paths, tmp_path / "a.dcm", description="Cascade", identity=IDENTITY)
    file, source = dcmread(tmp_path / "a.dcm"), dcmread(paths[0])
    for keyword in ("PatientID", "PatientSex", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert file[keyword].value == source[keyword].value
    assert (str(file.PatientName), file.SeriesDescription, file.Modality) == ("Müller^Ä", "Cascade", "SEG")
    assert (file.SeriesInstanceUID, file.SOPInstanceUID) == ("1.2.4.1", "1.2.4.2")
    assert read_segmentation(tmp_path / "a.dcm").referenced_series_uids == {source.SeriesInstanceUID}


def test_slices_of_an_anonymized_export_need_no_patient_or_study(tmp_path, ct_paths, blob):
    paths = ct_paths(AXIAL)
    for path in paths:
        dataset = dcmread(path)
        for keyword in ("PatientName", "PatientBirthDate", "StudyID", "StudyDate", "AccessionNumber", "SliceThickness"):
            del dataset[keyword]
        dataset.PatientSex = "U"
        dataset.save_as(path)
    write_segmentation([SegmentToWrite(name="GTV-1", mask=blob(AXIAL.shape))], paths, tmp_path / "a.dcm")
    assert dcmread(tmp_path / "a.dcm").PatientSex == ""


SHAPES = {shape: [SegmentToWrite(name="GTV-1", mask=np.zeros(shape, dtype=bool))] for shape in ((8, 5, 7), (9, 7, 5))}


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        (SHAPES[8, 5, 7], r"shape \(8, 5, 7\); expected \(9, 5, 7\)"),
        (SHAPES[9, 7, 5], r"shape \(9, 7, 5\)"),
        ([], "0 segments"),
    ],
)
def test_masks_of_another_shape_and_no_segment_are_refused(segments, message, tmp_path, ct_paths):
    with pytest.raises(DicomError, match=message):
        write_segmentation(segments, ct_paths(AXIAL), tmp_path / "a.dcm")


def test_a_label_without_a_segment_is_refused():
    with pytest.raises(DicomError, match="0 segments for labels"):
        LabeledSegments(labels=np.ones((2, 2, 2), dtype=np.uint8), segments=())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": " "}, "name is empty"),
        ({"name": "x" * 65}, "at most 64"),
        ({"mask": np.zeros((2, 2), dtype=bool)}, "2 dimensions"),
        ({"mask": np.zeros((2, 2, 2), dtype=np.uint8)}, "uint8"),
    ],
)
def test_a_segment_is_valid_from_birth(changes, message):
    with pytest.raises(DicomError, match=message):
        SegmentToWrite(**{"name": "a", "mask": np.zeros((2, 2, 2), dtype=bool), **changes})


def test_slices_of_two_series_are_refused_and_nothing_is_written(tmp_path, ct_paths, blob):
    paths = ct_paths(AXIAL)
    dataset = dcmread(paths[3])
    dataset.SeriesInstanceUID = "1.2.9"
    dataset.save_as(paths[3])
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DicomError, match="same series"):
        write_segmentation([SegmentToWrite(name="GTV-1", mask=blob(AXIAL.shape))], paths, tmp_path / "a.dcm")
    assert sorted(tmp_path.iterdir()) == before


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path, ct_paths, blob, monkeypatch):
    paths, segments = ct_paths(AXIAL), [SegmentToWrite(name="GTV-1", mask=blob(AXIAL.shape))]
    folder = tmp_path / "out"
    write_segmentation(segments, paths, folder / "a.dcm")
    old = (folder / "a.dcm").read_bytes()

    def half(_, name, **_more):
        name.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pydicom.dataset.Dataset.save_as", half)
    with pytest.raises(DicomError, match="No space left"):
        write_segmentation(segments, paths, folder / "a.dcm")
    assert [path.name for path in folder.iterdir()] == ["a.dcm"]
    assert (folder / "a.dcm").read_bytes() == old


def test_without_highdicom_the_message_names_the_extra(tmp_path, ct_paths, blob, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "highdicom.seg", None)
    with pytest.raises(DicomError, match=r"nnunet-cascade\[dicom\]"):
        write_segmentation([SegmentToWrite(name="a", mask=blob(AXIAL.shape))], ct_paths(AXIAL), tmp_path / "a.dcm")


def test_a_label_map_gives_a_segment_for_each_label_with_its_tracking(tmp_path, ct_paths, stack_of):
    paths = ct_paths(AXIAL)
    labels = np.zeros(AXIAL.shape, dtype=np.uint8)
    labels[2, 1:3, 1:4], labels[5, 2, 2] = 2, 1
    segments = tuple(
        SegmentDetails(name=f"Tumor {number}", tracking=Tracking(name=f"T{number}", uid=f"1.2.{number}"))
        for number in (1, 2, 3)
    )
    write_segmentation(LabeledSegments(labels=labels, segments=segments), paths, tmp_path / "a.dcm")
    file = read_segmentation(tmp_path / "a.dcm")
    for number in (1, 2, 3):
        assert np.array_equal(segment_on_stack(file, number, stack_of(paths)).mask, labels == number)
    items = dcmread(tmp_path / "a.dcm").SegmentSequence
    assert [(item.TrackingID, item.TrackingUID) for item in items] == [(f"T{n}", f"1.2.{n}") for n in (1, 2, 3)]


def test_a_probability_is_rounded_to_the_nearest_of_255_steps(tmp_path, ct_paths, rng):
    paths = ct_paths(AXIAL)
    probability = rng.random(AXIAL.shape, dtype=np.float32)
    probability[0, 0, :3], probability[4] = (0, 1, 0.5), 0
    segment = FractionToWrite(name="Tumor", probability=probability, algorithm=Algorithm(name="a", version="1"))
    write_probability(segment, paths, tmp_path / "a.dcm")
    file = highdicom.seg.segread(tmp_path / "a.dcm")
    uids = [dcmread(path).SOPInstanceUID for path in paths]
    found = file.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)[..., 0]
    assert float(np.abs(found - probability).max()) <= 1 / 510 + 1e-7
    assert file.NumberOfFrames == AXIAL.shape[0] - 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((2, 2, 2), 1.5, np.float32), "from 1.5 to 1.5"),
        (np.full((2, 2, 2), np.nan, np.float32), "nan"),
        (np.zeros((2, 2, 2)), "float64"),
        (np.zeros((2, 2), np.float32), "2 dimensions"),
    ],
)
def test_a_probability_is_one_from_birth(values, message):
    with pytest.raises(DicomError, match=message):
        FractionToWrite(name="a", probability=values, algorithm=Algorithm(name="a", version="1"))


def test_dates_that_are_none_do_not_keep_a_ct_from_having_a_segmentation(tmp_path, ct_paths, blob):
    paths = ct_paths(AXIAL)
    for path in paths:
        with lenient():
            dataset = dcmread(path)
            dataset.StudyDate, dataset.StudyTime, dataset.AcquisitionDate = "15.03.24", "noon", "0"
            dataset.save_as(path)
    write_segmentation([SegmentToWrite(name="GTV-1", mask=blob(AXIAL.shape))], paths, tmp_path / "a.dcm")
    assert dcmread(tmp_path / "a.dcm").StudyDate == ""
