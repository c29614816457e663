"""Recipes: the rate of every epoch, what is stored of it, and that they get somewhere."""

import io
import math
import warnings
from typing import get_args

import pytest
import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import nn

from nnunet_cascade.networks.backbones import BACKBONES, BackboneRequest
from nnunet_cascade.settings.training import Recipe
from nnunet_cascade.trainers.recipes import RECIPES, warm_up_epochs

NAMES = sorted(RECIPES)


def poly(epoch, epochs):
    return (1 - epoch / epochs) ** 0.9


def warm_then_poly(epoch, epochs):
    warm = warm_up_epochs(epochs)
    return (epoch + 1) / (warm + 1) if epoch < warm else poly(epoch - warm, epochs - warm)


def cosine(epoch, epochs):
    return (1 + math.cos(math.pi * epoch / epochs)) / 2


SHARES = {"nnunet": poly, "adamw": poly, "transformer": warm_then_poly, "paper": cosine}


def start(name, network, epochs, rate=None):
    recipe = RECIPES[name]
    rate = recipe.learning_rate if rate is None else rate
    optimizer = recipe.optimizer(network.parameters(), lr=rate, weight_decay=recipe.weight_decay)
    return optimizer, recipe.schedule(optimizer, rate, epochs)


def test_every_recipe_of_the_settings_is_there():
    assert set(RECIPES) == set(get_args(Recipe)) == set(SHARES)


@pytest.mark.parametrize("epochs", [1, 10, 100, 1000])
@pytest.mark.parametrize("name", NAMES)
def test_the_rate_of_every_epoch_follows_its_formula(name, epochs):
    optimizer, schedule = start(name, nn.Linear(2, 1), epochs, rate=0.5)
    for epoch in range(epochs):
        schedule.step(epoch)
        expected = 0.5 * SHARES[name](epoch, epochs)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected, rel=1e-12)
        assert schedule.get_last_lr() == [optimizer.param_groups[0]["lr"]]
        assert expected > 0


@pytest.mark.parametrize("name", NAMES)
def test_before_the_first_epoch_the_rate_is_already_its_own(name):
    optimizer, schedule = start(name, nn.Linear(2, 1), 100)
    before = optimizer.param_groups[0]["lr"]
    schedule.step(0)
    assert before == optimizer.param_groups[0]["lr"] > 0


@pytest.mark.parametrize("name", ["transformer", "paper"])
def test_a_step_without_an_epoch_goes_to_the_next(name):
    optimizer, schedule = start(name, nn.Linear(2, 1), 100)
    schedule.step(7)
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(RECIPES[name].learning_rate * SHARES[name](8, 100))


@pytest.mark.parametrize(("epochs", "warm"), [(1, 0), (19, 0), (20, 1), (100, 5), (1000, 50), (2000, 50)])
def test_warming_up_takes_a_twentieth_of_a_training_and_at_most_50_epochs(epochs, warm):
    assert warm_up_epochs(epochs) == warm


def test_the_rate_rises_while_warming_up_and_falls_after():
    _, schedule = start("transformer", nn.Linear(2, 1), 200, rate=1.0)
    rates = []
    for epoch in range(200):
        schedule.step(epoch)
        rates += schedule.get_last_lr()
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates.index(1.0) == 10
    assert rates.count(1.0) == 1


@pytest.mark.parametrize(
    ("name", "kind", "rate", "decay", "clip"),
    [
        ("nnunet", torch.optim.SGD, 1e-2, 3e-5, 12),
        ("adamw", torch.optim.AdamW, 1e-3, 3e-5, 12),
        ("transformer", torch.optim.AdamW, 1e-4, 5e-2, 1),
        ("paper", torch.optim.Adam, 1e-4, 1e-5, 12),
    ],
)
def test_defaults(name, kind, rate, decay, clip):
    recipe, (optimizer, _) = RECIPES[name], start(name, nn.Linear(2, 1), 1)
    assert type(optimizer) is kind
    assert (recipe.learning_rate, recipe.weight_decay, recipe.clip_norm) == (rate, decay, clip)
    assert optimizer.param_groups[0]["weight_decay"] == decay


def test_sgd_is_that_of_nnunet_and_the_transformers_momentum_that_of_its_transformer():
    sgd = start("nnunet", nn.Linear(2, 1), 1)[0].param_groups[0]
    assert (sgd["momentum"], sgd["nesterov"]) == (0.99, True)
    assert start("transformer", nn.Linear(2, 1), 1)[0].param_groups[0]["betas"] == (0.9, 0.98)


def train(network, optimizer, schedule, epochs):
    for epoch in epochs:
        schedule.step(epoch)
        generator = torch.Generator().manual_seed(epoch)
        for _ in range(3):
            optimizer.zero_grad()
            network(torch.randn(4, 3, generator=generator)).square().mean().backward()
            optimizer.step()


@pytest.mark.parametrize("name", NAMES)
def test_a_training_continued_from_the_optimizers_state_is_the_same_to_the_bit(name):
    # nnU-Net's checkpoints hold weights, optimizer and epoch; the schedule is made anew.
    torch.manual_seed(0)
    through, halted, continued = (nn.Linear(3, 2) for _ in range(3))
    halted.load_state_dict(through.state_dict())
    train(through, *start(name, through, 40), range(6))
    optimizer, schedule = start(name, halted, 40)
    train(halted, optimizer, schedule, range(4))
    checkpoint = io.BytesIO()
    torch.save({"weights": halted.state_dict(), "optimizer": optimizer.state_dict()}, checkpoint)
    checkpoint.seek(0)
    stored = torch.load(checkpoint)
    optimizer, schedule = start(name, continued, 40)
    continued.load_state_dict(stored["weights"])
    optimizer.load_state_dict(stored["optimizer"])
    train(continued, optimizer, schedule, range(4, 6))
    assert torch.equal(continued.weight, through.weight)
    assert torch.equal(continued.bias, through.bias)


def phantom(side):
    """A body with two lungs and a round tumor in one of them; (1, 1, side, side, side) image and labels."""
    axis = torch.linspace(-1, 1, side)
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    body = y**2 + x**2 < 0.85**2
    lungs = (x.abs() - 0.4) ** 2 + y**2 < 0.33**2
    tumor = (z - 0.1) ** 2 + (y + 0.2) ** 2 + (x - 0.3) ** 2 < 0.3**2
    tissue = torch.where(tumor, 0.4, torch.where(lungs, -0.7, torch.where(body, 0.5, -1.0)))
    noise = torch.randn(tissue.shape, generator=torch.Generator().manual_seed(3))
    return (tissue + 0.1 * noise)[None, None], tumor[None, None].long()


@pytest.mark.parametrize(("name", "side"), [("unetr", 32), pytest.param("swin_unetr", 64, marks=pytest.mark.long)])
def test_forty_iterations_of_the_transformer_recipe_lower_the_loss_by_a_third(name, side):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some versions of MONAI warn on import
        torch.manual_seed(0)
        request = BackboneRequest(input_channels=1, output_channels=2, patch_size=(side,) * 3, size="tiny", dropout=0.1)
        network = BACKBONES[name].build(request).train()
    options = {"batch_dice": False, "smooth": 1e-5, "do_bg": False, "ddp": False}
    dice_and_entropy = DC_and_CE_loss(options, {}, dice_class=MemoryEfficientSoftDiceLoss)
    recipe, (image, labels), losses = RECIPES["transformer"], phantom(side), []
    optimizer = recipe.optimizer(network.parameters(), lr=recipe.rate_for("tiny"), weight_decay=recipe.weight_decay)
    for _ in range(40):
        optimizer.zero_grad(set_to_none=True)
        loss = 1 + dice_and_entropy(network(image), labels)  # nnU-Net's Dice term is −Dice
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm, error_if_nonfinite=True)
        optimizer.step()
        losses.append(float(loss.detach()))
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < 0.7 * losses[0]
