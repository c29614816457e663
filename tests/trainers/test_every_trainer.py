"""Every trainer inside nnU-Net: found, trained, validated, continued, read by its predictor; and what it refuses."""

import importlib
import json
import pickle
import re
import shutil
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from trainer_cases import (
    BLOCK,
    CASES,
    CONFIGURATION,
    DATA_IDENTIFIER,
    EVERY_LOSS,
    LABELLINGS,
    NAMES,
    PLANNED_PATCH,
    STAGE1,
    STAGE2,
    U_NETS,
    plans_for,
)

from nnunet_cascade.errors import SettingsError, WeightsError
from nnunet_cascade.losses.distances import SignedDistanceTransform
from nnunet_cascade.networks.dropout import dropout_modules
from nnunet_cascade.settings.training import TrainingSettings
from nnunet_cascade.trainers.recipes import RECIPES
from nnunet_cascade.trainers.roi_sampling import RoiDataset
from nnunet_cascade.uncertainty.passes import StochasticPasses, UNetPasses, as_outputs, passes_of, probabilities
from nnunet_cascade.uncertainty.sampling import Moments, stochastic

# nnU-Net, MONAI and torch warn about themselves.
pytestmark = pytest.mark.filterwarnings("ignore")
DATASET = LABELLINGS["tumor"].dataset
MONAI = [name for name in NAMES if name not in U_NETS]
PATCHES = {"SwinUNETR": (64, 64, 64), "AttentionUNet": (32, 32, 32)}
"""Those that are not the planned ones, by what the trainers' names contain."""


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    # Networks as small as these wait for each other's threads longer than they compute.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def patch_of(name):
    return next((patch for backbone, patch in PATCHES.items() if backbone in name), PLANNED_PATCH)


def size_of(name):
    """What `network_size` means for a trainer: the plan's own network is as it is planned."""
    return "paper" if name in U_NETS else "tiny"


def nnunets(name, *, continues=False):
    """A trainer as `nnUNetv2_train` makes it."""
    return get_trainer_from_args(DATASET, CONFIGURATION, 0, name, plans_for(name), continues, torch.device("cpu"))


def weights(network):
    return {key: value.clone() for key, value in network.state_dict().items()}


def start(trainer):
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    return trainer


def validated(trainer):
    """What one validation step gives, taken in as nnU-Net does at the end of an epoch."""
    with torch.no_grad():
        trainer.on_validation_epoch_start()
        outputs = trainer.validation_step(next(trainer.dataloader_val))
        trainer.on_validation_epoch_end([outputs])
    return outputs


def begun(trainer):
    """Write a trainer's checkpoint as of its first epoch where `--c` looks for it; gives its path."""
    if not trainer.was_initialized:
        trainer.initialize()
    trainer.logger.log("ema_fg_dice", 0.5, 0)
    checkpoint = f"{trainer.output_folder}/checkpoint_latest.pth"
    trainer.save_checkpoint(checkpoint)
    return checkpoint


def epoch_after(trainer, batch):
    """Begin another epoch and take a step with known draws; gives the rate and the weights after it."""
    trainer.current_epoch = 1
    trainer.on_train_epoch_start()
    rate = trainer.optimizer.param_groups[0]["lr"]
    torch.manual_seed(17)
    trainer.train_step(deepcopy(batch))
    return rate, weights(trainer.network)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trainer after an epoch of two steps and its validation, and what an epoch more would have made of it."""

    name: str
    trainer: Any
    losses: list[float]
    clip_norms: set[float]
    without_gradient: list[str]
    validation: dict
    weights: dict[str, torch.Tensor]
    optimizer: dict
    batch: dict
    next_rate: float
    next_weights: dict[str, torch.Tensor]

    @property
    def model(self):
        return Path(self.trainer.output_folder_base)

    @property
    def log(self):
        return Path(self.trainer.log_file).read_text()


@pytest.fixture(scope="module", params=NAMES)
def trained(request, nnunet_folders):  # noqa: ARG001 - where it trains
    """Each trainer in its turn, with a checkpoint in nnU-Net's folder for results."""
    clip_norms, clip = set(), torch.nn.utils.clip_grad_norm_

    def clipped(parameters, max_norm, **options):
        clip_norms.add(float(max_norm))
        return clip(parameters, max_norm, **options)

    trainer = start(nnunets(request.param))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.utils, "clip_grad_norm_", clipped)
        batches = [next(trainer.dataloader_train) for _ in range(2)]
        outputs = [trainer.train_step(batch) for batch in batches]
    trainer.on_train_epoch_end(outputs)
    without = [name for name, value in trainer.network.named_parameters() if value.grad is None]
    validation = validated(trainer)
    trainer.save_checkpoint(f"{trainer.output_folder}/checkpoint_latest.pth")
    before, optimizer = weights(trainer.network), deepcopy(trainer.optimizer.state_dict())
    rate, after = epoch_after(trainer, batches[0])
    yield Trained(
        name=request.param,
        trainer=trainer,
        losses=[float(output["loss"]) for output in outputs],
        clip_norms=clip_norms,
        without_gradient=without,
        validation=validation,
        weights=before,
        optimizer=optimizer,
        batch=batches[0],
        next_rate=rate,
        next_weights=after,
    )
    shutil.rmtree(trainer.output_folder_base)


@pytest.mark.parametrize("name", NAMES)
def test_nnunet_finds_the_very_class_one_imports_and_it_survives_pickling(name):
    found = recursive_find_trainer_class_by_name(name)
    assert found.__module__.startswith("nnunet_cascade.trainers.")
    assert getattr(importlib.import_module(found.__module__), name) is found
    assert pickle.loads(pickle.dumps(found)) is found  # noqa: S301 - our own


def test_losses_are_finite_and_every_weight_that_counts_gets_a_gradient(trained):
    assert all(np.isfinite(trained.losses))
    # Of a U-Net, nnU-Net weighs the coarsest output by 0.
    idle = ["decoder.seg_layers.0.weight", "decoder.seg_layers.0.bias"] if trained.name in U_NETS else []
    assert trained.without_gradient == idle
    assert all(value.isfinite().all() for value in trained.weights.values())


def test_validation_gives_a_loss_and_nnunets_running_dice(trained):
    assert np.isfinite(trained.validation["loss"])
    counts = [int(trained.validation[key].sum()) for key in ("tp_hard", "fn_hard")]
    assert sum(counts) > 0, "there was a tumor to find"
    assert 0 <= trained.trainer.logger.get_value("mean_fg_dice", step=-1) <= 1


def test_the_patch_is_one_the_network_can_take_wherever_nnunet_keeps_it(trained):
    legal = list(patch_of(trained.name))
    assert list(trained.batch["data"].shape[2:]) == legal
    plans = json.loads((trained.model / "plans.json").read_text())
    stored = torch.load(trained.model / "fold_0" / "checkpoint_latest.pth", weights_only=False)["init_args"]["plans"]
    for kept in (plans, stored):
        assert kept["configurations"][CONFIGURATION]["patch_size"] == legal
        assert kept["nnunet_cascade"] == BLOCK


def test_an_enlarged_patch_is_told_once_and_a_kept_one_never(trained):
    told = re.findall(r"the planned \(16, 16, 16\) become \((\d+), \1, \1\)", trained.log)
    legal = patch_of(trained.name)
    assert told == ([] if legal == PLANNED_PATCH else [str(legal[0])])


def test_optimizer_rate_and_clipping_are_those_of_the_trainers_own_recipe(trained):
    expected = RECIPES["transformer" if "UNETR" in trained.name else "nnunet"]
    trainer = trained.trainer
    assert trainer.recipe is expected
    made = expected.optimizer(trainer.network.parameters(), 1.0, expected.weight_decay)
    assert type(trainer.optimizer) is type(made)
    assert trained.optimizer["param_groups"][0]["weight_decay"] == expected.weight_decay
    assert trained.optimizer["param_groups"][0]["lr"] == expected.rate_for(size_of(trained.name))
    assert trained.clip_norms == {expected.clip_norm}


def test_rois_are_drawn_in_stage_2_alone(trained):
    drawn = isinstance(trained.trainer.dataloader_train.data_loader._data, RoiDataset)
    assert drawn == (trained.name in STAGE2)


def test_stage_1_is_deterministic_and_stage_2_is_not(trained):
    network = trained.trainer.network.train()
    assert bool(dropout_modules(network)) == (trained.name in STAGE2)
    image = trained.batch["data"][:1]
    with torch.no_grad():
        first, second = (as_outputs(network(image))[0] for _ in range(2))
    assert torch.equal(first, second) == (trained.name in STAGE1)


def test_what_other_processes_are_sent_survives_the_way(trained):
    trainer = trained.trainer
    sent = (trainer.my_init_kwargs, trainer.plans_manager, trainer.configuration_manager, trainer.dataset_json)
    arguments, plans, configuration, dataset = pickle.loads(pickle.dumps(sent))  # noqa: S301 - our own
    assert (plans.plans, dataset) == (trainer.plans_manager.plans, trainer.dataset_json)
    assert configuration.patch_size == trainer.configuration_manager.patch_size
    again = type(trainer)(**{**arguments, "plans": {**arguments["plans"], "continue_training": False}})
    assert again.configuration_manager.patch_size == trainer.configuration_manager.patch_size
    assert again.settings == trainer.settings


def test_a_continued_training_goes_on_as_if_it_had_never_stopped(trained):
    continued = nnunets(trained.name, continues=True)
    maybe_load_checkpoint(continued, continue_training=True, validation_only=False)
    assert continued.current_epoch == 1
    now = continued.network.state_dict()
    assert now.keys() == trained.weights.keys()
    assert all(torch.equal(value, trained.weights[name]) for name, value in now.items())
    state = continued.optimizer.state_dict()
    assert state["param_groups"] == trained.optimizer["param_groups"]
    for index, values in trained.optimizer["state"].items():
        assert all(
            torch.equal(torch.as_tensor(state["state"][index][key]), torch.as_tensor(value))
            for key, value in values.items()
            if value is not None
        )
    continued.set_deep_supervision_enabled(continued.enable_deep_supervision)
    rate, after = epoch_after(continued, trained.batch)
    assert rate == trained.next_rate
    assert all(torch.equal(value, trained.next_weights[name]) for name, value in after.items())


def test_nnunets_own_predictor_reads_the_checkpoint(trained, nnunet_folders):
    predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(trained.model), (0,), "checkpoint_latest.pth")
    assert predictor.trainer_name == trained.name
    assert tuple(predictor.configuration_manager.patch_size) == patch_of(trained.name)
    loaded = predictor.network.state_dict()
    assert loaded.keys() == trained.weights.keys()
    assert all(torch.equal(value, trained.weights[name]) for name, value in loaded.items())
    case = list(CASES)[-1]
    data = nnUNetDatasetBlosc2(str(nnunet_folders / "nnUNet_preprocessed" / DATASET / DATA_IDENTIFIER), [case])
    image = torch.from_numpy(np.array(data.load_case(case)[0][:]))
    logits = predictor.predict_logits_from_preprocessed_data(image)
    assert logits.shape == (2, *image.shape[1:])
    assert logits.isfinite().all()


class TestSettings:
    """What the plans' block says reaches the trainer's parts."""

    @pytest.mark.parametrize("name", ["UncertaintyROITrainer", "UNETRTrainer"])
    @pytest.mark.parametrize("recipe", sorted(RECIPES))
    def test_a_recipe_by_name(self, recipe, name, make_trainer, monkeypatch):
        norms = []
        trainer = start(make_trainer(name, recipe=recipe))
        expected = RECIPES[recipe]
        group = trainer.optimizer.param_groups[0]
        assert type(trainer.optimizer) is type(expected.optimizer(trainer.network.parameters(), 1.0, 0.0))
        assert group["lr"] == pytest.approx(expected.rate_for(size_of(name)))
        assert group["weight_decay"] == expected.weight_decay
        monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda _, norm: norms.append(norm))
        assert np.isfinite(trainer.train_step(next(trainer.dataloader_train))["loss"])
        assert norms == [expected.clip_norm]

    @pytest.mark.parametrize("recipe", sorted(RECIPES))
    def test_rate_and_decay_of_ones_own(self, recipe, make_trainer):
        trainer = make_trainer("CascadeTrainer", recipe=recipe, initial_learning_rate=0.02, weight_decay=0.25)
        trainer.initialize()
        trainer.on_train_epoch_start()
        group = trainer.optimizer.param_groups[0]
        assert (group["lr"], group["weight_decay"]) == (0.02, 0.25)

    @pytest.mark.parametrize("augmentation", ["nnunet", "paper"])
    @pytest.mark.parametrize("name", ["SegResNetTrainer", *EVERY_LOSS])
    def test_the_augmentation(self, name, augmentation, make_trainer):
        trainer = start(make_trainer(name, augmentation=augmentation, mirroring=True))
        transforms = trainer.dataloader_train.data_loader.transforms.transforms
        parts = [getattr(part, "transform", part) for part in transforms]
        (spatial,) = (part for part in parts if isinstance(part, SpatialTransform))
        is_papers = augmentation == "paper"
        assert (spatial.p_elastic_deform > 0) == is_papers
        assert any(isinstance(part, GammaTransform) for part in parts) != is_papers
        assert any(isinstance(part, MirrorTransform) for part in parts)
        wants_distances = name.startswith("Distance")
        assert isinstance(parts[-1], SignedDistanceTransform) == wants_distances
        batch = next(trainer.dataloader_train)
        finest = batch["target"][0] if isinstance(batch["target"], list) else batch["target"]
        assert finest.shape[1] == (2 if wants_distances else 1)
        assert np.isfinite(trainer.train_step(batch)["loss"])

    @pytest.mark.parametrize("mirroring", [True, False])
    def test_mirroring_in_augmentation_and_prediction(self, mirroring, make_trainer):
        trainer = start(make_trainer("DiceCEROITrainer", mirroring=mirroring))
        parts = trainer.dataloader_train.data_loader.transforms.transforms
        assert any(isinstance(part, MirrorTransform) for part in parts) == mirroring
        stored = torch.load(begun(trainer), weights_only=False)
        assert stored["inference_allowed_mirroring_axes"] == ((0, 1, 2) if mirroring else None)


class TestLabels:
    """Each loss, deeply supervised, with every way of labelling that nnU-Net knows."""

    @pytest.mark.parametrize("labelling", sorted(set(LABELLINGS) - {"tumor"}))
    @pytest.mark.parametrize("name", EVERY_LOSS)
    def test_it_trains_and_validates(self, name, labelling, make_trainer):
        trainer = start(make_trainer(name, labelling))
        batches = [next(trainer.dataloader_train) for _ in range(2)]
        assert [len(batch["target"]) for batch in batches] == [3, 3]
        losses = [float(trainer.train_step(deepcopy(batch))["loss"]) for batch in batches]
        assert all(np.isfinite(losses))
        without = {name for name, value in trainer.network.named_parameters() if value.grad is None}
        assert without == {"decoder.seg_layers.0.weight", "decoder.seg_layers.0.bias"}
        assert all(value.grad.isfinite().all() for value in trainer.network.parameters() if value.grad is not None)
        assert np.isfinite(validated(trainer)["loss"])

    @pytest.mark.parametrize("labelling", ["ignore label", "regions, ignore label"])
    @pytest.mark.parametrize("name", EVERY_LOSS)
    def test_what_stands_in_ignored_voxels_counts_nothing(self, name, labelling, make_trainer):
        trainer = start(make_trainer(name, labelling, dropout=1e-6))
        batch = next(trainer.dataloader_train)
        ignore, regions = trainer.label_manager.ignore_label, trainer.label_manager.has_regions
        finest = batch["target"][0]
        own = finest.shape[1] - (2 if regions else 1) * name.startswith("Distance")
        ignored = finest[:, own - 1 : own] > 0 if regions else finest[:, :1] == ignore
        assert ignored.any(), "the batch shows ignored voxels"
        trainer.network.eval()
        with torch.no_grad():
            outputs = list(trainer.network(batch["data"]))
            before = trainer.loss(outputs, batch["target"])
            outputs[0] = torch.where(ignored, outputs[0] + 5 * torch.randn_like(outputs[0]), outputs[0])
            after = trainer.loss(outputs, batch["target"])
        torch.testing.assert_close(after, before)


@pytest.mark.parametrize("name", [*EVERY_LOSS, "UncertaintyROIUNETRTrainer", "SegResNetTrainer"])
def test_every_weight_gets_a_finite_gradient_in_mixed_precision(name, make_trainer, monkeypatch):
    # On maps of 2³ voxels torch's convolutions in bfloat16 have wrong gradients on some CPUs.
    trainer = start(make_trainer(name, planned={"patch_size": (32, 32, 32)}))
    # What `autocast` is on CUDA; passes without gradient must not leave their casts to the one with it.
    monkeypatch.setattr(
        trainer,
        "autocast",
        lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    )
    assert np.isfinite(trainer.train_step(next(trainer.dataloader_train))["loss"])
    gradients = {key: value.grad for key, value in trainer.network.named_parameters() if "seg_layers.0" not in key}
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients.values())


@pytest.mark.parametrize("name", EVERY_LOSS)
def test_forty_iterations_on_one_batch_lower_the_loss_by_a_third(name, make_trainer):
    trainer = start(make_trainer(name, oversample_foreground=1.0))
    batch = next(trainer.dataloader_train)
    losses = [float(trainer.train_step(deepcopy(batch))["loss"]) for _ in range(40)]
    offset = 1 if name == "DiceCEROITrainer" else 0  # nnU-Net's Dice term is −Dice
    assert all(np.isfinite(losses))
    assert np.mean(losses[-3:]) + offset < 0.7 * (losses[0] + offset)


class TestRefusals:
    """A clear word before training starts."""

    @pytest.mark.parametrize("name", MONAI)
    def test_a_two_dimensional_patch_for_monais_networks(self, name, make_trainer):
        with pytest.raises(SettingsError, match=r"three sides .* found \(16, 16\); use a 3d configuration"):
            make_trainer(name, planned={"patch_size": (16, 16)})

    @pytest.mark.parametrize("name", EVERY_LOSS)
    def test_a_two_dimensional_configuration_for_stage_2(self, name, make_trainer):
        trainer = make_trainer(name, planned={"patch_size": (16, 16)})
        with pytest.raises(NotImplementedError, match="use a 3d configuration"):
            trainer.initialize()

    @pytest.mark.parametrize("name", NAMES)
    def test_a_misspelt_setting_is_met_with_the_nearest_one(self, name, make_trainer):
        with pytest.raises(SettingsError, match=r"network_sise \(did you mean network_size\?\)"):
            make_trainer(name, network_sise="tiny")

    @pytest.mark.parametrize(
        ("setting", "value", "reason"),
        [
            ("mc_samples", 1, "mc_samples must be a whole number of at least 2; found 1"),
            ("recipe", "sgd", "recipe must be one of .*transformer.*; found 'sgd'"),
            ("augmentation", "strong", "augmentation must be one of nnunet, paper; found 'strong'"),
            ("epochs", 0, "epochs must be a whole number of at least 1; found 0"),
        ],
    )
    @pytest.mark.parametrize("name", NAMES)
    def test_a_setting_out_of_its_range(self, name, setting, value, reason, make_trainer):
        with pytest.raises(SettingsError, match=reason):
            make_trainer(name, **{setting: value})

    @pytest.mark.parametrize(
        ("name", "planned"),
        [("UncertaintyROITrainer", {"features": (4, 8, 16, 16)}), ("UNETRTrainer", {"patch_size": (32, 32, 32)})],
    )
    def test_weights_of_another_shape(self, name, planned, make_trainer):
        checkpoint = begun(make_trainer(name))
        other = make_trainer(name, planned=planned)
        with pytest.raises(WeightsError, match=rf"does not fit the network that {name} builds.*size mismatch"):
            maybe_load_checkpoint(other, continue_training=True, validation_only=False)
        fresh = make_trainer(name, planned=planned)
        fresh.initialize()
        with pytest.raises(AssertionError, match="shape of the parameters"):
            load_pretrained_weights(fresh.network, checkpoint)

    @pytest.mark.parametrize("recipe", ["adamw", "paper", "transformer"])
    def test_going_on_with_another_recipe(self, recipe, make_trainer):
        begun(make_trainer("UncertaintyROITrainer"))
        other = make_trainer("UncertaintyROITrainer", recipe=recipe)
        with pytest.raises(SettingsError, match=r"other settings \(recipe was .*\), which --c cannot change"):
            maybe_load_checkpoint(other, continue_training=True, validation_only=False)

    def test_weights_of_another_trainers_network(self, make_trainer):
        checkpoint = begun(make_trainer("SegResNetTrainer"))
        other = make_trainer("UncertaintyROITrainer")
        with pytest.raises(AssertionError, match="is missing in the pretrained model weights"):
            maybe_load_checkpoint(other, False, False, checkpoint)


@pytest.mark.parametrize("name", U_NETS)
@pytest.mark.parametrize("planned", [{}, {"block": None}], ids=["with the block", "without"])
def test_plans_without_the_block_mean_the_defaults_and_the_log_says_so_once(name, planned, make_trainer):
    trainer = start(make_trainer(name, planned=planned))
    without = "block" in planned
    assert trainer.settings == (TrainingSettings() if without else TrainingSettings(**BLOCK))
    assert trainer.num_epochs == (1000 if without else 3)
    told = re.findall(r"plans have no block 'nnunet_cascade': 1000 epochs", Path(trainer.log_file).read_text())
    assert len(told) == without


@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="torch.compile needs a C++ compiler")
@pytest.mark.slow
def test_compiled_passes_sample_what_the_network_samples(make_trainer, monkeypatch):
    # torch.compile has a random generator of its own unless it is told to draw as everything else does.
    monkeypatch.setattr("torch._inductor.config.fallback_random", True)
    trainer = start(make_trainer("UncertaintyROITrainer"))
    batch = next(trainer.dataloader_train)
    plain, compiled = trainer.network, torch.compile(trainer.network)

    def variance(passes):
        torch.manual_seed(5)
        moments = Moments()
        with torch.no_grad(), stochastic(plain):
            features = passes.detached(passes.features(batch["data"]))
            for _ in range(4):
                moments.add(probabilities(passes.run(features), regions=False)[0])
        return moments.variance()

    assert isinstance(passes_of(compiled), UNetPasses)
    expected = variance(StochasticPasses(plain))
    torch.testing.assert_close(variance(passes_of(compiled)), expected, rtol=1e-3, atol=1e-6)
    assert expected.mean() > 1e-5
    before, losses = weights(plain), []
    for network in (plain, compiled):
        plain.load_state_dict(before)
        trainer.network = network
        trainer.__dict__.pop("passes", None)
        torch.manual_seed(5)
        losses.append(float(trainer.train_step(deepcopy(batch))["loss"]))
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
