"""Boxes drawn from stored crops, and carried into preprocessed arrays."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader

from nnunet_cascade.errors import DatasetError, SettingsError
from nnunet_cascade.geometry import Box
from nnunet_cascade.trainers.roi_manifest import StoredRoi, read_manifest, write_manifest
from nnunet_cascade.trainers.roi_sampling import RoiDataset, fitted, jittered, to_preprocessed

ROI = StoredRoi(
    case="p_roi01",
    patient="p",
    kind="candidate",
    box=Box((4, 4, 4), (8, 9, 10)),
    jitter_voxels=(2, 1, 0),
    cut_at=(-1, 0, 5),
)

WHOLE = np.arange(16**3, dtype=np.float32).reshape(16, 16, 16)


def save_case(folder, name, *, shape=(16, 16, 16), tumor=(6, 6, 6), spacing_ratio=1.0):
    """One preprocessed crop as nnU-Net stores it, its image counting voxels."""
    image = np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape)
    labels = np.zeros((1, *shape), dtype=np.int8)
    labels[(0, *tumor)] = 1
    before = tuple(round(size * spacing_ratio) for size in shape)
    properties = {
        "bbox_used_for_cropping": [[0, size] for size in before],
        "shape_after_cropping_and_before_resampling": before,
        "class_locations": {1: np.argwhere(labels == 1)},
    }
    RoiDataset.save_case(image, labels, properties, str(folder / name), chunks=(1, 8, 8, 8), blocks=(1, 8, 8, 8))


def dataset(folder, rois, *, jitter, window_size=(4, 4, 4)):
    return RoiDataset(
        folder, [roi.case for roi in rois], manifest={roi.case: roi for roi in rois}, window_size=window_size,
        transpose=(0, 1, 2), jitter=jitter,
    )  # fmt: skip


def test_without_jitter_the_box_is_given_as_it_was_found(tmp_path):
    save_case(tmp_path, "p_roi01")
    image, labels, previous, properties = dataset(tmp_path, [ROI], jitter=False).load_case("p")
    np.testing.assert_array_equal(image[0], WHOLE[4:8, 4:9, 4:10])
    assert labels[0, 2, 2, 2] == 1
    assert previous is None
    np.testing.assert_array_equal(properties["class_locations"][1], [[0, 2, 2, 2]])


@pytest.mark.parametrize("tumor", [(4, 4, 4), (6, 6, 6), (7, 8, 9)])
@pytest.mark.parametrize("oversample", [0.0, 1.0])
def test_nnunets_loader_cuts_no_patch_that_reaches_beyond_the_window(tmp_path, tumor, oversample):
    save_case(tmp_path, "p_roi01", tumor=tumor)
    labels = SimpleNamespace(all_labels=[0, 1], has_ignore_label=False)
    drawn = dataset(tmp_path, [ROI], jitter=False, window_size=(8, 8, 8))
    size = (8, 8, 8)
    loader = nnUNetDataLoader(drawn, 2, size, size, labels, oversample_foreground_percent=oversample)
    for image in next(loader)["data"].numpy():
        np.testing.assert_array_equal(image[0], WHOLE[2:10, 3:11, 3:11])


def test_nnunets_loader_draws_patients_equally_however_many_rois_they_have(tmp_path):
    rois = [*(replace(ROI, case=f"p_roi{n:02d}") for n in range(1, 5)), replace(ROI, case="q_roi01", patient="q")]
    for roi in rois:
        save_case(tmp_path, roi.case)
    labels = SimpleNamespace(all_labels=[0, 1], has_ignore_label=False)
    np.random.seed(0)  # noqa: NPY002
    loader = nnUNetDataLoader(dataset(tmp_path, rois, jitter=True), 2, (4, 4, 4), (4, 4, 4), labels)
    assert 80 <= [key for _ in range(100) for key in next(loader)["keys"]].count("q") <= 120


def test_with_jitter_each_face_moves_within_its_range(tmp_path):
    save_case(tmp_path, "p_roi01")
    np.random.seed(0)  # noqa: NPY002 - what nnU-Net's loaders draw from
    boxes = [jittered(ROI.box, ROI.jitter_voxels) for _ in range(200)]
    assert [{box.start[axis] for box in boxes} for axis in range(3)] == [{2, 3, 4, 5, 6}, {3, 4, 5}, {4}]
    assert {box.stop[0] for box in boxes} == {6, 7, 8, 9, 10}


def test_every_roi_of_a_patient_is_drawn(tmp_path):
    rois = [ROI, replace(ROI, case="p_roi02", box=Box((0, 0, 0), (5, 5, 5)))]
    for roi in rois:
        save_case(tmp_path, roi.case)
    drawn = dataset(tmp_path, rois, jitter=False)
    np.random.seed(0)  # noqa: NPY002
    assert {drawn.load_case("p")[0].shape for _ in range(20)} == {(1, 4, 5, 6), (1, 5, 5, 5)}


def test_a_box_smaller_than_the_patch_is_shown_with_real_context(tmp_path):
    save_case(tmp_path, "p_roi01")
    image, *_ = dataset(tmp_path, [ROI], jitter=False, window_size=(8, 8, 8)).load_case("p")
    np.testing.assert_array_equal(image[0], WHOLE[2:10, 3:11, 3:11])


def test_class_locations_outside_the_box_are_left_out(tmp_path):
    save_case(tmp_path, "p_roi01", tumor=(15, 15, 15))
    *_, properties = dataset(tmp_path, [ROI], jitter=False).load_case("p")
    assert len(properties["class_locations"][1]) == 0


def test_a_crop_missing_in_the_manifest_is_named(tmp_path):
    with pytest.raises(DatasetError, match="z_roi01"):
        RoiDataset(tmp_path, ["z_roi01"], manifest={}, window_size=(4, 4, 4), transpose=(0, 1, 2), jitter=True)


def test_a_box_is_carried_through_transposition_cropping_and_resampling():
    properties = {
        "bbox_used_for_cropping": [[2, 12], [0, 20], [0, 30]],
        "shape_after_cropping_and_before_resampling": (10, 20, 30),
    }
    box = to_preprocessed(Box((6, 4, 12), (9, 8, 14)), properties, (5, 40, 30), transpose=(1, 2, 0))
    assert box == Box((1, 24, 6), (3, 28, 9))


@given(st.tuples(*[st.integers(-5, 15)] * 3), st.tuples(*[st.integers(1, 12)] * 3))
def test_a_fitted_box_lies_inside_and_is_cut_only_where_it_is_larger(start, size):
    box = fitted(Box(start, tuple(a + b for a, b in zip(start, size, strict=True))), (10, 11, 9))
    assert min(box.start) >= 0
    assert all(stop <= n for stop, n in zip(box.stop, (10, 11, 9), strict=True))
    assert box.shape == tuple(min(a, b) for a, b in zip(size, (10, 11, 9), strict=True))


def test_a_manifest_survives_writing_and_reading(tmp_path):
    write_manifest(tmp_path / "roi_manifest.json", [ROI], provenance={"boxes": "out_of_fold"})
    assert read_manifest(tmp_path / "roi_manifest.json") == {"p_roi01": ROI}


@pytest.mark.parametrize("content", ["", "[]", '{"version": 9, "rois": {}}', '{"version": 1, "rois": {"a": {}}}'])
def test_what_is_no_manifest_is_refused(tmp_path, content):
    (tmp_path / "roi_manifest.json").write_text(content)
    with pytest.raises(DatasetError, match="roi_manifest"):
        read_manifest(tmp_path / "roi_manifest.json")


def test_a_stored_roi_is_valid_from_birth():
    with pytest.raises(SettingsError, match="kind"):
        replace(ROI, kind="perhaps")
    with pytest.raises(SettingsError, match="jitter"):
        replace(ROI, jitter_voxels=(0, -1, 0))
