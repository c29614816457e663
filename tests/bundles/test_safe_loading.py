"""A model from elsewhere gives numbers, not orders."""

import os
import subprocess
from collections import OrderedDict
from functools import reduce
from operator import getitem

import numpy as np
import pytest
import torch
from builders import malicious_files as evil
from builders.malicious_files import RunsShell, change_configuration, change_json, poison_checkpoint
from builders.tiny_plans import RESIDUAL, write_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_cascade._startup import register
from nnunet_cascade.bundles.bundle import load_cascade
from nnunet_cascade.errors import BundleError
from nnunet_cascade.nnunet_folders import read_json
from nnunet_cascade.prediction.allowlist import known_trainer, require_known_names
from nnunet_cascade.prediction.model_files import Checkpoint, load_members, takes_edges, tumor_channels
from nnunet_cascade.prediction.spec import StageSettings
from nnunet_cascade.uncertainty.sliding_window import SlidingWindowPredictor

CPU = torch.device("cpu")
TORCH_RESAMPLING = {"resampling_fn_data": "resample_torch_fornnunet", "resampling_fn_data_kwargs": {"num_threads": "x"}}
CALLED = "recursive_find_python_class"
CONFIGURATION = ("plans.json", "configurations", "3d_fullres")
PLACES = {
    "plans": ("plans.json",),
    "dataset": ("dataset.json",),
    "configuration": CONFIGURATION,
    "architecture": (*CONFIGURATION, "architecture"),
    "layers": (*CONFIGURATION, "architecture", "arch_kwargs"),
    "resampling": (*CONFIGURATION, "resampling_fn_seg_kwargs"),
}
# nnU-Net warns where its variables are not set and of plans of old releases, MONAI on import.
pytestmark = pytest.mark.filterwarnings("ignore")


def loaded(folder, *, trusted=False, **settings):
    predictor = SlidingWindowPredictor(device=CPU, step_size=0.5, mirroring=True)
    register()
    load_members(predictor, folder, StageSettings(**settings), trusted=trusted)
    return predictor


def put(folder, place, values):
    """Put values by key into a part of a model's plans, or into its `dataset.json`; `...` takes a key away."""
    file, *keys = PLACES[place]

    def change(content):
        part = reduce(getitem, keys, content)
        part.update(values)
        for key in [key for key, value in values.items() if value is ...]:
            del part[key]

    change_json(folder / file, change)


def refusal(folder, **settings):
    """The one line that a model is refused with."""
    with pytest.raises(BundleError) as caught:
        loaded(folder, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def logits(predictor):
    """What each member says about the same noise."""
    patch = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 1, 24, 24, 32)).astype(np.float32))
    found = []
    for weights in predictor.list_of_parameters:
        predictor.network.load_state_dict(weights)
        with torch.no_grad():
            found.append(predictor.network.eval()(patch))
    return torch.stack(found)


def assert_alike(ours, theirs):
    """Two predictors were loaded alike."""
    assert len(ours.list_of_parameters) == len(theirs.list_of_parameters)
    for mine, other in zip(ours.list_of_parameters, theirs.list_of_parameters, strict=True):
        assert list(mine) == list(other)
        assert all(torch.equal(mine[name], other[name]) for name in mine)
    assert str(ours.network) == str(theirs.network)
    assert ours.configuration_manager.configuration == theirs.configuration_manager.configuration
    assert ours.plans_manager.plans == theirs.plans_manager.plans
    for name in ("dataset_json", "trainer_name", "allowed_mirroring_axes"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert type(ours.label_manager) is type(theirs.label_manager)
    assert torch.equal(logits(ours), logits(theirs))


class TestHonestModels:
    def test_it_is_loaded_as_nnunet_loads_it_also_as_training_left_it(self, tiny_cascade):
        for folder, folds in ((tiny_cascade.bundle / "stage1", (0,)), (tiny_cascade.model(2), (0, 1))):
            assert_alike(loaded(folder, folds=folds), loaded(folder, folds=folds, trusted=True))

    def test_so_are_the_fold_of_all_cases_and_further_checkpoints(self, bundle):
        folder = bundle / "stage2"
        (folder / "fold_1").rename(folder / "fold_all")
        (folder / "fold_all" / "best.pth").write_bytes((folder / "fold_0" / "checkpoint_final.pth").read_bytes())
        settings = {"folds": ("all",), "further_checkpoints": ("best.pth",)}
        ours = loaded(folder, **settings)
        assert len(ours.list_of_parameters) == 2
        assert_alike(ours, loaded(folder, **settings, trusted=True))

    def test_so_are_regions(self, bundle):
        folder = bundle / "stage2"
        labels = {"background": 0, "both": [1, 2], "tumor": 2}
        change_json(folder / "dataset.json", lambda d: d.update(labels=labels, regions_class_order=[1, 2]))
        ours = loaded(folder, tumor_label="tumor")
        assert ours.label_manager.has_regions
        assert_alike(ours, loaded(folder, tumor_label="tumor", trusted=True))

    def test_so_are_several_labels_of_a_tumor(self, bundle):
        labels = {"background": 0, "primary": 1, "nodes": 2}
        put(bundle / "stage1", "dataset", {"labels": labels})
        told = refusal(bundle / "stage1", tumor_label=("primary", "nodes"))
        assert "size mismatch" in told, "a network of two labels, not three"
        put(bundle / "stage1", "dataset", {"labels": {"background": 0, "tumor": 1, "lesion": 1}})
        settings = {"tumor_label": ("tumor", "lesion")}
        assert_alike(loaded(bundle / "stage1", **settings), loaded(bundle / "stage1", **settings, trusted=True))

    def test_so_is_a_trainer_of_nnunets_own(self, bundle):
        evil.rename_trainer(bundle / "stage1", "nnUNetTrainerNoMirroring")
        assert_alike(loaded(bundle / "stage1"), loaded(bundle / "stage1", trusted=True))

    def test_so_are_plans_of_an_old_release(self, bundle):
        def age(configuration):
            arguments = configuration.pop("architecture")["arch_kwargs"]
            configuration.update(
                UNet_class_name="PlainConvUNet",
                UNet_base_num_features=arguments["features_per_stage"][0],
                unet_max_num_features=arguments["features_per_stage"][-1],
                n_conv_per_stage_encoder=arguments["n_conv_per_stage"],
                n_conv_per_stage_decoder=arguments["n_conv_per_stage_decoder"],
                num_pool_per_axis=[1, 1, 1],
                pool_op_kernel_sizes=arguments["strides"],
                conv_kernel_sizes=arguments["kernel_sizes"],
            )

        change_configuration(bundle / "stage2", age)
        assert_alike(loaded(bundle / "stage2"), loaded(bundle / "stage2", trusted=True))

    def test_plans_of_residual_networks_and_torchs_resampling_are_known(self, tmp_path):
        plans = read_json(write_plans(tmp_path, architecture=RESIDUAL))
        resampling = {
            f"resampling_fn_{what}{end}": value
            for what in ("data", "seg", "probabilities")
            for end, value in (("", "resample_torch_fornnunet"), ("_kwargs", {"is_seg": False, "num_threads": 2}))
        }
        plans["configurations"]["3d_fullres"] |= {**resampling, "normalization_schemes": ["ZScoreNormalization"]}
        require_known_names(PlansManager(plans), "3d_fullres", read_json(tmp_path / "dataset.json"), where=tmp_path)

    def test_our_trainers_are_found_without_a_look_at_the_users_folders(self, bundle, canary, tmp_path, monkeypatch):
        evil.write_trainer(tmp_path / "theirs", canary)
        monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path / "theirs"))
        assert known_trainer("UncertaintyROITrainer", where=bundle).__module__ == "nnunet_cascade.trainers.stage2"
        loaded(bundle / "stage2")
        assert not canary.exists()


class TestCheckpoints:
    @pytest.mark.parametrize(
        ("kind", "key", "wanted"),
        [
            (evil.TouchesCanary, "logging", ".mkdir"),
            (RunsShell, "network_weights", ".system"),
            (evil.Evaluates, "extra", "eval"),
        ],
    )
    def test_code_in_it_is_refused_by_name_and_run_only_where_it_is_trusted(self, bundle, canary, kind, key, wanted):
        path = bundle / "stage2" / "fold_0" / "checkpoint_final.pth"
        poison_checkpoint(path, canary, kind=kind, key=key)
        told = refusal(bundle / "stage2")
        assert not canary.exists()
        assert f"{path} asks for " in told
        assert wanted in told
        assert "--trust_checkpoint would allow it, and with it any code" in told
        if key == "logging":
            loaded(bundle / "stage2", trusted=True)
            assert canary.is_dir()

    @pytest.mark.parametrize("name", ["fold_1/checkpoint_final.pth", "fold_0/best.pth"])
    def test_every_member_is_looked_at(self, bundle, canary, name):
        folder = bundle / "stage2"
        (folder / "fold_0" / "best.pth").write_bytes((folder / "fold_0" / "checkpoint_final.pth").read_bytes())
        (folder / "fold_1" / "best.pth").write_bytes((folder / "fold_0" / "checkpoint_final.pth").read_bytes())
        poison_checkpoint(folder / name, canary, kind=RunsShell)
        assert f"{folder / name} asks for" in refusal(folder, folds=(0, 1), further_checkpoints=("best.pth",))
        assert not canary.exists()

    @pytest.mark.parametrize(
        "change",
        [
            {"network_weights": {"a": 1}},
            {"network_weights": [torch.ones(2)]},
            {"trainer_name": 7},
            {"init_args": {}},
            {"init_args": None},
            {"inference_allowed_mirroring_axes": "xyz"},
            {"inference_allowed_mirroring_axes": (0, 7)},
            {"inference_allowed_mirroring_axes": [[0]]},
            {"inference_allowed_mirroring_axes": (0.0,)},
            {"network_weights": {"a": torch.ones(2, device="meta")}},
            {"network_weights": {"a": torch.ones(1).expand(1 << 40)}},
        ],
    )
    def test_what_is_no_checkpoint_of_nnunets_is_refused(self, bundle, change):
        path = bundle / "stage2" / "fold_0" / "checkpoint_final.pth"
        torch.save({**torch.load(path, weights_only=False), **change}, path)
        assert f"{path} is no checkpoint of nnU-Net v2" in refusal(bundle / "stage2")

    def test_weights_of_another_network_are_refused(self, bundle):
        path = bundle / "stage2" / "fold_0" / "checkpoint_final.pth"
        path.write_bytes((bundle / "stage1" / "fold_0" / "checkpoint_final.pth").read_bytes())
        assert "cannot be loaded" in refusal(bundle / "stage2")

    def test_old_formats_are_read_without_running_their_code(self, bundle, canary):
        path = bundle / "stage2" / "fold_0" / "checkpoint_final.pth"
        content = torch.load(path, weights_only=False)
        torch.save(content, path, _use_new_zipfile_serialization=False)
        loaded(bundle / "stage2")
        torch.save({**content, "logging": RunsShell(canary)}, path, _use_new_zipfile_serialization=False)
        assert f"{path} asks for " in refusal(bundle / "stage2")
        assert not canary.exists()

    def test_what_is_written_again_predicts_the_same_and_holds_nothing_else(self, tiny_cascade, tmp_path):
        source = tiny_cascade.model(2) / "fold_0" / "checkpoint_final.pth"
        checkpoint = Checkpoint.read(source)
        checkpoint.write(tmp_path / "bare.pth")
        again = Checkpoint.read(tmp_path / "bare.pth")
        assert {name: getattr(again, name) for name in ("trainer", "configuration", "mirroring_axes")} == {
            "trainer": "UncertaintyROITrainer", "configuration": "3d_fullres", "mirroring_axes": (0, 1, 2)
        }  # fmt: skip
        assert all(torch.equal(value, checkpoint.weights[name]) for name, value in again.weights.items())
        content = torch.load(tmp_path / "bare.pth", weights_only=True)
        assert set(content) == {
            "network_weights", "init_args", "trainer_name", "inference_allowed_mirroring_axes"
        }  # fmt: skip
        assert content["init_args"] == {"configuration": "3d_fullres"}
        assert (tmp_path / "bare.pth").stat().st_size < 0.75 * source.stat().st_size
        names = [list(set_of.values()) for set_of in (checkpoint.weights, again.weights)]
        shared = [[value.data_ptr() for value in values] for values in names]
        assert len(set(shared[0])) == len(set(shared[1])) < len(shared[1])

    def test_nothing_hides_behind_weights(self, bundle, tmp_path):
        path = bundle / "stage2" / "fold_0" / "checkpoint_final.pth"
        honest = Checkpoint.read(path)
        evil.hide_in_checkpoint(path, b"Jane Doe")
        assert b"Jane Doe" in path.read_bytes()
        hiding = Checkpoint.read(path)
        for each, name in ((honest, "honest.pth"), (hiding, "hiding.pth")):
            each.write(tmp_path / name)
        assert b"Jane Doe" not in (tmp_path / "hiding.pth").read_bytes()
        assert (tmp_path / "hiding.pth").stat().st_size == (tmp_path / "honest.pth").stat().st_size
        again = Checkpoint.read(tmp_path / "hiding.pth").weights
        assert all(torch.equal(value, honest.weights[name]) for name, value in again.items())

    def test_dictionaries_whose_methods_are_something_else_are_refused(self, bundle):
        path = bundle / "stage2" / "fold_0" / "checkpoint_final.pth"
        content = OrderedDict(torch.load(path, weights_only=False))
        content.get = "x"
        torch.save(content, path)
        assert f"{path} cannot be read (TypeError" in refusal(bundle / "stage2")

    @pytest.mark.parametrize(("trusted", "length"), [(True, 0), (True, 2000), (False, 100)])
    def test_half_a_checkpoint_is_refused_in_one_line(self, tiny_cascade, tmp_path, trusted, length):
        path = tmp_path / "half.pth"
        path.write_bytes((tiny_cascade.bundle / "stage2/fold_0/checkpoint_final.pth").read_bytes()[:length])
        with pytest.raises(BundleError, match=r"cannot be read .*expected a PyTorch checkpoint, whole") as caught:
            Checkpoint.read(path, trusted=trusted)
        assert "\n" not in str(caught.value)


class TestUnusableModels:
    """What loads and could not predict is refused where it is loaded."""

    @pytest.mark.parametrize(
        ("place", "values", "told"),
        [
            ("plans", {"foreground_intensity_properties_per_channel": ...}, "intensity"),
            ("plans", {"transpose_forward": [7, 8, 9]}, "axes are turned by [7, 8, 9] and back by [0, 1, 2]"),
            ("plans", {"transpose_forward": [1, 2, 0], "transpose_backward": [1, 2, 0]}, "axes are turned"),
            ("configuration", {"patch_size": ...}, "KeyError: 'patch_size'"),
            ("configuration", {"patch_size": "abc"}, "patch_size is 'abc'; expected three sides in voxels"),
            ("configuration", {"patch_size": [8, 8, 0]}, "expected three sides in voxels"),
            ("configuration", {"patch_size": [8, 8]}, "a 2d model"),
            ("configuration", {"spacing": None}, "TypeError"),
            ("configuration", {"spacing": [1, 1, 0]}, "expected three lengths in mm"),
            ("configuration", {"resampling_fn_data_kwargs": ...}, "KeyError: 'resampling_fn_data_kwargs'"),
            ("configuration", {"normalization_schemes": []}, "IndexError"),
            ("configuration", TORCH_RESAMPLING, "set_num_threads"),
            ("dataset", {"labels": {"background": 0, "tumor": 9}}, "the tumor is label 9, of 2; expected labels"),
            ("dataset", {"labels": {"background": 0, "tumor": -1}}, "the tumor is label -1"),
            ("dataset", {"labels": {"background": 0, "tumor": "x"}}, "cannot be loaded"),
        ],
    )
    def test_plans_configurations_and_labels(self, bundle, place, values, told):
        put(bundle / "stage1", place, values)
        assert told in refusal(bundle / "stage1")

    @pytest.mark.parametrize(
        ("dataset", "told"),
        [
            ({"labels": None}, "labels is None; expected numbers by name"),
            ({"labels": ["tumor"]}, r"labels is \['tumor'\]"),
            ({"labels": {"tumor": "x"}}, "label tumor is 'x'; expected a whole number"),
            ({"labels": {"tumor": None}}, "label tumor is None"),
            ({"labels": {"tumor": []}}, r"label tumor is \[\]"),
            ({"channel_names": ["CT"]}, "channel_names is .*; expected names by number"),
            ({"channel_names": {"CT": "0"}}, "channel_names is .*; expected names by number"),
            ({"channel_names": "CT"}, "channel_names is .*; expected names by number"),
            ({"channel_names": None}, "channel_names is .*; expected names by number"),
        ],
    )
    def test_labels_and_channels_that_are_none(self, dataset, told):
        with pytest.raises(BundleError, match=told):
            tumor_channels(dataset, (), where="model") if "labels" in dataset else takes_edges(dataset, where="model")

    def test_a_list_of_one_label_is_no_region(self):
        assert tumor_channels({"labels": {"background": 0, "tumor": [1]}}, (), where="model") == (1,)


class TestPlans:
    @pytest.mark.parametrize("name", ["subprocess.Popen", "os.system", "builtins.exec", "PlainConvUNet", None, 7])
    def test_the_network_is_one_of_nnunets_own(self, bundle, canary, name, monkeypatch):
        monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: canary.mkdir())
        monkeypatch.setattr(os, "system", lambda *_, **__: canary.mkdir())
        put(bundle / "stage2", "architecture", {"network_class_name": name})
        told = refusal(bundle / "stage2")
        assert f"network_class_name names {name!r}, which would be imported and called" in told
        assert "such as dynamic_network_architectures.architectures.unet.ResidualUNet" in told
        assert "--trust_checkpoint would allow it" in told
        assert not canary.exists()

    def test_the_same_plans_do_run_code_where_they_are_trusted(self, bundle, canary, monkeypatch):
        (bundle / "canary_module.py").write_text(f"import pathlib\npathlib.Path({str(canary)!r}).mkdir()\n")
        put(bundle / "stage2", "architecture", {"network_class_name": "canary_module.Network"})
        monkeypatch.syspath_prepend(bundle)
        refusal(bundle / "stage2")
        assert not canary.exists()
        with pytest.raises(BundleError, match="cannot be loaded"):
            loaded(bundle / "stage2", trusted=True)
        assert canary.is_dir()

    @pytest.mark.parametrize(
        ("place", "key", "value"),
        [
            ("layers", "conv_op", "subprocess.Popen"),
            ("layers", "norm_op", "torch.hub.load"),
            ("layers", "dropout_op", "torch.nn.modules.utils.os.system"),
            ("layers", "nonlin", "os.system"),
            ("layers", "conv_op", ["torch.nn.Conv3d"]),
            *[("configuration", f"resampling_fn_{what}", CALLED) for what in ("data", "seg", "probabilities")],
            ("configuration", "preprocessor_name", CALLED),
            ("configuration", "normalization_schemes", ["os"]),
            ("configuration", "normalization_schemes", [None]),
            ("plans", "label_manager", CALLED),
            ("plans", "image_reader_writer", "join"),
            ("dataset", "overwrite_image_reader_writer", "os"),
        ],
    )
    def test_what_is_imported_is_torchs_and_nnunets_own(self, bundle, place, key, value):
        put(bundle / "stage2", place, {key: value})
        shown = value[0] if key == "normalization_schemes" else value
        assert f"{key} names {shown!r}" in refusal(bundle / "stage2")

    def test_nothing_but_layers_is_imported(self, bundle):
        put(bundle / "stage2", "layers", {"n_stages": "os.system"})
        put(bundle / "stage2", "architecture", {"_kw_requires_import": ["conv_op", "n_stages"]})
        assert "_kw_requires_import names 'n_stages'" in refusal(bundle / "stage2")

    @pytest.mark.parametrize("arguments", [{"data": 1}, {"exec": "x"}, {"order": {"a": 1}}])
    def test_arguments_of_resampling_are_plain_and_its_own(self, bundle, arguments):
        put(bundle / "stage2", "resampling", arguments)
        assert "resampling_fn_seg_kwargs" in refusal(bundle / "stage2")

    def test_what_a_configuration_inherits_is_looked_at_too_and_a_circle_is_refused(self, bundle):
        circle = {"3d_fullres": {"inherits_from": "b"}, "b": {"inherits_from": "3d_fullres"}}
        parent = read_json(bundle / "stage2" / "plans.json")["configurations"]["3d_fullres"]
        parent["architecture"]["network_class_name"] = "os.system"
        put(bundle / "stage2", "plans", {"configurations": {"a": parent, "3d_fullres": {"inherits_from": "a"}}})
        assert "network_class_name names 'os.system'" in refusal(bundle / "stage2")
        put(bundle / "stage2", "plans", {"configurations": circle})
        assert "cannot be loaded" in refusal(bundle / "stage2")


class TestTrainers:
    def test_a_trainer_of_another_folder_is_refused_unless_it_is_trusted(self, bundle, canary, tmp_path, monkeypatch):
        evil.write_trainer(tmp_path / "theirs", canary)
        monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path / "theirs"))
        evil.rename_trainer(bundle / "stage1", "TheirTrainer")
        told = refusal(bundle / "stage1")
        assert "trainer_name names 'TheirTrainer'" in told
        assert "a trainer of nnU-Net's own or of nnunet-cascade" in told
        assert not canary.exists()
        honest = loaded(bundle / "stage1", trusted=True)
        assert canary.is_dir()
        assert honest.trainer_name == "TheirTrainer"
        assert logits(honest).shape == (1, 1, 2, 24, 24, 32)
        assert load_cascade(bundle, device=CPU, trusted=True).stage1 is not None

    @pytest.mark.parametrize("name", ["os.system", "np", "join", "../evil", "__builtins__", ""])
    def test_what_is_no_trainer_is_refused(self, bundle, name):
        evil.rename_trainer(bundle / "stage1", name)
        assert f"trainer_name names {name!r}" in refusal(bundle / "stage1")
