"""Every trainer inside nnU-Net: found, trained, validated, continued, read by its predictor."""

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
from builders import trainer_cases as cases
from builders.trainer_cases import NAMES, STAGE2, U_NETS, nnunets, patch_of, size_of, start, validated, weights
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.run_training import maybe_load_checkpoint
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

from nnunet_cascade.networks.dropout import dropout_modules
from nnunet_cascade.trainers.recipes import RECIPES
from nnunet_cascade.trainers.roi_sampling import RoiDataset
from nnunet_cascade.uncertainty.passes import StochasticPasses, UNetPasses, as_outputs, passes_of, probabilities
from nnunet_cascade.uncertainty.sampling import Moments, stochastic

# nnU-Net, MONAI and torch warn about themselves.
pytestmark = pytest.mark.filterwarnings("ignore")
DATASET = cases.LABELLINGS["tumor"].dataset
QUICK = {*cases.STAGE1, *cases.EVERY_LOSS, "UncertaintyROIUNETRTrainer"} - {"SwinUNETRTrainer"}
"""Every loss and every backbone but the slowest; all others are for the long acceptance runs."""


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
    rate: float
    batch: dict
    next_rate: float
    next_weights: dict[str, torch.Tensor]

    @property
    def model(self):
        return Path(self.trainer.output_folder_base)

    @property
    def log(self):
        return Path(self.trainer.log_file).read_text()


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=[] if name in QUICK else pytest.mark.long) for name in NAMES]
)
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
    before, rate = weights(trainer.network), trainer.optimizer.param_groups[0]["lr"]
    next_rate, after = epoch_after(trainer, batches[0])
    yield Trained(
        name=request.param,
        trainer=trainer,
        losses=[float(output["loss"]) for output in outputs],
        clip_norms=clip_norms,
        without_gradient=without,
        validation=validation,
        weights=before,
        rate=rate,
        batch=batches[0],
        next_rate=next_rate,
        next_weights=after,
    )
    shutil.rmtree(trainer.output_folder_base)


@pytest.mark.parametrize("name", NAMES)
def test_nnunet_finds_the_very_class_one_imports_with_its_recipe_and_a_legal_patch(name, make_trainer):
    trainer = make_trainer(name)
    assert trainer.recipe is RECIPES["transformer" if "UNETR" in name else "nnunet"]
    assert tuple(trainer.configuration_manager.patch_size) == patch_of(name)
    found = type(trainer)
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
        assert kept["configurations"][cases.CONFIGURATION]["patch_size"] == legal
        assert kept["nnunet_cascade"] == cases.BLOCK
    told = re.findall(r"the planned \(16, 16, 16\) become \((\d+), \1, \1\)", trained.log)
    assert told == ([] if legal == list(cases.PLANNED_PATCH) else [str(legal[0])]), "once, if it is enlarged"


def test_optimizer_rate_and_clipping_are_those_of_the_trainers_own_recipe(trained):
    expected = RECIPES["transformer" if "UNETR" in trained.name else "nnunet"]
    trainer = trained.trainer
    assert type(trainer.optimizer) is type(expected.optimizer(trainer.network.parameters()))
    assert trainer.optimizer.param_groups[0]["weight_decay"] == expected.weight_decay
    assert trained.rate == expected.rate_for(size_of(trained.name))
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
    assert torch.equal(first, second) == (trained.name in cases.STAGE1)


def test_a_continued_training_goes_on_as_if_it_had_never_stopped(trained):
    continued = nnunets(trained.name, continues=True)
    maybe_load_checkpoint(continued, continue_training=True, validation_only=False)
    assert continued.current_epoch == 1
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
    case = list(cases.CASES)[-1]
    data = nnUNetDatasetBlosc2(str(nnunet_folders / "nnUNet_preprocessed" / DATASET / cases.DATA_IDENTIFIER), [case])
    image = torch.from_numpy(np.array(data.load_case(case)[0][:]))
    logits = predictor.predict_logits_from_preprocessed_data(image)
    assert logits.shape == (2, *image.shape[1:])
    assert logits.isfinite().all()


@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="torch.compile needs a C++ compiler")
@pytest.mark.slow
@pytest.mark.long
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
