"""Boxes in training, prediction and scores look at the same voxels, whatever the tumor's labels are."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from builders.oriented_grids import grid_towards
from nnunetv2.utilities.label_handling.label_handling import LabelManager

import nnunet_cascade as nnc
from nnunet_cascade.case_folders.prediction_files import TumorLabel
from nnunet_cascade.cli.options import dataset_tumor
from nnunet_cascade.errors import CascadeError, SettingsError
from nnunet_cascade.geometry import Box
from nnunet_cascade.images import read_labels, read_volume, write_image
from nnunet_cascade.prediction.model_files import tumor_channels
from nnunet_cascade.prediction.preprocessing import Prepared
from nnunet_cascade.prediction.stage_model import StageModel
from nnunet_cascade.training.pipeline import tumor_label, with_tumor_values
from nnunet_cascade.training.proposals import ProposalRequest, true_tumor
from nnunet_cascade.training.roi_dataset import RoiDatasetRequest, make_roi_dataset

SHAPE = (20, 24, 24)
GRID = grid_towards("LPS", SHAPE, (2.0, 2.0, 2.0))
BLOCKS = {1: Box((2, 2, 2), (8, 8, 8)), 2: Box((2, 2, 14), (8, 8, 20)), 3: Box((12, 14, 2), (18, 20, 8))}
NODES = {"background": 0, "primary": 1, "nodes": 2, "heart": 3}
REGIONS = {"background": 0, "chest": [1, 2, 3], "tumor": [1, 2], "nodes": [2]}


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """Write a raw dataset of two patients with a block of each label."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path / name))
    folder = tmp_path / "nnUNet_raw" / "Dataset501_Labels"

    def write(labels, order=None):
        description = {"channel_names": {"0": "CT"}, "labels": labels}
        description |= {} if order is None else {"regions_class_order": order}
        truth = np.zeros(SHAPE, dtype=np.uint8)
        for value, box in BLOCKS.items():
            truth[box.slices] = value
        for name in ("imagesTr", "labelsTr"):
            (folder / name).mkdir(parents=True)
        (folder / "dataset.json").write_text(json.dumps(description))
        for case in ("p", "q"):
            write_image(
                np.where(truth > 0, 40, -800).astype(np.int16), GRID, folder / "imagesTr" / f"{case}_0000.nii.gz"
            )
            write_image(truth, GRID, folder / "labelsTr" / f"{case}.nii.gz")
        return folder, truth

    return write


def sure_of(truth, labels, order):
    """Probabilities (C, Z, Y, X) of a network of these labels that knows the truth."""
    manager = LabelManager(labels, order)
    parts = manager.foreground_regions if manager.has_regions else manager.all_labels
    return np.stack([np.isin(truth, part) for part in parts]).astype(np.float32)


def request(**changes):
    return replace(nnc.TrainingRequest.of_preset(501, "bundle", device="cpu"), **changes)


def predicted(truth, labels, order, names):
    """The mask of a stage 1 that is sure of the truth, by the names that a bundle stores."""
    model, description = StageModel.__new__(StageModel), {"labels": labels, "regions_class_order": order}
    logits = torch.logit(torch.from_numpy(sure_of(truth, labels, order)), eps=1e-4)
    model._predictor = SimpleNamespace(
        label_manager=LabelManager(labels, order),
        plans_manager=SimpleNamespace(transpose_forward=(0, 1, 2), transpose_backward=(0, 1, 2)),
        predict_logits_from_preprocessed_data=lambda _: logits,
        averages_probabilities=False,
        moved_results=False,
    )
    model._tumor_channels = tumor_channels(description, names, where="model")
    model._threshold, model._folder, model.sampling = 0.5, "stage1", None
    return model.predict_coarse(Prepared(np.zeros((1, *SHAPE), np.float32), SHAPE, Box.whole(SHAPE))).mask


def proposals_that_say(mask, source, splits, tumor):
    """What a stage 1 proposes out of fold that finds this mask in both patients."""
    model = source.parent.parent / "model"
    for fold, case in enumerate("pq"):
        folder = model / f"fold_{fold}" / "proposals"
        folder.mkdir(parents=True)
        write_image(mask.astype(np.uint8), GRID, folder / f"{case}.nii.gz")
        write_image(mask.astype(np.float32), GRID, folder / f"{case}_probability.nii.gz")
    return ProposalRequest(
        source=source, splits=splits, model=model, spec=nnc.CascadeSpec(), thresholds=(0.5,), tumor_labels=tumor
    )


@pytest.mark.parametrize(
    ("labels", "order", "asked", "names", "tumor"),
    [
        (NODES, None, ("1", "2"), ("primary", "nodes"), (1, 2)),
        (NODES, None, ("nodes", "primary"), ("primary", "nodes"), (1, 2)),
        (NODES, None, ("2",), "nodes", (2,)),
        (REGIONS, [3, 1, 2], ("1", "2"), "tumor", (1, 2)),
        (REGIONS, [3, 1, 2], ("tumor",), "tumor", (1, 2)),
        (REGIONS, [3, 1, 2], ("nodes",), "nodes", (2,)),
    ],
)
def test_boxes_prediction_and_scores_look_at_the_same_voxels(raw, labels, order, asked, names, tumor):
    folder, truth = raw(labels, order)
    expected = np.isin(truth, tumor)
    values = dataset_tumor(501, asked)
    assert (values, tumor_label(request(tumor_labels=values))) == (tumor, names)
    # prediction
    stored = nnc.StageSettings(tumor_label=names).tumor_names
    proposed = predicted(truth, labels, order, stored)
    np.testing.assert_array_equal(proposed, expected)
    # boxes and crops of training
    splits = [{"train": ["q"], "val": ["p"]}, {"train": ["p"], "val": ["q"]}]
    anatomy = nnc.AnatomySettings(min_volume_mm3=0.0)
    task = RoiDatasetRequest(
        source=folder,
        target=folder.with_name("Dataset601_LabelsROI"),
        splits=splits,
        proposals=proposals_that_say(proposed, folder, splits, values),
        tumor_labels=values,
        anatomy=anatomy,
        roi=nnc.RoiSettings(margin_mm=0.0),
        jitter_mm=0.0,
        context_mm=(2.0, 2.0, 2.0),
    )
    rois = make_roi_dataset(task)
    found = {(roi.patient, roi.cut_at): roi.kind for roi in rois}
    assert set(found) == {(case, BLOCKS[value].start) for case in "pq" for value in tumor}
    crops = [read_volume(path).array for path in sorted((task.target / "labelsTr").iterdir())]
    assert sum(crop.sum() for crop in crops) == 2 * expected.sum()
    cut = json.loads((task.target / "dataset.json").read_text())["nnunet_cascade_cut_from"]
    assert cut == {"dataset": folder.name, "tumor_labels": list(tumor)}
    # scores
    np.testing.assert_array_equal(true_tumor(task.proposals, "p", GRID), expected)
    labels_of = read_labels(folder / "labelsTr" / "p.nii.gz", GRID, what="label")
    np.testing.assert_array_equal(TumorLabel.of(folder / "labelsTr", asked).mask(labels_of), expected)


@pytest.mark.parametrize(
    ("labels", "order", "values", "error", "message"),
    [
        (NODES, None, (), SettingsError, "has the labels primary, nodes, heart; say which is tumor"),
        (NODES, None, (1, 7), SettingsError, "has no label '7'; found primary, nodes, heart"),
        (NODES, None, (0, 1), SettingsError, "has no label '0'"),
        (REGIONS, [3, 1, 2], (1,), SettingsError, r"no region is exactly 1; found chest \[1, 2, 3\], tumor \[1, 2\]"),
    ],
)
def test_what_is_not_one_tumor_is_refused_before_anything_is_made(raw, tmp_path, labels, order, values, error, message):
    folder, _ = raw(labels, order)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=message):
        nnc.train_cascade(request(tumor_labels=values))
    if values:
        target = folder.with_name("Dataset601_LabelsROI")
        with pytest.raises(error, match=message):
            make_roi_dataset(RoiDatasetRequest(source=folder, target=target, splits=[], tumor_labels=values))
    assert sorted(tmp_path.rglob("*")) == before


def test_the_only_label_needs_no_name(raw):
    raw({"background": 0, "tumor": [1, 2, 3]}, [1])
    asked = with_tumor_values(request())
    assert (asked.tumor_labels, tumor_label(asked), tumor_label(request())) == ((1, 2, 3), "", "")


def test_commands_ask_which_of_several_labels_is_tumor(raw):
    raw(NODES)
    with pytest.raises(CascadeError, match="say which is tumor by --tumor_label"):
        dataset_tumor(501, ())
