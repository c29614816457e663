"""The lean preprocessing gives what nnU-Net's own does."""

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_cascade.prediction import preprocessing
from nnunet_cascade.prediction.edge_channel import with_edge_channel
from nnunet_cascade.prediction.preprocessing import preprocess

SPACING_MM = (3.0, 1.1, 0.9)
WINDOW = {"mean": -120.3, "std": 311.7, "percentile_00_5": -983.2, "percentile_99_5": 271.6}


def predictor(
    *, spacing=(2.5, 2.5, 2.5), separate=False, forward=(0, 1, 2), schemes=("CTNormalization",), masked=False
):
    """What the preprocessing looks at of a loaded predictor."""
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": separate}
    configuration = {
        "architecture": {},
        "preprocessor_name": "DefaultPreprocessor",
        "spacing": list(spacing),
        "normalization_schemes": list(schemes),
        "use_mask_for_norm": [masked] * len(schemes),
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True, "order": 1},
    }
    plans = PlansManager(
        {
            "transpose_forward": list(forward),
            "transpose_backward": list(np.argsort(forward)),
            "foreground_intensity_properties_per_channel": {str(number): WINDOW for number in range(len(schemes))},
            "configurations": {"3d": configuration},
        }
    )
    return SimpleNamespace(plans_manager=plans, configuration_manager=plans.get_configuration("3d"), dataset_json={})


def of_nnunet(channels, made):
    properties = {"spacing": list(SPACING_MM)}
    data, _, properties = DefaultPreprocessor(verbose=False).run_case_npy(
        channels, None, properties, made.plans_manager, made.configuration_manager, {}
    )
    return data, properties


@pytest.fixture
def image(rng):
    return rng.normal(-300, 400, (14, 31, 37)).astype(np.float32)


def bordered(image):
    """With zeros all around, and a hole of zeros inside."""
    inner = image.copy()
    inner[:2] = inner[:, -3:] = inner[:, :, :5] = 0
    inner[6:8, 10:14, 12:15] = 0
    return inner


PLANS = {
    "isotropic": {},
    "finer": {"spacing": (1.0, 1.0, 1.0)},
    "stock, thick slices apart": {"separate": None, "spacing": (3.0, 0.7, 0.7)},
    "transposed": {"forward": (2, 0, 1)},
    "turned and apart": {"forward": (1, 2, 0), "separate": None, "spacing": (0.7, 0.7, 4.0)},
    "its own spacing": {"spacing": SPACING_MM},
    "no normalization": {"schemes": ("NoNormalization",)},
    "with the edge channel": {"schemes": ("CTNormalization", "CTNormalization")},
}
DRAWN = {
    "whole": lambda image: image,
    "zeros around": bordered,
    "a flipped view": lambda image: bordered(image)[::-1, :, ::-1],
}


@pytest.mark.parametrize("plans", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_the_tensor_is_nnunets(image, plans, draw, monkeypatch):
    made, drawn = predictor(**plans), draw(image)
    channels = with_edge_channel(drawn, SPACING_MM) if len(plans.get("schemes", ())) == 2 else drawn[None]
    before = channels.copy()
    expected, properties = of_nnunet(channels, made)
    monkeypatch.setattr(preprocessing, "_by_nnunet", None)
    found = preprocess(channels, SPACING_MM, made)
    # Where a spline's sums are taken in another order, the last bit may differ.
    atol = 5e-7 if plans.get("separate", False) is False else 0
    np.testing.assert_allclose(found.data, expected, rtol=0, atol=atol)
    assert found.data.dtype == expected.dtype
    assert found.whole == tuple(properties["shape_before_cropping"])
    assert [[a, b] for a, b in zip(found.box.start, found.box.stop, strict=True)] == [
        list(bound) for bound in properties["bbox_used_for_cropping"]
    ]
    np.testing.assert_array_equal(channels, before)


def test_no_more_than_a_slice_is_held_in_double_precision(rng):
    """Peak of what NumPy allocates: the slices at their new size and the result, not the image."""
    image = rng.normal(-300, 400, (40, 200, 200)).astype(np.float32)
    made = predictor(spacing=(7.5, 5.5, 4.5))
    tracemalloc.start()
    preprocess(image[None], SPACING_MM, made)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < image.nbytes


@pytest.mark.parametrize("masked", [False, True])
def test_a_normalization_that_may_ask_for_a_mask_is_left_to_nnunet(image, masked):
    made = predictor(schemes=("ZScoreNormalization",), masked=masked)
    channels = bordered(image)[None]
    expected, _ = of_nnunet(channels, made)
    np.testing.assert_array_equal(preprocess(channels, SPACING_MM, made).data, expected)
