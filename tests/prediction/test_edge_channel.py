"""The CT's edge magnitude, and a stage 2 that is given it."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from builders.cascade_commands import DATASET, TRAIN_CASCADE, run
from hypothesis import given
from hypothesis import strategies as st

from nnunet_cascade.bundles.bundle import read_spec
from nnunet_cascade.cli import roi_dataset
from nnunet_cascade.images import read_volume
from nnunet_cascade.prediction.edge_channel import EDGE_CHANNEL, edge_magnitude, with_edge_channel
from nnunet_cascade.prediction.stage_model import StageModel

CPU = torch.device("cpu")
WITH_EDGES = 603


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (5.0, 0.7, 0.9)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_edge_magnitude_of_a_slope_is_its_steepness_per_mm(axis, spacing_mm):
    places = np.indices((13, 24, 24))[axis] * spacing_mm[axis]
    found = edge_magnitude((-30.0 * places).astype(np.float32), spacing_mm)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[tuple(slice(6, -6) for _ in range(3))], 30.0, rtol=1e-4)


def test_an_even_image_has_no_edge():
    found = edge_magnitude(np.full((4, 1, 5), -800.0, dtype=np.float32), (1.0, 2.0, 3.0))
    np.testing.assert_array_equal(found, 0)


def test_an_edge_is_steepest_where_it_lies():
    image = np.zeros((1, 1, 60), dtype=np.float32)
    image[..., 30:] = 1000.0
    found = edge_magnitude(image, (1.0, 1.0, 0.25))[0, 0]
    assert found.argmax() in (29, 30)
    assert found[29] == pytest.approx(found[30])
    # A step smoothed with sigma has the slope height / (sigma sqrt(2 pi)) at its middle, half a voxel from either.
    assert found.max() == pytest.approx(1000 / np.sqrt(2 * np.pi), rel=0.02)


@given(order=st.permutations(range(3)), axis=st.integers(0, 2), shift=st.sampled_from([-1000.0, 0.0, 250.0]))
def test_the_edge_magnitude_goes_with_the_image(order, axis, shift):
    image = np.random.default_rng(3).normal(0, 100, (5, 6, 7)).astype(np.float32)
    spacing_mm = (3.0, 0.8, 1.1)
    plain = edge_magnitude(image, spacing_mm)
    turned = np.flip(image.transpose(order), axis) + np.float32(shift)
    found = edge_magnitude(turned, tuple(spacing_mm[n] for n in order))
    np.testing.assert_allclose(found, np.flip(plain.transpose(order), axis), atol=1e-3)


def test_the_channel_stands_behind_the_image():
    image = np.random.default_rng(0).normal(0, 100, (4, 5, 6)).astype(np.float32)
    both = with_edge_channel(image, (2.0, 1.0, 1.0))
    assert both.dtype == np.float32
    np.testing.assert_array_equal(both[0], image)
    np.testing.assert_array_equal(both[1], edge_magnitude(image, (2.0, 1.0, 1.0)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
class TestStage2WithEdges:
    def test_its_crops_have_the_edges_of_the_crop_as_second_channel(self, tiny_cascade, capsys):
        numbers = ["-d", str(DATASET), "-o", str(WITH_EDGES), "--context_mm", "96", "96", "96"]
        assert roi_dataset.main([*numbers, "--edge_channel"]) == 0
        told = capsys.readouterr().out
        assert "ground_truth" in told
        assert "next: nnc-plan" in told
        raw = next((tiny_cascade.root / "nnUNet_raw").glob(f"Dataset{WITH_EDGES}_*"))
        assert json.loads((raw / "dataset.json").read_text())["channel_names"] == {"0": "CT", "1": EDGE_CHANNEL}
        for path in sorted((raw / "imagesTr").glob("*_0000.nii.gz")):
            ct, edges = read_volume(path), read_volume(path.with_name(path.name.replace("_0000", "_0001")))
            assert ct.grid.difference(edges.grid) is None
            expected = edge_magnitude(ct.array.astype(np.float32), ct.grid.spacing_mm)
            np.testing.assert_allclose(edges.array, expected, atol=1e-3)

    def test_its_network_sees_the_edges(self, tiny_cascade, image, tmp_path):
        """A first convolution that gives the edges no weight predicts what the model without edges does."""
        settings = replace(read_spec(tiny_cascade.bundle).stage2, folds=(0,))
        crop = image.array[10:40, 10:40, 10:40].astype(np.float32)
        plain = predicted(tiny_cascade.bundle / "stage2", settings, crop, image.grid)
        for weight in (0.0, 1.0):
            folder = with_edges(tiny_cascade.bundle / "stage2", tmp_path / str(weight), weight)
            found = predicted(folder, settings, crop, image.grid)
            assert np.allclose(found, plain, atol=1e-5) == (weight == 0)

    @pytest.mark.long
    def test_it_is_trained_and_predicts(self, tiny_cascade, tmp_path):
        arguments = ["--edge_channel", *TRAIN_CASCADE]
        arguments[arguments.index("--roi_dataset") + 1] = str(WITH_EDGES + 1)
        run("nnc-train-cascade", "-o", tmp_path / "bundle", *arguments)
        places = ["-i", tiny_cascade.test_image, "-o", tmp_path / "out", "-m", tmp_path / "bundle"]
        options = ["--mc_samples", "2", "--stage1_predictions", tiny_cascade.test_truth.parent, "-device", "cpu"]
        run("nnc-cascade-predict", *places, *options)
        assert json.loads(next((tmp_path / "out").glob("phantom_*.json")).read_text())["rois"]
        assert read_volume(next((tmp_path / "out").glob("*uncertainty*.nii.gz"))).array.max() > 0


def predicted(folder, settings, crop, grid):
    return StageModel(folder, settings, device=CPU).predict_roi(crop, grid.spacing_mm, seed=0).probability


def with_edges(model, target, weight):
    """Copy a model so that it takes the edge channel too, with weights that are those of the CT times `weight`."""
    shutil.copytree(model, target)
    dataset, plans = (json.loads((target / name).read_text()) for name in ("dataset.json", "plans.json"))
    dataset["channel_names"]["1"] = EDGE_CHANNEL
    (target / "dataset.json").write_text(json.dumps(dataset))
    of_channel = plans["foreground_intensity_properties_per_channel"]
    of_channel["1"] = of_channel["0"]
    for configuration in plans["configurations"].values():
        for name in ("normalization_schemes", "use_mask_for_norm"):
            configuration[name] = configuration[name] * 2
    (target / "plans.json").write_text(json.dumps(plans))
    path = target / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(path, weights_only=False)
    for name, value in checkpoint["network_weights"].items():
        if value.ndim == 5 and value.shape[1] == 1:
            checkpoint["network_weights"][name] = torch.cat([value, weight * value], dim=1)
    torch.save(checkpoint, path)
    return target
