"""One bit a sample and voxel: the samples' masks, each voxel once."""

import numpy as np
import pytest
import torch
from builders.sampled_networks import PATCH, dropping, flips_of, initialized, naive_samples, plain

from nnunet_cascade.uncertainty.predictor import Extras, MonteCarloPredictor
from nnunet_cascade.uncertainty.sample_masks import BlendedSampleMasks, Decision, SampleMaskAccumulator

CPU = torch.device("cpu")


def masks_of(planes, passes):
    """Masks (S, …) from planes (M, P, …)."""
    bits = np.unpackbits(np.asarray(planes), axis=1, bitorder="little")[:, :passes]
    return bits.reshape(-1, *bits.shape[2:]).astype(bool)


def predictor(network, *, samples, threshold=0.5, mirroring=False, **rest):
    extras = Extras(decision=Decision(1, threshold))
    return initialized(
        MonteCarloPredictor(mc_samples=samples, device=CPU, mirroring=mirroring, extras=extras), network, **rest
    )


@pytest.mark.parametrize("samples", [2, 8, 9, 20])
def test_votes_are_the_masks_of_the_samples(samples):
    network, image = dropping(), torch.randn(1, *PATCH)
    torch.manual_seed(5)
    expected = naive_samples(network, image, passes=samples)[:, 1] >= 0.5
    torch.manual_seed(5)
    sample_masks = predictor(network, samples=samples).predict_samples(image).sample_masks
    assert (sample_masks.samples_per_member, sample_masks.windows) == (samples, 1)
    np.testing.assert_array_equal(masks_of(sample_masks.planes, samples), expected)
    assert not masks_of(sample_masks.planes, 8 * sample_masks.planes.shape[1]).reshape(-1, *PATCH)[samples:].any()


def test_votes_of_members_and_mirrored_images_stand_one_after_another():
    networks, image = [plain(seed=seed) for seed in range(3)], torch.randn(1, *PATCH)
    flips = flips_of((0, 2))
    expected = np.concatenate([naive_samples(member, image, flips=flips)[:, 1] >= 0.4 for member in networks])
    made = predictor(plain(), samples=0, threshold=0.4, mirroring=True, axes=(0, 2), members=networks)
    made.predict_samples(image)  # of which nothing must be left
    sample_masks = made.predict_samples(image).sample_masks
    np.testing.assert_array_equal(masks_of(sample_masks.planes, sample_masks.samples_per_member), expected)


def test_votes_on_an_image_smaller_than_the_patch_lie_on_its_own_voxels():
    network, image = plain(), torch.randn(1, 5, 8, 3)
    padded = torch.nn.functional.pad(image, (2, 3, 0, 0, 1, 2))
    expected = naive_samples(network, padded)[:, 1, 1:6, :, 2:5] >= 0.5
    sample_masks = predictor(network, samples=0).predict_samples(image).sample_masks
    np.testing.assert_array_equal(masks_of(sample_masks.planes, 1), expected)


def test_where_windows_overlap_a_voxel_votes_once_with_the_window_that_weighs_most():
    network, image = dropping(), torch.randn(1, 8, 8, 12)
    made = predictor(network, samples=3)
    drawn = []
    original = made._window_moments

    def watched(window, passes, accumulator):
        moments = original(window, passes, accumulator)
        drawn.append(accumulator.planes().numpy())
        return moments

    made._window_moments = watched
    sample_masks = made.predict_samples(image).sample_masks
    assert sample_masks.windows == len(drawn) == 2
    first, second = drawn
    # Windows begin at 0 and 4, and nnU-Net's weights are greatest at their voxel 4: at 6 both weigh the same.
    np.testing.assert_array_equal(sample_masks.planes[0, ..., :7], first[..., :7])
    np.testing.assert_array_equal(sample_masks.planes[0, ..., 7:], second[..., 3:])
    assert not np.array_equal(first[..., 4:], second[..., :4])


def test_without_a_decision_there_are_no_votes():
    made = initialized(MonteCarloPredictor(mc_samples=2, device=CPU), dropping())
    assert made.predict_samples(torch.randn(1, *PATCH)).sample_masks is None


def test_votes_do_not_change_the_moments():
    image, found = torch.randn(1, 8, 9, 12), []
    for extras in (None, Extras(decision=Decision(1, 0.5))):
        torch.manual_seed(5)
        made = initialized(MonteCarloPredictor(mc_samples=4, device=CPU, extras=extras), dropping())
        found.append(made.predict_logits_from_preprocessed_data(image))
    assert torch.equal(*found)


def test_the_threshold_itself_is_tumor():
    accumulator = SampleMaskAccumulator(Decision(0, 0.5))
    accumulator.add(torch.tensor([0.5, np.nextafter(np.float32(0.5), np.float32(0))]).reshape(1, 1, 2, 1, 1))
    assert accumulator.planes().flatten().tolist() == [1, 0]


def test_of_windows_that_weigh_the_same_the_first_ones_votes_stand():
    field = BlendedSampleMasks(1, (1, 1, 3), CPU)
    for start, vote in ((0, 1), (1, 2)):
        field.take(
            torch.full((1, 1, 1, 2), vote, dtype=torch.uint8),
            (slice(1), slice(1), slice(start, start + 2)),
            torch.ones(1, 1, 2),
        )
    assert field.planes.flatten().tolist() == [1, 1, 2]
