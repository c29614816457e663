"""Recipes: the rate of every epoch, and what is stored of it."""

import io
import math
from typing import get_args

import pytest
import torch
from torch import nn

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
