"""What the plans say reaches the trainers; every way of labelling trains; what is refused, before training starts."""

import re
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from builders.tiny_plans import RESIDUAL
from builders.trainer_cases import BLOCK, EVERY_LOSS, LABELLINGS, begun, magnified, start, validated, weights
from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
from nnunetv2.run.run_training import maybe_load_checkpoint

from nnunet_cascade.errors import SettingsError, WeightsError
from nnunet_cascade.losses.distances import SignedDistanceTransform
from nnunet_cascade.networks.dropout import dropout_modules
from nnunet_cascade.settings.training import TrainingSettings
from nnunet_cascade.trainers import roi_trainer
from nnunet_cascade.trainers.cascade_trainer import _leaves, seed_of
from nnunet_cascade.trainers.recipes import RECIPES
from nnunet_cascade.trainers.roi_sampling import RoiDataset
from nnunet_cascade.uncertainty.passes import UNetPasses, as_outputs, passes_of

# nnU-Net, MONAI and torch warn about themselves.
pytestmark = pytest.mark.filterwarnings("ignore")
OURS = "UncertaintyROITrainer"


def quick_with(quick, combinations):
    """Each combination as a parameter; all but the quick ones are for the long acceptance runs."""
    return [pytest.param(*each, marks=[] if each in quick else pytest.mark.long) for each in combinations]


def test_a_residual_network_of_the_plans_trains_with_its_encoder_shared_by_all_samples(make_trainer):
    trainer = start(make_trainer(OURS, planned={"network": RESIDUAL}))
    assert type(trainer.network) is ResidualEncoderUNet
    assert isinstance(passes_of(trainer.network), UNetPasses)
    before = weights(trainer.network)
    assert np.isfinite(trainer.train_step(next(trainer.dataloader_train))["loss"])
    after = weights(trainer.network)
    convolutions = [name for name in before if name.startswith("encoder.") and name.endswith("conv.weight")]
    assert len(convolutions) > 8
    assert [name for name in convolutions if torch.equal(before[name], after[name])] == []


def test_processors_are_used_as_asked_and_convolutions_in_their_faster_layout(make_trainer, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)  # as nnU-Net does before it makes a trainer
        trainer = make_trainer(OURS)
        trainer.initialize()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)
    kernels = [weight for weight in trainer.network.parameters() if weight.ndim == 5 and weight.shape[1] > 1]
    assert len(kernels) > 8
    assert all(weight.is_contiguous(memory_format=torch.channels_last_3d) for weight in kernels)
    optimized = {id(weight) for group in trainer.optimizer.param_groups for weight in group["params"]}
    assert all(id(weight) in optimized for weight in kernels)


class TestSettings:
    """What the plans' block says reaches the trainer's parts."""

    @pytest.mark.parametrize("recipe", sorted(RECIPES))
    def test_a_recipe_by_name(self, recipe, make_trainer, monkeypatch):
        norms = []
        trainer = start(make_trainer(OURS, recipe=recipe))
        expected = RECIPES[recipe]
        group = trainer.optimizer.param_groups[0]
        assert type(trainer.optimizer) is type(expected.optimizer(trainer.network.parameters()))
        assert group["lr"] == pytest.approx(expected.rate_for("paper"))
        assert group["weight_decay"] == expected.weight_decay
        monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda _, norm: norms.append(norm))
        assert np.isfinite(trainer.train_step(next(trainer.dataloader_train))["loss"])
        assert norms == [expected.clip_norm]

    def test_rate_and_decay_of_ones_own(self, make_trainer):
        trainer = make_trainer("CascadeTrainer", recipe="transformer", initial_learning_rate=0.02, weight_decay=0.25)
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

    def test_the_same_seed_trains_the_same_bits_and_another_seed_others(self, make_trainer):
        def trained(seed):
            trainer = start(make_trainer(OURS, seed=seed))
            parts = _leaves(trainer.dataloader_train.data_loader.transforms)
            by_stopwatch = [part.benchmark for part in parts if hasattr(part, "benchmark")]
            assert by_stopwatch
            assert not any(by_stopwatch), "no way to blur is chosen by a stopwatch"
            for _ in range(2):
                trainer.train_step(next(trainer.dataloader_train))
            return weights(trainer.network)

        first, again, other = trained(0), trained(0), trained(1)
        assert all(torch.equal(value, again[name]) for name, value in first.items())
        assert not all(torch.equal(value, other[name]) for name, value in first.items())

    def test_folds_begin_with_other_weights_and_draws_and_each_with_its_own_again(self, make_trainer):
        def begun_with(fold):
            trainer = make_trainer(OURS, fold=fold)
            trainer.initialize()
            return weights(trainer.network)["decoder.seg_layers.0.weight"]

        first, *others = [begun_with(fold) for fold in (0, 1, "all", 0)]
        assert [torch.equal(first, other) for other in others] == [False, False, True]
        seeds = {seed_of(0, fold, rank, epoch) for fold in (0, 1, "all") for rank in (0, 1) for epoch in (0, 1)}
        assert len(seeds) == 12

    @pytest.mark.parametrize(
        ("name", "weight"),
        [(OURS, "mean weight α = exp(−U/τ): 0"), ("UncertaintyLovaszROITrainer", "mean weight 1 + U/τ: 1")],
    )
    def test_the_log_tells_the_uncertainty_of_each_epoch_and_its_weight(self, name, weight, make_trainer):
        trainer = start(make_trainer(name))
        for _ in range(2):
            trainer.on_train_epoch_end([trainer.train_step(next(trainer.dataloader_train))])
        told = re.findall(r"mean uncertainty U: (\S+); (.*)", Path(trainer.log_file).read_text())
        assert len(told) == 2
        assert all(0 < float(variance) <= 0.25 and weight in how for variance, how in told)


class TestRois:
    def test_patches_come_from_the_boxes_of_the_manifest(self, make_trainer):
        trainer = make_trainer(OURS)
        trainer.initialize()
        train, validation = trainer.get_tr_and_val_datasets()
        assert isinstance(train, RoiDataset)
        assert (train.jitter, validation.jitter) == (True, False)
        assert not set(train.identifiers) & set(validation.identifiers)
        image, labels, _, properties = validation.load_case(validation.identifiers[0])
        assert image.shape[1:] == labels.shape[1:]
        (places,) = properties["class_locations"].values()
        assert len(places)
        assert (np.asarray(places)[:, 1:] < image.shape[1:]).all()

    def test_without_a_manifest_it_says_so_once_and_trains_on_whole_images(self, make_trainer, monkeypatch):
        monkeypatch.setattr(roi_trainer, "MANIFEST_NAME", "none.json")
        trainer = start(make_trainer(OURS))
        assert not isinstance(trainer.dataloader_train.data_loader._data, RoiDataset)
        assert np.isfinite(trainer.train_step(next(trainer.dataloader_train))["loss"])
        assert Path(trainer.log_file).read_text().count("expected ROI crops") == 1

    @pytest.mark.parametrize(
        ("planned", "told"),
        [
            ({"batch_dice": False}, "1 of 3 crops have no tumor, and the plans' batch_dice is false"),
            ({"batch_dice": True, "batch_size": 1}, "1 of 3 crops have no tumor, and the batch size is 1"),
            ({"batch_dice": True}, ""),
        ],
    )
    def test_the_log_says_where_the_dice_of_crops_without_tumor_teaches_nothing(self, planned, told, make_trainer):
        trainer = make_trainer(OURS, planned=planned)
        trainer.initialize()
        first, *others = trainer.roi_manifest.items()
        trainer.roi_manifest = {first[0]: replace(first[1], kind="false_positive"), **dict(others)}
        trainer.get_tr_and_val_datasets()
        log = Path(trainer.log_file).read_text()
        assert (told in log) if told else ("have no tumor" not in log)

    def test_the_network_has_dropout_in_bottleneck_and_decoder_alone(self, make_trainer):
        trainer = make_trainer(OURS)
        trainer.initialize()
        assert dropout_modules(trainer.network.decoder)
        assert dropout_modules(trainer.network.encoder.stages[-1])
        assert not dropout_modules(trainer.network.encoder.stages[0])


@pytest.mark.parametrize("name", ["CascadeTrainer", *EVERY_LOSS])
def test_a_network_of_two_resolutions_learns(name, make_trainer):
    """It has one output alone, which nnU-Net itself would weigh by 0 / 0."""
    trainer = start(make_trainer(name, planned={"features": (4, 8)}))
    before = weights(trainer.network)
    assert np.isfinite(float(trainer.train_step(next(trainer.dataloader_train))["loss"]))
    after = trainer.network.state_dict()
    assert all(value.isfinite().all() for value in after.values())
    assert any((value != before[name]).any() for name, value in after.items())


class TestLabels:
    """Each loss, deeply supervised, with every way of labelling that nnU-Net knows."""

    @pytest.mark.parametrize(
        ("name", "labelling"),
        quick_with(
            [*((name, "regions, ignore label") for name in EVERY_LOSS), *((OURS, each) for each in LABELLINGS)],
            [(name, labelling) for name in EVERY_LOSS for labelling in LABELLINGS if labelling != "tumor"],
        ),
    )
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


@pytest.mark.parametrize(
    "name",
    quick_with([(OURS,), ("DiceCEROITrainer",)], [(OURS,), ("DiceCEROITrainer",), ("UncertaintyROIUNETRTrainer",)]),
)
def test_every_weight_gets_a_finite_gradient_in_mixed_precision(name, make_trainer, monkeypatch):
    # On maps of 2³ voxels torch's convolutions in bfloat16 have wrong gradients on some CPUs.
    trainer = start(make_trainer(name, planned={"patch_size": (32, 32, 32)}))
    # What `autocast` is on CUDA; passes without gradient must not leave their casts to the one with it.
    monkeypatch.setattr(trainer, "autocast", lambda: torch.autocast("cpu", dtype=torch.bfloat16))
    assert np.isfinite(trainer.train_step(next(trainer.dataloader_train))["loss"])
    gradients = {key: value.grad for key, value in trainer.network.named_parameters() if "seg_layers.0" not in key}
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients.values())


@pytest.mark.parametrize(
    ("name", "offset"),  # nnU-Net's Dice term is −Dice
    quick_with(
        [(OURS, 0), ("UNETRTrainer", 1)],
        [
            *((name, int(name == "DiceCEROITrainer")) for name in EVERY_LOSS),
            ("UNETRTrainer", 1),
            ("SwinUNETRTrainer", 1),
        ],
    ),
)
def test_forty_iterations_on_one_batch_lower_the_loss_by_a_third(name, offset, make_trainer):
    trainer = start(make_trainer(name, oversample_foreground=1.0))
    batch = next(trainer.dataloader_train)
    if name == "SwinUNETRTrainer":
        # The crops are 28 voxels long and its patch is 64: nine tenths would be padding, half a percent tumor. Then 40
        # steps lower the cross-entropy alone, and the initial weights decide by how much (24 % with one seed, 30 % with
        # another). The other networks see a third of tumor; so does this one where each voxel is a cube of 4³.
        target = [magnified(each, 4) for each in as_outputs(batch["target"])]
        batch = {"data": magnified(batch["data"], 4), "target": target}
    losses = [float(trainer.train_step(deepcopy(batch))["loss"]) for _ in range(40)]
    assert all(np.isfinite(losses))
    assert np.mean(losses[-3:]) + offset < 0.7 * (losses[0] + offset)


class TestRefusals:
    """A clear word before training starts."""

    def test_a_two_dimensional_patch_for_monais_networks(self, make_trainer):
        with pytest.raises(SettingsError, match=r"three sides .* found \(16, 16\); use a 3d configuration"):
            make_trainer("SegResNetTrainer", planned={"patch_size": (16, 16)})

    @pytest.mark.parametrize(
        ("planned", "changed", "reason"),
        [
            ({"patch_size": (16, 16)}, {}, "use a 3d configuration"),
            ({}, {"is_ddp": True}, "trains on one GPU"),
            ({}, {"is_cascaded": True}, "no stage of nnU-Net's own cascade"),
        ],
    )
    def test_what_stage_2_cannot_be_trained_with(self, planned, changed, reason, make_trainer):
        trainer = make_trainer(OURS, planned=planned)
        for name, value in changed.items():
            setattr(trainer, name, value)
        with pytest.raises(NotImplementedError, match=reason):
            trainer.initialize()

    @pytest.mark.parametrize(
        ("setting", "value", "reason"),
        [
            ("network_sise", "tiny", r"network_sise \(did you mean network_size\?\)"),
            ("mc_samples", 1, "mc_samples must be a whole number of at least 2; found 1"),
            ("recipe", "sgd", "recipe must be one of .*transformer.*; found 'sgd'"),
            ("augmentation", "strong", "augmentation must be one of nnunet, paper; found 'strong'"),
            ("epochs", 0, "epochs must be a whole number of at least 1; found 0"),
        ],
    )
    @pytest.mark.parametrize("name", ["CascadeTrainer", "SwinUNETRTrainer"])
    def test_a_wrong_setting(self, name, setting, value, reason, make_trainer):
        with pytest.raises(SettingsError, match=reason):
            make_trainer(name, **{setting: value})

    @pytest.mark.parametrize(
        ("name", "planned"), [(OURS, {"features": (4, 8, 16, 16)}), ("UNETRTrainer", {"patch_size": (32, 32, 32)})]
    )
    def test_weights_of_another_shape(self, name, planned, make_trainer):
        begun(make_trainer(name))
        other = make_trainer(name, planned=planned)
        with pytest.raises(WeightsError, match=rf"does not fit the network that {name} builds.*size mismatch"):
            maybe_load_checkpoint(other, continue_training=True, validation_only=False)

    @pytest.mark.parametrize("recipe", ["adamw", "paper", "transformer"])
    def test_going_on_with_another_recipe(self, recipe, make_trainer):
        begun(make_trainer(OURS))
        other = make_trainer(OURS, recipe=recipe)
        with pytest.raises(SettingsError, match=r"other settings \(recipe was .*\), which --c cannot change"):
            maybe_load_checkpoint(other, continue_training=True, validation_only=False)


@pytest.mark.parametrize("planned", [{}, {"block": None}], ids=["with the block", "without"])
def test_plans_without_the_block_mean_the_defaults_and_the_log_says_so_once(planned, make_trainer):
    trainer = start(make_trainer(OURS, planned=planned))
    without = "block" in planned
    assert trainer.settings == (TrainingSettings() if without else TrainingSettings(**BLOCK))
    assert trainer.num_epochs == (1000 if without else 3)
    assert trainer.num_iterations_per_epoch == (250 if without else 2)
    told = re.findall(r"plans have no block 'nnunet_cascade': 1000 epochs", Path(trainer.log_file).read_text())
    assert len(told) == without
