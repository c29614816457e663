"""Which boxes become crops, and how the crops are cut."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders.oriented_grids import grid_towards

from nnunet_cascade.errors import DatasetError, SettingsError
from nnunet_cascade.geometry import Box
from nnunet_cascade.images import read_volume, write_image
from nnunet_cascade.prediction.spec import RoiSettings
from nnunet_cascade.trainers.roi_manifest import read_manifest
from nnunet_cascade.training.crop_plan import CropPlan
from nnunet_cascade.training.roi_boxes import (
    FoundBox,
    boxes_from_candidates,
    boxes_from_truth,
    limit_false_positives,
)
from nnunet_cascade.training.roi_dataset import (
    RoiDatasetRequest,
    make_roi_dataset,
    patient_splits,
    require_made_so,
    stored_roi,
)

SHAPE = (20, 20, 20)
BOX = Box((2, 2, 2), (4, 4, 4))


def labels(**blocks):
    array = np.zeros(SHAPE, dtype=np.int32)
    for name, (start, stop) in blocks.items():
        array[tuple(slice(start, stop) for _ in range(3))] = int(name[1:])
    return array


def request(tmp_path, **changes):
    defaults = {"source": tmp_path / "raw", "target": tmp_path / "Dataset601_XROI", "splits": []}
    return RoiDatasetRequest(**{**defaults, **changes})


def found(kind, patient="p"):
    return FoundBox(patient, kind, BOX)


@pytest.mark.parametrize(
    ("candidates", "tumors", "kinds"),
    [
        ({"c1": (2, 5), "c2": (10, 12)}, {"t1": (4, 7)}, [("candidate", 2), ("false_positive", 10)]),
        ({"c1": (2, 5)}, {"t1": (4, 7), "t2": (10, 13)}, [("candidate", 2), ("missed", 10)]),
        (None, {"t1": (4, 7), "t2": (10, 13)}, [("ground_truth", 4), ("ground_truth", 10)]),
    ],
    ids=["one that meets no tumor is a false positive", "a tumor that none meets is missed", "each tumor of the truth"],
)
def test_each_box_has_its_kind(candidates, tumors, kinds):
    truth = labels(**tumors)
    boxes = boxes_from_candidates("p", labels(**candidates), truth) if candidates else boxes_from_truth("p", truth)
    assert [(box.kind, box.box.start[0]) for box in boxes] == kinds
    assert boxes[0].box == (Box((2, 2, 2), (5, 5, 5)) if candidates else Box((4, 4, 4), (7, 7, 7)))


@pytest.mark.parametrize(
    ("true", "false", "share", "kept"), [(6, 10, 0.25, 2), (3, 1, 0.25, 1), (3, 5, 0.0, 0), (0, 4, 0.25, 0)]
)
def test_false_positives_are_at_most_a_share_of_all_crops(true, false, share, kept):
    boxes = [found("candidate")] * true + [found("false_positive", f"p{n}") for n in range(false)]
    chosen = limit_false_positives(boxes, share=share, seed=0)
    assert sum(box.kind == "false_positive" for box in chosen) == kept
    assert sum(box.kind == "candidate" for box in chosen) == true


def test_the_choice_among_false_positives_is_seeded():
    boxes = [found("candidate")] * 3 + [found("false_positive", f"p{n}") for n in range(50)]
    first, again, other = (limit_false_positives(boxes, share=0.25, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_folds_of_crops_follow_folds_of_patients(tmp_path):
    grid = grid_towards("LPS", SHAPE)
    rois = [stored_roi(found("candidate", p), n, grid, request(tmp_path))[0] for p, n in (("p", 1), ("p", 2), ("q", 1))]
    folds = patient_splits([{"train": ["p"], "val": ["q"]}, {"train": ["q"], "val": ["p"]}], rois)
    assert folds[0] == {"train": ["p_roi01", "p_roi02"], "val": ["q_roi01"]}
    assert folds[1] == {"train": ["q_roi01"], "val": ["p_roi01", "p_roi02"]}


def test_a_fold_without_crops_is_refused(tmp_path):
    roi = stored_roi(found("candidate"), 1, grid_towards("LPS", SHAPE), request(tmp_path))[0]
    with pytest.raises(DatasetError, match="fold 0 has no crop to val on"):
        patient_splits([{"train": ["p"], "val": ["q"]}], [roi])


def test_a_stored_crop_holds_box_margin_context_and_jitter(tmp_path):
    grid = grid_towards("LPS", SHAPE, (2.0, 1.0, 1.0))
    task = request(tmp_path, roi=RoiSettings(margin_mm=2.0), jitter_mm=2.0, context_mm=(12.0, 4.0, 4.0))
    roi, crop = stored_roi(FoundBox("p", "candidate", Box((8, 8, 8), (10, 10, 10))), 1, grid, task)
    assert roi.box.shape == (4, 6, 6)
    assert roi.jitter_voxels == (1, 2, 2)
    assert crop.shape == (6 + 2, 6 + 4, 6 + 4)
    assert roi.cut_at == crop.start
    assert tuple(a + b for a, b in zip(roi.cut_at, roi.box.start, strict=True)) == (7, 6, 6)


@pytest.mark.parametrize(
    "wrong", [{"jitter_mm": -1.0}, {"context_mm": (0.0, 1.0, 1.0)}, {"max_false_positive_share": 1.0}]
)
def test_a_request_out_of_range_is_refused(tmp_path, wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        request(tmp_path, **wrong)


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """Two patients with a tumor each, one of them at the edge of the image."""
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    source = tmp_path / "raw"
    (source / "imagesTr").mkdir(parents=True)
    (source / "labelsTr").mkdir()
    (source / "dataset.json").write_text('{"channel_names": {"0": "CT"}, "labels": {"background": 0, "tumor": 1}}')
    for name, start in (("p", 0), ("q", 9)):
        ct = np.full(SHAPE, -800, dtype=np.int16)
        truth = np.zeros(SHAPE, dtype=np.uint8)
        truth[tuple(slice(start, start + 4) for _ in range(3))] = 1
        ct[truth > 0] = 40
        write_image(ct, grid_towards("RAS", SHAPE, (2.0, 1.0, 1.0)), source / "imagesTr" / f"{name}_0000.nii.gz")
        write_image(truth, grid_towards("RAS", SHAPE, (2.0, 1.0, 1.0)), source / "labelsTr" / f"{name}.nii.gz")
    return source


def test_crops_from_the_ground_truth_are_a_raw_dataset(tmp_path, raw):
    splits = [{"train": ["p"], "val": ["q"]}, {"train": ["q"], "val": ["p"]}]
    roi = RoiSettings(margin_mm=1.0)
    task = request(tmp_path, source=raw, splits=splits, roi=roi, jitter_mm=1.0, context_mm=(16.0, 8.0, 8.0))
    rois = make_roi_dataset(task)
    assert [roi.kind for roi in rois] == ["ground_truth"] * 2
    for folder in (task.target, Path(tmp_path / "preprocessed" / task.target.name)):
        assert set(read_manifest(folder / "roi_manifest.json")) == {"p_roi01", "q_roi01"}
    image = read_volume(task.target / "imagesTr" / "p_roi01_0000.nii.gz")
    truth = read_volume(task.target / "labelsTr" / "p_roi01.nii.gz")
    assert image.grid.difference(truth.grid) is None
    assert truth.array.sum() == 64
    assert (image.array[truth.array > 0] == 40).all()
    assert (image.array == -1024).any(), "air where the image ends"
    whole = read_volume(raw / "imagesTr" / "p_0000.nii.gz").grid
    start = tuple(float(v) for v in rois[0].cut_at)
    np.testing.assert_allclose(image.grid.world_mm((0, 0, 0)), whole.world_mm(start), atol=1e-4)


@pytest.mark.parametrize(
    ("folder", "message"), [(".", "is there already"), ("preprocessed", "to make it anew")], ids=["raw", "preprocessed"]
)
def test_an_earlier_dataset_is_not_overwritten_or_mixed(tmp_path, raw, folder, message):
    task = request(tmp_path, source=raw, splits=[{"train": ["p"], "val": ["q"]}])
    stale = tmp_path / folder / task.target.name
    stale.mkdir(parents=True)
    (stale / "splits_final.json").write_text("[]")
    with pytest.raises(DatasetError, match=message):
        make_roi_dataset(task)


@pytest.mark.parametrize("wrong", ['{"channel_names": {"0": "CT", "1": "PET"}}', '{"labels": {"ignore": 2}}'])
def test_a_source_of_two_channels_or_with_an_ignore_label_is_refused_at_the_start(tmp_path, raw, wrong):
    (raw / "dataset.json").write_text(wrong)
    with pytest.raises(DatasetError, match="one channel, the CT, and no ignore label"):
        make_roi_dataset(request(tmp_path, source=raw))


def test_a_failed_dataset_leaves_nothing_behind(tmp_path, raw):
    (raw / "labelsTr" / "q.nii.gz").write_text("broken")
    task = request(tmp_path, source=raw, splits=[{"train": ["p"], "val": ["q"]}])
    with pytest.raises(ValueError, match="cannot be read"):
        make_roi_dataset(task)
    assert not task.target.exists()
    assert not list(tmp_path.glob(".*"))


def test_crops_for_a_plan_are_not_those_for_another_one_or_for_none(tmp_path, raw):
    splits = [{"train": ["p"], "val": ["q"]}]
    plan = CropPlan(spacing_mm=(1.0, 1.0, 1.0), patch_size=(8, 8, 8), features=(4, 8))
    task = request(tmp_path, source=raw, splits=splits, plan=plan)
    make_roi_dataset(task)
    require_made_so(task)
    for other in (None, replace(plan, patch_size=(8, 8, 16))):
        with pytest.raises(DatasetError, match=r"other settings \(plan\)"):
            require_made_so(replace(task, plan=other))
    manifest = task.target / "roi_manifest.json"
    content = json.loads(manifest.read_text())
    del content["provenance"]["plan"]  # as an earlier release wrote it
    manifest.write_text(json.dumps(content))
    require_made_so(replace(task, plan=None))
    with pytest.raises(DatasetError, match=r"other settings \(plan\)"):
        require_made_so(task)
