"""Masks written as DICOM SEG."""

from datetime import datetime

import highdicom.seg
import numpy as np
import pytest
from builders.dicom_downloads import edit
from builders.known_shapes import packed_planes
from builders.oriented_grids import grid_towards
from pydicom import dcmread
from pydicom.sr.coding import Code

from nnunet_cascade.dicom.ct.geometry import stack_slices
from nnunet_cascade.dicom.derived import Algorithm, ObjectIdentity
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

IDENTITY = ObjectIdentity(series_uid="1.2.4.1", sop_uid="1.2.4.2", written_at=datetime(2020, 2, 3, 4, 5, 6))  # noqa: DTZ001


AXIAL = grid_towards("LPS", (9, 5, 7), (3.0, 0.9765625, 0.8))
STACK = stack_slices(packed_planes(AXIAL))


def test_a_mask_reads_back_bit_for_bit(placed_grid, as_read, ct_paths, stack_of, seg_of, blob):
    paths, mask = ct_paths(placed_grid), blob(placed_grid.shape)
    found = segment_on_stack(read_segmentation(seg_of(paths, mask)), 1, stack_of(paths))
    assert np.array_equal(found.mask, as_read(mask, placed_grid))
    assert (found.outside_voxels, found.skipped_slices) == (0, 0)


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


def test_only_frames_with_a_set_pixel_are_written_and_an_empty_segment_beside_others_is_listed(ct_paths, seg_of):
    mask = np.zeros(AXIAL.shape, dtype=bool)
    mask[[2, 5], 1, 1] = True
    path = seg_of(ct_paths(AXIAL), mask, np.zeros_like(mask))
    file = read_segmentation(path)
    assert dcmread(path).NumberOfFrames == 2
    assert [segment.number for segment in file.segments] == [1, 2]
    assert np.array_equal(segment_on_stack(file, 1, STACK).mask, mask)
    assert not segment_on_stack(file, 2, STACK).mask.any()


def test_a_file_of_nothing_but_empty_segments_keeps_its_frames_for_an_image_needs_some(ct_paths, seg_of):
    path = seg_of(ct_paths(AXIAL), np.zeros(AXIAL.shape, dtype=bool))
    found = segment_on_stack(read_segmentation(path), 1, STACK)
    assert dcmread(path).NumberOfFrames == AXIAL.shape[0]
    assert (found.mask.any(), found.skipped_slices) == (False, 0)


def test_name_codes_and_algorithm_are_those_of_the_segment_in_any_script(tmp_path, ct_paths, blob):
    chosen = {
        "category": Code("123037004", "SCT", "Anatomical Structure"),
        "property_type": Code("39607008", "SCT", "Lung"),
        "algorithm": Algorithm(name="cascade", version="0.1"),
    }
    segments = [SegmentToWrite(name="Tumör 肺", mask=blob(AXIAL.shape), **more) for more in ({}, chosen)]
    write_segmentation(segments, ct_paths(AXIAL), tmp_path / "a.dcm")
    plain, item = dcmread(tmp_path / "a.dcm").SegmentSequence
    assert (plain.SegmentLabel, plain.SegmentDescription) == ("Tumör 肺", "Tumör 肺")
    assert (plain.SegmentAlgorithmType, "SegmentAlgorithmName" in plain) == ("MANUAL", False)
    assert plain.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
    assert plain.SegmentedPropertyTypeCodeSequence[0].CodeValue == "86049000"
    made_by = item.SegmentationAlgorithmIdentificationSequence[0]
    assert item.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Lung"
    assert item.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "123037004"
    assert item.SegmentAlgorithmType == "AUTOMATIC"
    assert (made_by.AlgorithmName, made_by.AlgorithmVersion) == ("cascade", "0.1")
    assert made_by.AlgorithmFamilyCodeSequence[0].CodeValue == "123110"


def test_the_same_identity_gives_the_same_bytes_and_none_gives_fresh_uids(ct_paths, seg_of, blob):
    paths, mask = ct_paths(AXIAL), blob(AXIAL.shape)
    one, same, *others = (seg_of(paths, mask, identity=identity) for identity in (IDENTITY, IDENTITY, None, None))
    assert one.read_bytes() == same.read_bytes()
    fresh = [dcmread(path) for path in others]
    assert len({file.SOPInstanceUID for file in fresh} | {file.SeriesInstanceUID for file in fresh}) == 4


def test_slices_of_an_anonymized_export_need_no_patient_or_study_and_dates_may_be_none(ct_paths, seg_of, blob):
    def anonymize(dataset):
        for keyword in ("PatientName", "PatientBirthDate", "StudyID", "AccessionNumber", "SliceThickness"):
            del dataset[keyword]
        dataset.PatientSex, dataset.StudyDate, dataset.StudyTime, dataset.ContentDate = "U", "15.03.24", "noon", "0"

    paths = ct_paths(AXIAL)
    for path in paths:
        edit(path, anonymize)
    made = dcmread(seg_of(paths, blob(AXIAL.shape)))
    assert (made.PatientSex, made.StudyDate) == ("", "")


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ([np.zeros((8, 5, 7), dtype=bool)], r"shape \(8, 5, 7\); expected \(9, 5, 7\)"),
        ([np.zeros((9, 7, 5), dtype=bool)], r"shape \(9, 7, 5\)"),
        ([], "0 segments"),
    ],
)
def test_masks_of_another_shape_and_no_segment_are_refused(masks, message, ct_paths, seg_of):
    with pytest.raises(DicomError, match=message):
        seg_of(ct_paths(AXIAL), *masks)


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


def test_slices_of_two_series_are_refused_and_nothing_is_written(tmp_path, ct_paths, seg_of, blob):
    paths = ct_paths(AXIAL)
    edit(paths[3], lambda dataset: setattr(dataset, "SeriesInstanceUID", "1.2.9"))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DicomError, match="same series"):
        seg_of(paths, blob(AXIAL.shape))
    assert sorted(tmp_path.iterdir()) == before


def test_a_label_map_gives_a_segment_for_each_label_with_its_tracking(tmp_path, ct_paths):
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
        assert np.array_equal(segment_on_stack(file, number, STACK).mask, labels == number)
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
