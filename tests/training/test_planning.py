"""Plans of our own, made from nnU-Net's."""

import copy
import json

import numpy as np
import pytest
import torch
from nnunetv2.preprocessing.normalization.default_normalization_schemes import CTNormalization
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from nnunet_cascade.cli import plan
from nnunet_cascade.errors import DatasetError, SettingsError
from nnunet_cascade.prediction.edge_channel import EDGE_CHANNEL
from nnunet_cascade.settings.serialization import to_json
from nnunet_cascade.settings.training import BLOCK, TrainingSettings
from nnunet_cascade.training import planning
from nnunet_cascade.training.crop_plan import read_crop_plan
from nnunet_cascade.training.edge_scale import with_edge_scale
from nnunet_cascade.training.planning import PlanRequest, adapted, write_plans

RESAMPLING = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
STOCK = {
    "plans_name": "nnUNetPlans",
    "foreground_intensity_properties_per_channel": {
        "0": {"mean": -40.0, "std": 90.0, "percentile_00_5": -900.0, "percentile_99_5": 200.0, "max": 900.0}
    },
    "configurations": {
        "2d": {"spacing": [1.0, 1.0], "data_identifier": "nnUNetPlans_2d"},
        "3d_fullres": {
            "data_identifier": "nnUNetPlans_3d_fullres",
            "spacing": [1.0, 1.0, 1.0],
            "patch_size": [96, 128, 128],
            "batch_size": 2,
            **{f"resampling_fn_{what}_kwargs": dict(RESAMPLING) for what in ("data", "seg", "probabilities")},
            "architecture": {
                "arch_kwargs": {
                    "n_stages": 6,
                    "features_per_stage": [32, 64, 128, 256, 320, 320],
                    "strides": [[1, 1, 1]] + [[2, 2, 2]] * 5,
                    "kernel_sizes": [[3, 3, 3]] * 6,
                    "n_conv_per_stage": [2] * 6,
                    "n_conv_per_stage_decoder": [2] * 5,
                }
            },
        },
    },
}  # fmt: skip


def planned(path):
    """The one configuration of a plans file."""
    (configuration,) = json.loads(path.read_text())["configurations"].values()
    return configuration


def adapt(**changes):
    return adapted(STOCK, PlanRequest(name="Ours", **changes))


def test_plans_get_a_name_and_a_data_identifier_of_their_own():
    plans = adapt()
    assert plans["plans_name"] == "Ours"
    assert plans["configurations"]["3d_fullres"]["data_identifier"] == "Ours_3d_fullres"
    assert list(plans["configurations"]) == ["3d_fullres"]


def test_nnunets_plans_are_left_unchanged():
    before = copy.deepcopy(STOCK)
    adapt(window_hu=(-1000, 400), patch_size=(32, 32, 32), features=(8, 16), batch_size=1)
    assert before == STOCK


@pytest.mark.parametrize(("spacing", "separate_z"), [([1.0, 1.0, 1.0], False), ([3.0, 1.0, 1.0], None)])
def test_isotropic_plans_resample_all_axes_alike_and_others_as_nnunet_does(spacing, separate_z):
    stock = copy.deepcopy(STOCK)
    stock["configurations"]["3d_fullres"]["spacing"] = spacing
    configuration = adapted(stock, PlanRequest(name="Ours"))["configurations"]["3d_fullres"]
    for what in ("data", "seg", "probabilities"):
        assert configuration[f"resampling_fn_{what}_kwargs"]["force_separate_z"] is separate_z


def test_a_window_clips_and_scales_to_plus_minus_one():
    properties = adapt(window_hu=(-1000.0, 400.0))["foreground_intensity_properties_per_channel"]["0"]
    assert (properties["percentile_00_5"], properties["percentile_99_5"]) == (-1000.0, 400.0)
    assert (-1000.0 - properties["mean"]) / properties["std"] == -1
    assert (400.0 - properties["mean"]) / properties["std"] == 1
    assert properties["max"] == 900.0


def test_the_settings_block_holds_every_setting():
    block = adapt(training={"epochs": 3, "mc_samples": 5})[BLOCK]
    assert TrainingSettings.from_plans({BLOCK: block}) == TrainingSettings(epochs=3, mc_samples=5)
    assert "dropout" in block


@pytest.mark.parametrize(
    ("patch", "features", "stages", "legal"),
    [
        ((32, 32, 32), (8, 16, 32), 3, [32, 32, 32]),
        ((32, 32, 32), (8, 16, 32, 64, 64, 64, 64), 4, [32, 32, 32]),
        ((33, 32, 32), (8, 16, 32), 3, [36, 32, 32]),
    ],
)
def test_a_network_has_as_many_stages_as_a_legal_patch_and_features_allow(patch, features, stages, legal):
    configuration = adapt(patch_size=patch, features=features)["configurations"]["3d_fullres"]
    kwargs = configuration["architecture"]["arch_kwargs"]
    assert configuration["patch_size"] == legal
    assert kwargs["n_stages"] == stages
    for key in ("features_per_stage", "strides", "kernel_sizes", "n_conv_per_stage"):
        assert len(kwargs[key]) == stages
    assert len(kwargs["n_conv_per_stage_decoder"]) == stages - 1


def test_the_edge_channel_has_a_fixed_scale_and_the_ct_keeps_its_own():
    stock = copy.deepcopy(STOCK)
    stock["foreground_intensity_properties_per_channel"]["1"] = {"mean": 9.0, "std": 9.0, "max": 900.0}
    both = {"normalization_schemes": ["CTNormalization", "ZScoreNormalization"], "use_mask_for_norm": [False, True]}
    stock["configurations"]["3d_fullres"] |= both
    ours = adapted(stock, PlanRequest(name="Ours", window_hu=(-1000.0, 400.0)))
    assert with_edge_scale(ours, {"channel_names": {"0": "CT", "1": "PET"}}) == ours
    scaled = with_edge_scale(ours, {"channel_names": {"0": "CT", "1": EDGE_CHANNEL}})
    configuration = scaled["configurations"]["3d_fullres"]
    assert configuration["normalization_schemes"] == ["CTNormalization"] * 2
    assert configuration["use_mask_for_norm"] == [False, False]
    of_channel = scaled["foreground_intensity_properties_per_channel"]
    assert of_channel["0"] == ours["foreground_intensity_properties_per_channel"]["0"]
    edges = np.array([0.0, 150.0, 2000.0], dtype=np.float32)
    np.testing.assert_allclose(CTNormalization(False, of_channel["1"]).run(edges), [0.0, 1.5, 10.0], rtol=1e-6)


def test_an_unknown_configuration_is_named():
    with pytest.raises(DatasetError, match="no 3d_lowres; they have 2d, 3d_fullres"):
        adapt(configuration="3d_lowres")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "nnUNetPlans"}, "baseline"),
        ({"name": "a/b"}, ""),
        ({"spacing_mm": (0, 1, 1)}, ""),
        ({"window_hu": (4, 4)}, ""),
        ({"batch_size": 0}, ""),
        ({"training": {"epochs": 0}}, ""),
        ({"training": {"epoch": 1}}, ""),
    ],
)
def test_a_request_out_of_range_is_refused(wrong, message):
    with pytest.raises(SettingsError, match=message or None):
        PlanRequest(**{"name": "Ours", **wrong})


def test_plans_are_on_the_grid_they_ask_for(datasets):
    tiny = {"features": (4, 8), "batch_size": 1}
    coarse = PlanRequest(name="Coarse", grid="coarse", patch_size=(16, 16, 16), **tiny)
    found = planned(write_plans(501, coarse))
    assert (found["spacing"], found["patch_size"]) == ([7.9] * 3, [16, 16, 16])
    small = {"patch_size": (16, 16, 16), **tiny}
    assert planned(write_plans(501, PlanRequest(name="Fine", grid="fine", **small)))["spacing"] == [3.0] * 3
    # Crops of patients with thin slices are many: the grid is not theirs but that of the images.
    assert planned(write_plans(601, PlanRequest(name="Fine", grid="fine", **small)))["spacing"] == [3.0] * 3
    with pytest.raises(DatasetError, match="dataset 601 holds crops"):
        write_plans(601, coarse)
    (datasets / "Dataset501_X" / "dataset_fingerprint.json").unlink()
    with pytest.raises(DatasetError, match="crops have the grid of the dataset they were cut from"):
        write_plans(601, PlanRequest(name="Fine", grid="fine", **small))


@pytest.mark.usefixtures("datasets")
def test_the_patch_of_the_search_is_the_one_that_is_planned(monkeypatch):
    asked = {}
    search = planning.coarse_spacing_mm
    kept = lambda images, patch_at: search(images, lambda edge: asked.setdefault(edge, patch_at(edge)))  # noqa: E731
    monkeypatch.setattr(planning, "coarse_spacing_mm", kept)
    found = planned(write_plans(501, PlanRequest(name="Coarse", grid="coarse")))
    assert asked == {found["spacing"][0]: tuple(found["patch_size"])}


def test_plans_that_are_written_scale_the_edge_channel(datasets):
    described = datasets.parent / "nnUNet_raw" / "Dataset601_XROI" / "dataset.json"
    content = json.loads(described.read_text())
    described.write_text(json.dumps({**content, "channel_names": {"0": "CT", "1": EDGE_CHANNEL}}))
    request = PlanRequest(name="Edges", spacing_mm=(3, 3, 3), patch_size=(16, 16, 16), features=(4, 8))
    assert planned(write_plans(601, request))["normalization_schemes"] == ["CTNormalization"] * 2


@pytest.mark.usefixtures("datasets")
def test_a_planner_of_nnunets_is_found_by_name_and_its_residual_network_takes_the_patch_asked_for():
    asked = {"spacing_mm": (6, 6, 6), "patch_size": (16, 16, 32), "features": (4, 8, 8, 8, 8)}
    request = PlanRequest(name="ResEnc", planner="nnUNetPlannerResEncM", gpu_memory_target_gb=4.0, **asked)
    path = write_plans(501, request)
    assert json.loads(path.read_text())["experiment_planner_used"] == "nnUNetPlannerResEncM"
    architecture = planned(path)["architecture"]
    kwargs = architecture["arch_kwargs"]
    assert architecture["network_class_name"].endswith(".ResidualEncoderUNet")
    assert planned(path)["patch_size"] == [16, 16, 32]
    assert (kwargs["n_blocks_per_stage"], kwargs["n_conv_per_stage_decoder"]) == ([1, 3, 4], [1, 1])
    network = get_network_from_plans(
        architecture["network_class_name"], kwargs, architecture["_kw_requires_import"], 1, 2, deep_supervision=False
    )
    assert network(torch.zeros(1, 1, 16, 16, 32)).shape == (1, 2, 16, 16, 32)


@pytest.mark.usefixtures("datasets")
def test_less_memory_is_a_smaller_patch():
    sizes = [
        np.prod(planned(write_plans(501, PlanRequest(name="Memory", gpu_memory_target_gb=memory)))["patch_size"])
        for memory in (0.1, 1.0)
    ]
    assert sizes[0] < sizes[1]


@pytest.mark.usefixtures("datasets")
@pytest.mark.parametrize("wrong", ["nnUNetPlannerResEncS", "DatasetFingerprintExtractor", "os.path"])
def test_a_planner_that_nnunet_has_not_is_one_clear_line(wrong, capsys):
    assert plan.main(["-d", "501", "-pl", wrong]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"nnc-plan: nnU-Net has no planner {wrong}; expected one such as ExperimentPlanner, nnUNet")
    assert error.count("\n") == 1


def test_plans_of_crops_take_over_the_plan_that_the_crops_were_cut_for(datasets):
    request = PlanRequest(name="Fine", grid="fine", max_patch_mm=50.0, features=(4, 8, 8))
    ahead = write_plans(501, request)
    manifest = datasets.parent / "nnUNet_raw" / "Dataset601_XROI" / "roi_manifest.json"
    provenance = {"source": "Dataset501_X", "plan": to_json(read_crop_plan(ahead))}
    manifest.write_text(json.dumps({"version": 1, "provenance": provenance, "rois": {}}))
    for asked in (request, PlanRequest(name="Fine", batch_size=3), PlanRequest(name="Fine", spacing_mm=(3, 3, 3))):
        found = planned(write_plans(601, asked))
        for name in ("spacing", "patch_size", "architecture"):
            assert found[name] == planned(ahead)[name]
    other = planned(write_plans(601, PlanRequest(name="Fine", spacing_mm=(2, 2, 2), patch_size=(8, 8, 8))))
    assert (other["spacing"], other["patch_size"]) == ([2.0] * 3, [8, 8, 8])
