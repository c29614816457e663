"""Samples in nnU-Net's sliding window."""

from itertools import combinations, permutations, product

import numpy as np
import pytest
import torch
from builders.sampled_networks import PATCH, dropping, flips_of, initialized, naive_samples, plain, symmetric
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
from test_measures import MEASURES, of_kept_samples
from torch import nn

from nnunet_cascade.errors import DropoutError
from nnunet_cascade.uncertainty.measures import uncertainty
from nnunet_cascade.uncertainty.predictor import Extras, MonteCarloPredictor
from nnunet_cascade.uncertainty.windows import unpadded

CPU = torch.device("cpu")


def predictor(network, *, samples=6, mirroring=False, extras=None, **rest):
    made = MonteCarloPredictor(mc_samples=samples, device=CPU, mirroring=mirroring, extras=extras)
    return initialized(made, network, **rest)


@pytest.fixture
def network():
    return dropping()


def test_in_one_window_the_moments_are_those_of_naive_full_passes(network):
    image = torch.randn(1, *PATCH)
    torch.manual_seed(5)
    found = predictor(network).predict_logits_from_preprocessed_data(image).numpy()
    torch.manual_seed(5)
    samples = naive_samples(network, image, passes=6)
    np.testing.assert_allclose(found[:2], samples.mean(0), atol=1e-6)
    np.testing.assert_allclose(found[2:] - found[:2] ** 2, samples.var(0), atol=1e-6)
    assert (found[2:] - found[:2] ** 2).mean() > 1e-4


SOURCES = [each for each in product((0, 11), (False, True), (1, 3)) if each != (0, False, 1)]  # which is one sample


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize(("passes", "mirroring", "members"), SOURCES)
def test_every_measure_of_every_combination_of_sources_is_that_of_all_samples_kept(
    measure, regions, passes, mirroring, members
):
    kind = dropping if passes else plain
    networks = [kind(3, seed) for seed in range(members)]
    flips, image = flips_of((0, 2)) if mirroring else [()], torch.randn(1, *PATCH)
    torch.manual_seed(5)
    samples = np.concatenate(
        [naive_samples(member, image, flips=flips, passes=passes, regions=regions) for member in networks]
    )
    assert len(samples) == members * (passes or len(flips))
    extras = Extras(entropy=measure == "mutual_information")
    options = {"mirroring": mirroring, "extras": extras, "regions": regions, "axes": (0, 2), "members": networks}
    made = predictor(kind(3), samples=passes, **options)
    torch.manual_seed(5)
    found = made.predict_samples(image)
    expected = of_kept_samples(measure, samples)
    mine = uncertainty(measure, found.mean, mean_square=found.mean_square, mean_entropy=found.mean_entropy)
    np.testing.assert_allclose(mine, expected, atol=2e-6)
    np.testing.assert_allclose(found.mean, samples.mean(0), atol=1e-6)
    assert expected.mean() > 1e-5


def reference_in_float32(network, image, samples, axes):
    """What this predictor has given since it knew dropout alone, sum by sum in its order."""
    patch = torch.tensor(PATCH)
    missing = (patch - torch.tensor(image.shape[1:])).clamp_min(0)
    padding = [int(n) for low, lack in reversed([(m // 2, m) for m in missing]) for n in (low, lack - low)]
    data = nn.functional.pad(image, padding)
    steps = compute_steps_for_sliding_window(tuple(data.shape[1:]), PATCH, 0.5)
    weights = compute_gaussian(PATCH, sigma_scale=1 / 8, value_scaling_factor=10, device=CPU).float()
    blended, total = torch.zeros(4, *data.shape[1:]), torch.zeros(data.shape[1:])
    flips = [tuple(axis + 2 for axis in flip) for flip in flips_of(axes)]
    network[1].train()
    with torch.inference_mode():
        for z, y, x in product(*steps):
            place = (slice(None), slice(z, z + 8), slice(y, y + 8), slice(x, x + 8))
            sums = torch.zeros(4, *PATCH)
            for turn, flip in enumerate(flips[:samples]):
                for _ in range(turn, samples, len(flips)):
                    p = torch.flip(torch.softmax(network(torch.flip(data[place][None], flip)), 1), flip)[0]
                    sums += torch.cat((p, p * p))
            blended[place] += sums / samples * weights
            total[place[1:]] += weights
    network.eval()
    return unpadded(blended / total, image.shape[1:])


@pytest.mark.parametrize("shape", [PATCH, (13, 9, 17), (5, 9, 3)])
@pytest.mark.parametrize(("samples", "mirroring"), [(4, False), (11, True), (3, True)])
@pytest.mark.parametrize("entropy", [False, True])
def test_dropout_gives_the_bits_it_always_gave(network, shape, samples, mirroring, entropy):
    image = torch.randn(1, *shape)
    torch.manual_seed(5)
    expected = reference_in_float32(network, image, samples, (0, 1, 2) if mirroring else ())
    made = predictor(network, samples=samples, mirroring=mirroring, extras=Extras(entropy=entropy))
    torch.manual_seed(5)
    assert torch.equal(made.predict_logits_from_preprocessed_data(image)[:4], expected)


def test_the_same_seed_gives_the_same_bits(network):
    image = torch.randn(1, 12, 12, 12)
    torch.manual_seed(5)
    first = predictor(network).predict_logits_from_preprocessed_data(image)
    torch.manual_seed(5)
    assert torch.equal(predictor(network).predict_logits_from_preprocessed_data(image), first)


def test_windows_are_blended_in_float32_to_weighted_means(network):
    nn.init.zeros_(network[3].weight)
    network[3].bias.data = torch.tensor([0.0, 1.0])
    found = predictor(network, extras=Extras(entropy=True)).predict_samples(torch.randn(1, 13, 9, 17))
    assert found.mean.shape == (2, 13, 9, 17)
    assert found.mean.dtype == torch.float32
    p = 1 / (1 + np.exp(-1.0))
    np.testing.assert_allclose(found.mean[1], p, atol=1e-6)
    np.testing.assert_allclose(found.mean_square[1], p**2, atol=1e-6)
    np.testing.assert_allclose(found.mean_entropy[1], -p * np.log(p) - (1 - p) * np.log(1 - p), atol=1e-6)


def spread(made, image):
    found = made.predict_samples(image)
    return uncertainty("variance", found.mean, mean_square=found.mean_square)


def test_folds_that_contradict_each_other_reach_the_greatest_variance(network):
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    made = predictor(network)
    made.list_of_parameters = [
        {**network.state_dict(), "3.bias": torch.tensor(bias)} for bias in ([0.0, 100.0], [100.0, 0.0])
    ]
    np.testing.assert_allclose(spread(made, torch.zeros(1, *PATCH)), 0.25, atol=1e-6)


def test_equal_folds_without_dropout_do_not_differ():
    member = plain()
    made = predictor(plain(), samples=0, members=[member, member, member])
    np.testing.assert_allclose(spread(made, torch.randn(1, *PATCH)), 0, atol=1e-6)


def test_mirrored_images_do_not_differ_to_a_symmetric_network():
    image = torch.randn(1, *PATCH)
    assert spread(predictor(symmetric(), samples=0, mirroring=True), image).max() < 1e-6
    assert spread(predictor(plain(), samples=0, mirroring=True), image).mean() > 1e-5


@pytest.mark.parametrize("axes", [(), (1,), (0, 1, 2)])
def test_it_mirrors_along_the_axes_the_checkpoint_allows(network, axes):
    found = predictor(network, mirroring=True, axes=axes).flips()
    assert sorted(found) == sorted(tuple(axis + 2 for axis in flip) for flip in flips_of(axes))
    assert predictor(network, mirroring=False, axes=axes).flips() == [()]


@pytest.mark.parametrize("axes", [axes for count in range(4) for axes in permutations(range(3), count)])
def test_sorted_by_their_number_mirrored_axes_are_in_nnunets_order(network, axes):
    nnunets = [chosen for count in range(len(axes) + 1) for chosen in combinations([axis + 2 for axis in axes], count)]
    assert sorted(predictor(network, mirroring=True, axes=axes).flips(), key=len) == nnunets


@pytest.mark.parametrize(("samples", "each"), [(0, 1), (8, 1), (16, 2), (11, None)])
def test_samples_are_dealt_out_to_the_mirrored_images_in_turn(network, samples, each):
    seen = []
    network[0].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].clone()))
    network[1].p = 0.3 if samples else 0.0
    predictor(network, samples=samples, mirroring=True).predict_samples(torch.randn(1, *PATCH))
    counts = {}
    for image in seen:
        counts[image.numpy().tobytes()] = counts.get(image.numpy().tobytes(), 0) + 1
    assert len(counts) == 8
    assert set(counts.values()) == ({each} if each else {1, 2})
    assert sum(counts.values()) == (samples or 8)


def test_regions_are_sigmoids(network):
    nn.init.zeros_(network[3].weight)
    network[3].bias.data = torch.tensor([2.0, 2.0])
    found = predictor(network, regions=True).predict_logits_from_preprocessed_data(torch.randn(1, *PATCH))
    np.testing.assert_allclose(found[:2], 1 / (1 + np.exp(-2.0)), atol=1e-6)


def test_dropout_asked_of_a_network_without_it_is_refused():
    with pytest.raises(DropoutError, match="no active dropout"):
        predictor(plain()).predict_logits_from_preprocessed_data(torch.randn(1, *PATCH))


def test_without_dropout_as_a_source_the_dropouts_of_a_network_are_off(network):
    image = torch.randn(1, *PATCH)
    torch.manual_seed(1)
    first = predictor(network, samples=0, mirroring=True).predict_samples(image)
    torch.manual_seed(2)
    assert torch.equal(predictor(network, samples=0, mirroring=True).predict_samples(image).mean, first.mean)


@pytest.mark.parametrize("samples", [0, 3])
def test_every_mode_is_restored(network, samples):
    predictor(network, samples=samples, mirroring=True).predict_samples(torch.randn(1, *PATCH))
    assert not any(module.training for module in network.modules())


def test_out_of_memory_starts_again_with_fresh_sums(network, monkeypatch):
    made = predictor(network)
    made.perform_everything_on_device = True
    passes = []
    original = MonteCarloPredictor._window_moments

    def once_out_of_memory(self, image, *rest):
        passes.append(image)
        if len(passes) == 2:
            raise RuntimeError("out of memory")
        return original(self, image, *rest)

    image = torch.randn(1, 8, 8, 12)
    nn.init.zeros_(network[3].weight)
    monkeypatch.setattr(MonteCarloPredictor, "_window_moments", once_out_of_memory)
    found = made.predict_logits_from_preprocessed_data(image)
    np.testing.assert_allclose(found[:2].sum(0), 1, atol=1e-5)
