"""The CT's edge magnitude, and a stage 2 that is given it."""

import json

import numpy as np
import pytest
from builders.cascade_commands import TRAIN_CASCADE, run
from hypothesis import given
from hypothesis import strategies as st

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.images import read_volume
from nnunet_cascade.prediction.edge_channel import EDGE_CHANNEL, edge_magnitude, with_edge_channel

WITH_EDGES = 603


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (5.0, 0.7, 0.9)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_edge_magnitude_of_a_slope_is_its_steepness_per_mm(axis, spacing_mm):
    places = np.indices((13, 24, 24))[axis] * spacing_mm[axis]
    found = edge_magnitude((-30.0 * places).astype(np.float32), spacing_mm, sigma_mm=1.0)
    assert found.dtype == np.float32
    middle = tuple(slice(6, -6) for _ in range(3))
    np.testing.assert_allclose(found[middle], 30.0, rtol=1e-4)


def test_an_even_image_has_no_edge():
    found = edge_magnitude(np.full((4, 1, 5), -800.0, dtype=np.float32), (1.0, 2.0, 3.0))
    np.testing.assert_array_equal(found, 0)


def test_an_edge_is_steepest_where_it_lies_and_less_steep_the_more_it_is_smoothed():
    image = np.zeros((1, 1, 21), dtype=np.float32)
    image[..., 10:] = 1000.0
    sharp, smooth = (edge_magnitude(image, (1.0, 1.0, 1.0), sigma_mm=sigma)[0, 0] for sigma in (1.0, 3.0))
    assert sharp.argmax() in (9, 10)
    assert sharp[[9, 10]] == pytest.approx([sharp[9]] * 2)
    assert smooth.max() < sharp.max()
    # A step smoothed with sigma has the slope height / (sigma sqrt(2 pi)) at its middle, half a voxel from either.
    assert smooth.max() == pytest.approx(1000 / (3 * np.sqrt(2 * np.pi)), rel=0.05)


@given(order=st.permutations(range(3)), axis=st.integers(0, 2), shift=st.sampled_from([-1000.0, 0.0, 250.0]))
def test_the_edge_magnitude_goes_with_the_image(order, axis, shift):
    image = np.random.default_rng(3).normal(0, 100, (5, 6, 7)).astype(np.float32)
    spacing_mm = (3.0, 0.8, 1.1)
    plain = edge_magnitude(image, spacing_mm)
    turned = np.flip(image.transpose(order), axis) + np.float32(shift)
    found = edge_magnitude(turned, tuple(spacing_mm[n] for n in order))
    np.testing.assert_allclose(found, np.flip(plain.transpose(order), axis), atol=1e-3)


@pytest.mark.parametrize("sigma_mm", [-1.0, float("nan"), float("inf")])
def test_a_blur_that_is_none_is_refused(sigma_mm):
    with pytest.raises(SettingsError, match="sigma_mm"):
        edge_magnitude(np.zeros((2, 2, 2), dtype=np.float32), (1.0, 1.0, 1.0), sigma_mm=sigma_mm)


def test_the_channel_stands_behind_the_image():
    image = np.random.default_rng(0).normal(0, 100, (4, 5, 6)).astype(np.float32)
    both = with_edge_channel(image, (2.0, 1.0, 1.0))
    assert both.dtype == np.float32
    np.testing.assert_array_equal(both[0], image)
    np.testing.assert_array_equal(both[1], edge_magnitude(image, (2.0, 1.0, 1.0)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
class TestStage2WithEdges:
    @pytest.fixture(scope="class", autouse=True)
    def bundle(self, tiny_cascade):
        """A second cascade on the same stage 1, whose stage 2 is given the edges."""
        arguments = ["--edge_channel", *TRAIN_CASCADE]
        arguments[arguments.index("--roi_dataset") + 1] = str(WITH_EDGES)
        run("nnc-train-cascade", "-o", tiny_cascade.root / "with_edges", *arguments)
        return tiny_cascade.root / "with_edges"

    def test_its_crops_have_the_edges_of_the_crop_as_second_channel(self, tiny_cascade):
        raw = next((tiny_cascade.root / "nnUNet_raw").glob(f"Dataset{WITH_EDGES}_*"))
        assert json.loads((raw / "dataset.json").read_text())["channel_names"] == {"0": "CT", "1": EDGE_CHANNEL}
        for path in sorted((raw / "imagesTr").glob("*_0000.nii.gz")):
            ct, edges = read_volume(path), read_volume(path.with_name(path.name.replace("_0000", "_0001")))
            assert ct.grid.difference(edges.grid) is None
            expected = edge_magnitude(ct.array.astype(np.float32), ct.grid.spacing_mm)
            np.testing.assert_allclose(edges.array, expected, atol=1e-3)

    def test_it_predicts(self, tiny_cascade, bundle, tmp_path):
        options = ("-m", bundle, "-device", "cpu", "--mc_samples", "2", "--stage1_predictions")
        run(
            "nnc-cascade-predict",
            "-i",
            tiny_cascade.test_image,
            "-o",
            tmp_path,
            *options,
            tiny_cascade.test_truth.parent,
        )
        record = json.loads(next(tmp_path.glob("phantom_*.json")).read_text())
        assert record["rois"]
        assert read_volume(next(tmp_path.glob("*uncertainty*.nii.gz"))).array.max() > 0
