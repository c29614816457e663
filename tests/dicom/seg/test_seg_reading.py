"""Segments on the grid of a CT, whatever the frames' order, direction and kind."""

import itertools
import sys
import tracemalloc
from dataclasses import replace

import highdicom.seg
import numpy as np
import pytest
import SimpleITK as sitk
from builders.known_shapes import packed_planes
from builders.oriented_grids import grid_towards
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, JPEGLSLossless, RLELossless

from nnunet_cascade.dicom.codes import ALTERED_STRUCTURE, PRIMARY_NEOPLASM
from nnunet_cascade.dicom.ct.geometry import stack_slices
from nnunet_cascade.dicom.ct.reading import stack_files
from nnunet_cascade.dicom.derived import ObjectIdentity
from nnunet_cascade.dicom.headers import read_header
from nnunet_cascade.dicom.seg.rasterizing import segment_on_stack
from nnunet_cascade.dicom.seg.reading import read_segmentation
from nnunet_cascade.dicom_export.series_geometry import turned_grid
from nnunet_cascade.errors import DicomError
from nnunet_cascade.geometry import AxisTurn

SHAPE, SPACING = (8, 5, 7), (3.0, 1.5, 0.75)
AXIAL = grid_towards("LPS", SHAPE, SPACING)
STACK = stack_slices(packed_planes(AXIAL))
TURNS = [
    AxisTurn(order, flipped)
    for order in itertools.permutations(range(3))
    for flipped in itertools.product((False, True), repeat=3)
]


def read(path, number=1, stack=STACK):
    return segment_on_stack(read_segmentation(path), number, stack)


def edited(path, edit):
    """Change a file's header in place."""
    dataset = dcmread(path)
    edit(dataset)
    dataset.save_as(path, enforce_file_format=True)
    return path


def highdicom_file(paths, array, path, *, kind, **more):
    """Write an array as highdicom does, with two segments."""
    names = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=f"label {number}",
            segmented_property_category=ALTERED_STRUCTURE,
            segmented_property_type=PRIMARY_NEOPLASM,
            algorithm_type="MANUAL",
        )
        for number in (1, 2)
    ]
    highdicom.seg.Segmentation(
        source_images=[dcmread(file) for file in paths],
        pixel_array=array,
        segmentation_type=kind,
        segment_descriptions=names,
        **ObjectIdentity().arguments("a"),
        **more,
    ).save_as(path)
    return path


@pytest.mark.parametrize(
    "turn", TURNS, ids=lambda turn: f"{turn.order}{''.join('-' if f else '+' for f in turn.flipped)}"
)
def test_frames_may_run_in_any_direction_of_the_ct_s_axes(turn, ct_paths, seg_of, blob):
    mask = blob(SHAPE)
    found = read(seg_of(ct_paths(turned_grid(AXIAL, turn)), turn.apply(mask)))
    assert np.array_equal(found.mask, mask)
    assert found.outside_voxels == 0


def test_frames_may_stand_in_any_order(ct_paths, seg_of, blob):
    mask = blob(SHAPE)

    def reverse(dataset):
        bits = np.packbits(dataset.pixel_array[::-1].ravel(), bitorder="little").tobytes()
        dataset.PixelData = bits + b"\0" * (len(bits) % 2)
        dataset.PerFrameFunctionalGroupsSequence = list(dataset.PerFrameFunctionalGroupsSequence)[::-1]

    assert np.array_equal(read(edited(seg_of(ct_paths(AXIAL), mask), reverse)).mask, mask)


def test_a_frame_on_a_plane_whose_slice_is_missing_is_used(ct_paths, stack_of, seg_of, blob):
    mask = blob(SHAPE)
    found = read(seg_of(ct_paths(AXIAL), mask), stack=stack_of(ct_paths(AXIAL, planes=[0, 1, 2, 4, 5, 7])))
    assert np.array_equal(found.mask, mask)
    assert found.outside_voxels == 0


def test_a_plane_without_slice_and_frame_is_interpolated_and_no_skipped_slice(ct_paths, stack_of, seg_of):
    planes = [0, 1, 2, 4, 5, 6, 7]
    paths = ct_paths(AXIAL, planes=planes)
    mask = np.zeros(SHAPE, dtype=bool)
    mask[2:6, 1:4, 2:6] = True
    found = read(seg_of(paths, mask[planes]), stack=stack_of(paths))
    assert np.array_equal(found.mask, mask)
    assert found.skipped_slices == 0


def test_frames_of_unevenly_spaced_slices_fall_on_them(ct_paths, stack_of, seg_of):
    fine = grid_towards("LPS", (24, 5, 7), (1.0, 1.5, 0.75))
    planes = [0, 3, 6, 9, 12, 14, 17, 20, 23]
    paths = ct_paths(fine, planes=planes)
    mask = np.zeros((len(planes), 5, 7), dtype=bool)
    mask[:, 1:4, 2:5] = True
    stack = stack_of(paths)
    found = read(seg_of(paths, mask), stack=stack)
    assert stack.irregularities == ("uneven_steps",)
    assert found.mask.sum() == 9 * stack.grid.shape[0]
    assert (found.outside_voxels, found.skipped_slices) == (0, 0)


def test_frames_of_some_slices_alone_leave_the_others_empty_and_gaps_are_counted(ct_paths, seg_of):
    mask = np.zeros(SHAPE, dtype=bool)
    mask[[1, 2, 5], 1:3, 4] = True
    found = read(seg_of(ct_paths(AXIAL, planes=[1, 2, 5]), mask[[1, 2, 5]]))
    assert np.array_equal(found.mask, mask)
    assert found.skipped_slices == 2


def test_set_pixels_beyond_the_ct_are_counted(ct_paths, stack_of, seg_of):
    whole = grid_towards("LPS", (10, 7, 9), SPACING)
    part = replace(whole, shape=(4, 3, 4), origin_mm=whole.world_mm((3, 2, 1)))
    mask = np.ones(whole.shape, dtype=bool)
    found = read(seg_of(ct_paths(whole), mask), stack=stack_of(ct_paths(part)))
    assert found.mask.all()
    assert found.outside_voxels == mask.size - 4 * 3 * 4


def test_frames_of_tilted_slices_move_with_them_by_whole_voxels(ct_paths, stack_of, seg_of, blob):
    """Each slice lies 0.6 rows above the one before: planes move by 0, 1, 1, 2, 2, 3, 4 and 4 rows."""
    paths = ct_paths(AXIAL)
    for plane, path in enumerate(paths):
        x, y, z = AXIAL.world_mm((plane, 0.6 * plane, 0))
        edited(path, lambda dataset, place=(x, y, z): setattr(dataset, "ImagePositionPatient", list(place)))
    mask, stack = blob(SHAPE), stack_of(paths)
    found = read(seg_of(paths, mask), stack=stack)
    assert stack.irregularities == ("gantry_tilt",)
    for plane, rows in enumerate([0, 1, 1, 2, 2, 3, 4, 4]):
        assert np.array_equal(found.mask[plane, rows : rows + 5], mask[plane])
    assert (found.mask.sum(), found.outside_voxels) == (mask.sum(), 0)


@pytest.mark.parametrize("off", [0.08, -0.08])
def test_rounding_in_headers_is_no_other_grid(off, ct_paths, seg_of, blob):
    mask = blob(SHAPE)
    moved = replace(AXIAL, origin_mm=AXIAL.world_mm((off, off, off)))
    assert np.array_equal(read(seg_of(ct_paths(moved), mask)).mask, mask)


ROTATED = tuple(np.array([[1, 0, 0], [0, np.cos(0.8), np.sin(0.8)], [0, -np.sin(0.8), np.cos(0.8)]]).tolist())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"origin_mm": AXIAL.world_mm((0, 0.5, 0))}, r"found pixels [+-]0.50 rows and \+0.00 columns off"),
        ({"origin_mm": AXIAL.world_mm((0, 0, -0.2))}, r"\+0.00 rows and -0.20 columns off"),
        ({"spacing_mm": (3.0, 3.0, 1.5)}, r"found pixels of 3.000 × 1.500 mm, expected the CT's of 1.500 × 0.750 mm"),
        ({"spacing_mm": (3.0, 0.75, 0.375)}, "found pixels of 0.750"),
        ({"spacing_mm": (3.0, 1.47, 0.75)}, "found pixels of 1.470"),
        ({"spacing_mm": (1.5, 1.5, 0.75)}, "found frames 1.50 mm apart"),
        ({"axes": ROTATED}, "along the CT's axes"),
    ],
)
def test_another_grid_is_refused(changes, message, ct_paths, seg_of):
    path = seg_of(ct_paths(replace(AXIAL, **changes)), np.ones(SHAPE, dtype=bool))
    with pytest.raises(DicomError, match=f"another grid: .*{message}.*; .* resample it"):
        read(path)


def test_frames_of_one_plane_are_united(ct_paths, seg_of, blob):
    one, other = blob(SHAPE), blob(SHAPE)

    def one_number(dataset):
        for groups in dataset.PerFrameFunctionalGroupsSequence:
            groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 1

    assert np.array_equal(read(edited(seg_of(ct_paths(AXIAL), one, other), one_number)).mask, one | other)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_in_a_label_map_pixels_that_equal_the_number_count(syntax, tmp_path, ct_paths, rng):
    labels = rng.integers(0, 3, SHAPE).astype(np.uint8)
    path = highdicom_file(ct_paths(AXIAL), labels, tmp_path / "a.dcm", kind="LABELMAP", transfer_syntax_uid=syntax)
    for number in (1, 2):
        assert np.array_equal(read(path, number).mask, labels == number)
    with pytest.raises(DicomError, match=r"no segment 3; expected one of \[1, 2\]"):
        read(path, 3)


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_a_deflated_file_is_inflated(kind, tmp_path, ct_paths, rng):
    labels = rng.integers(0, 3, SHAPE).astype(np.uint8)

    def deflate(dataset):
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian

    path = edited(highdicom_file(ct_paths(AXIAL), labels, tmp_path / "a.dcm", kind=kind), deflate)
    assert np.array_equal(read(path, 2).mask, labels == 2)


@pytest.mark.parametrize(("padding", "numbers"), [(None, [1, 2]), (5, [1, 2]), (2, [1])])
def test_the_background_of_a_label_map_is_no_segment(padding, numbers, tmp_path, ct_paths):
    def pad(dataset):
        del dataset.PixelPaddingValue
        if padding is not None:
            dataset.add_new("PixelPaddingValue", "US", padding)

    path = highdicom_file(ct_paths(AXIAL), np.zeros(SHAPE, np.uint8), tmp_path / "a.dcm", kind="LABELMAP")
    assert [segment.number for segment in read_segmentation(edited(path, pad)).segments] == numbers


@pytest.mark.parametrize("largest", [255, 100])
def test_of_fractions_those_of_at_least_a_half_count(largest, tmp_path, ct_paths, rng):
    paths = ct_paths(AXIAL)
    fractions = np.stack([rng.random(SHAPE), rng.random(SHAPE)], axis=-1)
    fractions[2, 1, 1:3] = [[0.5], [0.5 - 1 / 128]]
    path = highdicom_file(paths, fractions, tmp_path / "a.dcm", kind="FRACTIONAL", max_fractional_value=largest)
    stored = np.around(fractions * largest)
    for number in (1, 2):
        found = read(path, number).mask
        assert np.array_equal(found, stored[..., number - 1] * 2 >= largest)
        assert found[2, 1, 1:3].tolist() == [True, False]


def test_names_stand_in_order_of_trust_each_once_and_empty_ones_are_left_out(ct_paths, seg_of, blob):
    def rename(dataset):
        first, second = dataset.SegmentSequence
        first.SegmentDescription, first.SegmentLabel = " GTV-1 ", "Neoplasm"
        modifiers = [Dataset(), Dataset(), Dataset()]
        for modifier, meaning in zip(modifiers, ("Left", "Neoplasm", ""), strict=True):
            modifier.CodeMeaning = meaning
        first.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = modifiers
        second.SegmentDescription, second.SegmentLabel = "", "label"
        del second.SegmentAlgorithmType

    mask = blob(SHAPE)
    file = read_segmentation(edited(seg_of(ct_paths(AXIAL), mask, mask), rename))
    assert [(segment.number, segment.names, segment.algorithm) for segment in file.segments] == [
        (1, ("GTV-1", "Neoplasm", "Left"), "MANUAL"),
        (2, ("label",), ""),
    ]


def test_a_file_says_what_it_was_drawn_on(ct_paths, seg_of, blob):
    paths = ct_paths(AXIAL)

    def refer_to_another_study(dataset):
        series, study = Dataset(), Dataset()
        series.SeriesInstanceUID = "1.2.8"
        study.ReferencedSeriesSequence = [series]
        dataset.StudiesContainingOtherReferencedInstancesSequence = [study]

    source = dcmread(paths[0])
    path = edited(seg_of(paths, blob(SHAPE)), refer_to_another_study)
    file = read_segmentation(path)
    assert file.referenced_series_uids == {source.SeriesInstanceUID, "1.2.8"}
    assert file.frame_of_reference_uids == {source.FrameOfReferenceUID}
    assert (file.sop_uid, file.series_description) == (dcmread(path).SOPInstanceUID, "Segmentation")


def test_a_file_of_one_segment_need_not_say_which_its_frames_show(ct_paths, seg_of, blob):
    mask = blob(SHAPE)

    def say_nothing(dataset):
        del dataset.SharedFunctionalGroupsSequence[0].SegmentIdentificationSequence

    assert np.array_equal(read(edited(seg_of(ct_paths(AXIAL), mask), say_nothing)).mask, mask)


def _no_decoder(dataset):
    dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
    dataset.PixelData = encapsulate([bytes(4)] * dataset.NumberOfFrames)


def _one_description_less(dataset):
    dataset.PerFrameFunctionalGroupsSequence = list(dataset.PerFrameFunctionalGroupsSequence)[1:]


BROKEN = {
    "no position": (
        lambda d: delattr(d.PerFrameFunctionalGroupsSequence[1], "PlanePositionSequence"),
        r"cannot be read \(.*frame 2 has ImagePositionPatient",
    ),
    "another kind of object": (lambda d: setattr(d, "SOPClassUID", "1.2.3"), r"\(found SEG\); give a file of modality"),
    "no pixels": (lambda d: delattr(d, "PixelData"), r"cannot be read \(.*PixelData"),
    "too few pixels": (lambda d: setattr(d, "PixelData", d.PixelData[:-4]), r"cannot be read \(.*reshape"),
    "no decoder": (_no_decoder, r"cannot be read \(.*JPEG-LS.*\); .*gdcmconv --raw"),
    "a frame without a description": (_one_description_less, "holds 8 frames and says of 7 where they lie"),
}


@pytest.mark.parametrize(("damage", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused_with_the_reason_and_without_its_name(damage, message, ct_paths, seg_of):
    path = edited(seg_of(ct_paths(AXIAL), np.ones(SHAPE, dtype=bool)), damage)
    with pytest.raises(DicomError, match=rf"DICOM SEG {message}") as error:
        read(path)
    assert path.name not in str(error.value)


def test_a_truncated_file_is_refused(ct_paths, seg_of):
    path = seg_of(ct_paths(AXIAL), np.ones(SHAPE, dtype=bool))
    whole = path.read_bytes()
    for share in (0.2, 0.6, 0.999):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(DicomError, match="DICOM SEG"):
            read(path)


def test_without_highdicom_the_message_names_the_extra(ct_paths, seg_of, blob, monkeypatch):
    path = seg_of(ct_paths(AXIAL), blob(SHAPE))
    monkeypatch.setitem(sys.modules, "highdicom.frame", None)
    with pytest.raises(DicomError, match=r"pip install 'nnunet-cascade\[dicom\]'"):
        read_segmentation(path)


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_reading_needs_less_memory_than_two_volumes_of_booleans(kind, tmp_path, ct_paths, stack_of):
    grid = grid_towards("LPS", (40, 128, 128), (1.0, 1.0, 1.0))
    paths = ct_paths(grid)
    mask = np.zeros(grid.shape, dtype=np.uint8)
    mask[10:30, 20:60, 20:60] = 1
    file = read_segmentation(highdicom_file(paths, mask, tmp_path / "a.dcm", kind=kind, omit_empty_frames=False))
    stack = stack_of(paths)
    segment_on_stack(file, 1, stack)
    tracemalloc.start()
    segment_on_stack(file, 1, stack)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * mask.size


SMALL, LARGE = "24x38x3/image", "ct-3slice"


@pytest.mark.parametrize(
    ("name", "ct", "answers"),
    [
        ("liver.dcm", LARGE, {1: ("liver_seg.nrrd", 1)}),
        (
            "partial_overlaps.dcm",
            LARGE,
            {value: (f"partial_overlaps-{n}.nrrd", value) for value, n in ((1, 1), (2, 2), (3, 3), (4, 1), (5, 1))},
        ),
        ("sparse-labelmap-ppv5.dcm", SMALL, {1: ("sparse_labelmap_ppv5_seg.nrrd", 1)}),
        ("sparse-labelmap-noppv.dcm", SMALL, {1: ("sparse_labelmap_noppv_seg.nrrd", 1)}),
        ("24x38x3/seg/label.seg", SMALL, {1: ("24x38x3/nrrd/label.nrrd", 1)}),
        ("23x38x3/seg/label.seg", "23x38x3/image", {1: ("23x38x3/nrrd/label.nrrd", 1)}),
    ],
)
def test_files_of_another_program_are_read_voxel_for_voxel(name, ct, answers, real_data):
    folder = real_data / "dcmqi_seg"
    stack = stack_files([read_header(path) for path in (folder / ct).iterdir()]).stack
    file = read_segmentation(folder / name)
    assert {segment.number for segment in file.segments} == set(answers)
    for number, (nrrd, value) in answers.items():
        expected = sitk.GetArrayFromImage(sitk.ReadImage(folder / nrrd)) == value
        found = segment_on_stack(file, number, stack)
        assert expected.any()
        assert np.count_nonzero(found.mask != expected) == 0
        assert found.outside_voxels == 0
