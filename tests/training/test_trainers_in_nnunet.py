"""Our trainers inside nnU-Net's training loop, on the tiny cascade's data."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from builders.cascade_commands import DATASET, ROI_DATASET
from nnunetv2.run.run_training import get_trainer_from_args

from nnunet_cascade.networks.dropout import dropout_modules
from nnunet_cascade.settings.training import BLOCK
from nnunet_cascade.trainers.cascade_trainer import _leaves
from nnunet_cascade.trainers.roi_sampling import RoiDataset

# nnU-Net and torch warn about themselves when trainers are looked up and plots are drawn.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def make_trainer(tiny_cascade, tmp_path, monkeypatch):  # noqa: ARG001 - its data are what is trained on
    """Trainers as nnU-Net makes them, writing into a folder of the test."""
    monkeypatch.setenv("nnUNet_results", str(tmp_path))

    def make(dataset=ROI_DATASET, plans="nnUNetCascadeROIPlans", trainer="UncertaintyROITrainer"):
        return get_trainer_from_args(str(dataset), "3d_fullres", 0, trainer, plans, device=torch.device("cpu"))

    return make


def trained_weights(trainer, steps=2):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nnU-Net's plotting and schedulers warn
        trainer.on_train_start()
        trainer.on_train_epoch_start()
        for _ in range(steps):
            trainer.train_step(next(trainer.dataloader_train))
    return {name: value.clone() for name, value in trainer.network.state_dict().items()}


def half_precision():
    """A trainer's `autocast` as it is on CUDA."""
    return torch.autocast("cpu", dtype=torch.bfloat16)


def test_the_same_seed_trains_the_same_bits(make_trainer):
    first, second = trained_weights(make_trainer()), trained_weights(make_trainer())
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_no_augmentation_is_chosen_by_a_stopwatch(make_trainer):
    trainer = make_trainer()
    trained_weights(trainer, steps=1)
    blurs = [leaf for leaf in _leaves(trainer.dataloader_train.data_loader.transforms) if hasattr(leaf, "benchmark")]
    assert blurs
    assert not any(blur.benchmark for blur in blurs)


def test_another_seed_trains_others(make_trainer):
    other = make_trainer()
    object.__setattr__(other.settings, "seed", 1)
    first, second = trained_weights(make_trainer()), trained_weights(other)
    assert not all(torch.equal(value, second[name]) for name, value in first.items())


def test_settings_come_from_the_plans(make_trainer):
    trainer = make_trainer()
    assert (trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch) == (1, 3, 1)
    assert trainer.settings.mc_samples == 2


def test_the_network_has_dropout_in_bottleneck_and_decoder_alone(make_trainer):
    trainer = make_trainer()
    trainer.initialize()
    assert dropout_modules(trainer.network.decoder)
    assert dropout_modules(trainer.network.encoder.stages[-1])
    assert not dropout_modules(trainer.network.encoder.stages[0])


def test_a_training_step_restores_every_modules_mode(make_trainer):
    trainer = make_trainer()
    trained_weights(trainer, steps=1)
    assert all(module.training for module in trainer.network.modules())


def test_patches_come_from_the_boxes_of_the_manifest(make_trainer):
    trainer = make_trainer()
    trainer.initialize()
    train, validation = trainer.get_tr_and_val_datasets()
    assert isinstance(train, RoiDataset)
    assert (train.jitter, validation.jitter) == (True, False)
    assert not set(train.identifiers) & set(validation.identifiers)
    image, labels, _, properties = validation.load_case(validation.identifiers[0])
    assert image.shape[1:] == labels.shape[1:]
    assert min(image.shape[1:]) >= 1
    for places in properties["class_locations"].values():
        if len(places):
            assert (np.asarray(places)[:, 1:] < image.shape[1:]).all()


def test_on_a_dataset_without_a_manifest_it_says_so_once_and_trains_on_whole_images(make_trainer):
    trainer = make_trainer(DATASET, "nnUNetCascadeCoarsePlans")
    assert torch.isfinite(next(iter(trained_weights(trainer, steps=1).values()))).all()
    log = Path(trainer.log_file).read_text()
    assert log.count("expected ROI crops") == 1


def test_a_trainer_on_plans_without_the_block_uses_the_defaults(make_trainer, tiny_cascade):
    trainer = make_trainer(DATASET, "nnUNetPlans", "CascadeTrainer")
    assert (trainer.num_epochs, trainer.num_iterations_per_epoch) == (1000, 250)
    plans = json.loads((tiny_cascade.preprocessed / "nnUNetPlans.json").read_text())
    assert BLOCK not in plans


def test_training_goes_on_from_a_checkpoint(make_trainer, tiny_cascade):
    trainer = make_trainer()
    checkpoint = tiny_cascade.model(2) / "fold_0" / "checkpoint_final.pth"
    trainer.load_checkpoint(str(checkpoint))
    stored = torch.load(checkpoint, weights_only=False)
    assert trainer.current_epoch == stored["current_epoch"] == 1
    for name, value in trainer.network.state_dict().items():
        assert torch.equal(value, stored["network_weights"][name])
    assert trainer.optimizer.state_dict()["state"], "AdamW goes on with its moments"
    trained_weights(trainer, steps=1)


def test_every_weight_gets_a_gradient_also_in_mixed_precision(make_trainer, monkeypatch):
    trainer = make_trainer()
    trainer.initialize()
    monkeypatch.setattr(trainer, "autocast", half_precision)
    targets = [torch.ones(2, 1, 16 // 2**s, 16 // 2**s, 16 // 2**s) for s in range(len(trainer.resolution_weights()))]
    loss = trainer.train_step({"data": torch.randn(2, 1, 16, 16, 16), "target": targets})["loss"]
    assert np.isfinite(loss)
    without = [name for name, value in trainer.network.named_parameters() if value.grad is None]
    assert all("seg_layers" in name for name in without), without


def test_several_gpus_are_refused_with_a_reason(make_trainer):
    trainer = make_trainer()
    trainer.is_ddp = True
    with pytest.raises(NotImplementedError, match="one GPU"):
        trainer.initialize()


@pytest.mark.parametrize(
    ("labels", "channels"),
    [({"background": 0, "tumor": 1, "ignore": 2}, 1), ({"background": 0, "whole": [1, 2], "core": [2]}, 2)],
)
def test_ignore_label_and_regions_train(make_trainer, labels, channels):
    trainer = make_trainer()
    trainer.dataset_json = {**trainer.dataset_json, "labels": labels, "regions_class_order": [1, 2]}
    trainer.label_manager = trainer.plans_manager.get_label_manager(trainer.dataset_json)
    trainer.initialize()
    count = len(trainer.resolution_weights())
    generator = torch.Generator().manual_seed(0)
    high = 2 if channels == 2 else 3
    shapes = [(2, channels, 16 // 2**scale, 16 // 2**scale, 16 // 2**scale) for scale in range(count)]
    target = [torch.randint(0, high, shape, generator=generator) for shape in shapes]
    loss = trainer.train_step({"data": torch.randn(2, 1, 16, 16, 16, generator=generator), "target": target})["loss"]
    assert np.isfinite(loss)
