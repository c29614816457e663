"""The paper's kind of augmentation: what it does to image and labels, and what of nnU-Net's it keeps."""

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.rot90 import Rot90Transform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.cropping import center_crop
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.trainers.augmentation import (
    ELASTIC_REACH,
    FLIP_PROBABILITY,
    INTENSITY_SCALE,
    INTENSITY_SHIFT_STD,
    NOISE_STD,
    QUARTER_TURN_PROBABILITY,
    paper_augmentation,
)

CUBE = (16, 16, 16)
SLAB = (4, 20, 20)
PATCHES = [
    (CUBE, False),
    ((12, 16, 20), False),
    (SLAB, True),
    ((4, 20, 16), True),
    *[((n, 20), False) for n in (20, 12)],
]
every_patch = pytest.mark.parametrize(("patch_size", "slice_wise"), PATCHES)


def stock(patch_size, *, slice_wise=False, mirror_axes="all", scales=None, **options):
    """nnU-Net's own training transforms."""
    axes = tuple(range(len(patch_size))) if mirror_axes == "all" else mirror_axes
    return nnUNetTrainer.get_training_transforms(patch_size, (-0.5, 0.5), scales, axes, slice_wise, **options)


def paper(patch_size, **options):
    return paper_augmentation(stock(patch_size, **options), spacing=(1.0,) * len(patch_size))


def set_chances(transforms, *, shape, intensity, mirroring=None):
    """Let whole kinds of augmentation happen always (1) or never (0)."""
    for part in transforms.transforms:
        if isinstance(part, SpatialTransform):
            part.p_rotation = part.p_scaling = part.p_elastic_deform = shape
        elif isinstance(part, RandomTransform):
            of_shape = isinstance(part.transform, (MirrorTransform, Rot90Transform))
            part.apply_probability = (shape if mirroring is None else mirroring) if of_shape else intensity
    return transforms


def parts(transforms, kind):
    inner = [getattr(part, "transform", part) for part in transforms.transforms]
    return [part for part in inner if isinstance(part, kind)]


def seed(value):
    np.random.seed(value)  # noqa: NPY002 - what the transforms draw from
    torch.manual_seed(value)


def larger(patch_size, *, slice_wise=False):
    """The size that nnU-Net cuts for a patch before it deforms it."""
    return tuple(edge if slice_wise and not axis else edge * 3 // 2 for axis, edge in enumerate(patch_size))


def sample(shape, *, channels=1, label_channels=1):
    """An image of noise, and labels 0, 1, 2 in blocks."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randint(0, 3, (label_channels, *[-(-edge // 4) for edge in shape]), generator=generator)
    for axis in range(1, len(shape) + 1):
        coarse = coarse.repeat_interleave(4, axis)
    labels = coarse[(slice(None), *[slice(edge) for edge in shape])].to(torch.int16).contiguous()
    return {"image": torch.randn(channels, *shape, generator=generator), "segmentation": labels}


def copied(data):
    return {key: value.clone() for key, value in data.items()}


@pytest.mark.parametrize("channels", [1, 2])
@every_patch
def test_a_patch_has_exactly_its_size_and_whole_known_labels(patch_size, slice_wise, channels):
    data = sample(larger(patch_size, slice_wise=slice_wise), channels=channels)
    for shape in (0, 1):
        transforms = set_chances(paper(patch_size, slice_wise=slice_wise), shape=shape, intensity=shape)
        for draw in range(4):
            seed(draw)
            out = transforms(**copied(data))
            assert out["image"].shape == (channels, *patch_size)
            assert out["segmentation"].shape == (1, *patch_size)
            assert (out["image"].dtype, out["segmentation"].dtype) == (torch.float32, torch.int16)
            assert set(out["segmentation"].unique().tolist()) == {0, 1, 2}
            assert torch.isfinite(out["image"]).all()


@every_patch
def test_image_and_labels_move_together(patch_size, slice_wise):
    shape = larger(patch_size, slice_wise=slice_wise)
    labels = (sample(shape)["segmentation"] == 1).to(torch.int16)
    transforms = set_chances(paper(patch_size, slice_wise=slice_wise), shape=1, intensity=0)
    for draw in range(4):
        seed(draw)
        out = transforms(image=labels.float(), segmentation=labels.clone())
        clear = (out["image"] - 0.5).abs() > 0.01
        assert clear.float().mean() > 0.8
        assert torch.equal((out["image"] > 0.5)[clear], (out["segmentation"] == 1)[clear])


@every_patch
def test_intensities_change_the_image_alone(patch_size, slice_wise):
    data = sample(larger(patch_size, slice_wise=slice_wise), channels=2)
    transforms = set_chances(paper(patch_size, slice_wise=slice_wise), shape=0, intensity=1)
    out = transforms(**copied(data))
    assert torch.equal(out["segmentation"], center_crop(data["segmentation"], patch_size))
    before = center_crop(data["image"], patch_size)
    assert all(not torch.equal(out["image"][channel], before[channel]) for channel in range(2))
    assert (out["image"] - before).abs().max() < 2


def intensity_changes(index, image, *, draws):
    """What the first (scale), second (shift) or third (noise) of the intensity transforms makes of an image."""
    transforms = paper(image.shape[1:], mirror_axes=None).transforms
    chances = [part for part in transforms if isinstance(part, RandomTransform)]
    assert len(chances) == 3
    seed(0)
    return torch.stack([chances[index].transform(image=image.clone())["image"] for _ in range(draws)])


@pytest.mark.parametrize(
    ("index", "middle", "deviation"), [(0, 1, np.ptp(INTENSITY_SCALE) / 12**0.5), (1, 0, INTENSITY_SHIFT_STD)]
)
def test_scales_and_shifts_of_intensities_go_both_ways_in_each_channel_by_itself(index, middle, deviation):
    found = intensity_changes(index, torch.full((2, 2, 2, 2), float(middle)), draws=400)
    assert torch.equal(found.amin((2, 3, 4)), found.amax((2, 3, 4)))
    found = found[:, :, 0, 0, 0]
    assert found.mean(0).tolist() == pytest.approx([middle] * 2, abs=0.02)
    assert found.std(0).tolist() == pytest.approx([deviation] * 2, rel=0.15)
    assert not torch.equal(found[:, 0], found[:, 1])
    if index == 0:
        assert INTENSITY_SCALE[0] <= found.min() <= found.max() <= INTENSITY_SCALE[1]


def test_noise_is_at_most_as_strong_as_it_may_be():
    strengths = intensity_changes(2, torch.zeros(1, 16, 16, 16), draws=50).std((1, 2, 3, 4))
    assert strengths.max() < NOISE_STD[1] * 1.05
    assert 0.3 < strengths.mean() / NOISE_STD[1] < 0.7


BOOKKEEPING = {
    "plain": {},
    "mask outside": {"use_mask_for_norm": [True]},
    "deep supervision": {"scales": [[1, 1, 1], [0.5, 0.5, 0.5], [0.25, 0.5, 0.5]]},
    "regions": {"regions": [(1, 2), 2], "scales": [[1, 1, 1], [0.5, 0.5, 0.5]]},
    "regions, ignored voxels": {"regions": [(1, 2), 2], "ignore_label": 3, "use_mask_for_norm": [True]},
    "previous stage": {"is_cascaded": True, "foreground_labels": [1, 2], "scales": [[1, 1, 1]]},
}


@pytest.mark.parametrize("options", BOOKKEEPING.values(), ids=BOOKKEEPING)
def test_nnunets_bookkeeping_is_kept_object_for_object_and_in_order(options):
    original = stock(CUBE, **options)
    before = list(original.transforms)
    kinds = [type(part).__name__ for part in before]
    first = next(i for i, kind in enumerate(kinds) if kind.startswith(("MaskImage", "RemoveLabel")))
    kept = paper_augmentation(original, spacing=(1.0, 1.0, 1.0)).transforms[first - len(before) :]
    assert len(kept) == len(before[first:]) >= 1
    assert all(ours is theirs for ours, theirs in zip(kept, before[first:], strict=True))
    assert len(original.transforms) == len(before)
    assert all(after is part for after, part in zip(original.transforms, before, strict=True))


def test_what_comes_from_outside_the_image_is_background_and_masked_after_the_intensities():
    transforms = set_chances(paper(CUBE, use_mask_for_norm=[True]), shape=1, intensity=1)
    parts(transforms, SpatialTransform)[0].scaling = (1.25, 1.25)
    out = transforms(image=torch.ones(1, *CUBE), segmentation=torch.ones((1, *CUBE), dtype=torch.int16))
    outside = out["segmentation"] == 0
    assert 0.2 < outside.float().mean() < 0.9
    assert (out["image"][outside] == 0).all()
    assert (out["image"][~outside] != 0).all()


@pytest.mark.parametrize("axes", [None, ()])
@every_patch
def test_without_mirroring_what_lies_at_one_side_stays_there(patch_size, slice_wise, axes):
    transforms = set_chances(paper(patch_size, slice_wise=slice_wise, mirror_axes=axes), shape=1, intensity=1)
    assert not parts(transforms, (MirrorTransform, Rot90Transform))
    labels = torch.zeros((1, *patch_size), dtype=torch.int16)
    labels[..., : patch_size[-1] // 4] = 1
    for draw in range(12):
        seed(draw)
        out = transforms(image=labels.float(), segmentation=labels.clone())["segmentation"]
        center = (out * torch.arange(patch_size[-1])).sum() / out.sum()
        assert center < patch_size[-1] / 2 - 1


def test_each_axis_is_mirrored_by_itself_and_as_often_as_it_should_be():
    corner = torch.zeros(1, 2, 2, 3)
    corner[0, 0, 0, 0] = 1
    transforms = set_chances(paper((2, 2, 3)), shape=0, intensity=0, mirroring=2 * FLIP_PROBABILITY)
    seed(0)
    found = [transforms(image=corner.clone(), segmentation=corner.short())["image"].nonzero()[0] for _ in range(1000)]
    flipped = (torch.stack(found)[:, 1:] > 0).float()
    assert flipped.mean(0).tolist() == pytest.approx([FLIP_PROBABILITY] * 3, abs=0.05)
    assert (flipped[:, 0] * flipped[:, 1]).mean() == pytest.approx(FLIP_PROBABILITY**2, abs=0.025)


def test_only_the_axes_allowed_are_mirrored():
    ramp = torch.arange(4.0).view(1, 1, 4, 1).expand(1, 4, 4, 4)
    transforms = set_chances(paper((4, 4, 4), mirror_axes=(0, 2)), shape=0, intensity=0, mirroring=1)
    for draw in range(20):
        seed(draw)
        assert torch.equal(transforms(image=ramp.clone(), segmentation=ramp.short())["image"], ramp)


def quarter_turns(transforms):
    return [part for part in transforms.transforms if isinstance(getattr(part, "transform", None), Rot90Transform)]


@pytest.mark.parametrize(
    ("patch_size", "slice_wise", "mirror_axes", "plane"),
    [
        (CUBE, False, "all", {1, 2}),
        (CUBE, False, (1, 2), {1, 2}),
        (CUBE, False, (0, 1), None),
        (CUBE, False, (0,), None),
        ((12, 16, 16), False, "all", {1, 2}),
        ((16, 16, 12), False, "all", None),
        ((16, 12, 16), False, "all", None),
        (SLAB, True, "all", {1, 2}),
        (SLAB, True, (0, 1), None),
        ((4, 20, 16), True, "all", None),
        ((20, 20), False, "all", {0, 1}),
        ((12, 20), False, "all", None),
        ((20, 20), False, (0,), None),
    ],
)
def test_quarter_turns_need_a_square_plane_of_the_last_axes_that_may_be_mirrored(
    patch_size, slice_wise, mirror_axes, plane
):
    turns = quarter_turns(paper(patch_size, slice_wise=slice_wise, mirror_axes=mirror_axes))
    assert [turn.transform.allowed_axes for turn in turns] == ([] if plane is None else [plane])
    assert all(turn.apply_probability == QUARTER_TURN_PROBABILITY for turn in turns)


@pytest.mark.parametrize(("spacing", "turns"), [((3.0, 1.0, 1.0), 1), ((1.0, 1.0, 3.0), 0)])
def test_a_plane_is_turned_only_where_its_voxels_are_square(spacing, turns):
    assert len(quarter_turns(paper_augmentation(stock((32, 32, 32)), spacing=spacing))) == turns


def test_a_quarter_turn_keeps_every_slice_in_its_place_and_reaches_the_three_other_sides():
    marked = torch.arange(1.0, 5.0).view(1, 4, 1, 1).repeat(1, 1, 6, 6)
    marked[:, :, 0, 2] += 10
    transforms = set_chances(paper((4, 6, 6)), shape=0, intensity=0)
    for part in quarter_turns(transforms):
        part.apply_probability = 1
    spots = set()
    for draw in range(40):
        seed(draw)
        out = transforms(image=marked.clone(), segmentation=marked.short())["image"]
        assert torch.equal(out % 10, marked % 10)
        spots.add(tuple((out[0, 0] > 10).nonzero()[0].tolist()))
    assert spots == {(2, 5), (5, 3), (3, 0)}


def test_thick_slices_are_deformed_in_their_plane_alone_and_all_alike():
    size = (4, 30, 30)
    image = sample((1, 30, 30))["image"].repeat(1, 4, 1, 1)
    transforms = set_chances(paper(SLAB, slice_wise=True), shape=1, intensity=0, mirroring=0)
    out = transforms(image=image.clone(), segmentation=torch.zeros((1, *size), dtype=torch.int16))["image"]
    assert not torch.equal(out, center_crop(image, SLAB))
    assert torch.equal(out, out[:, :1].expand_as(out))
    heights = torch.arange(1.0, 5.0).view(1, 4, 1, 1).expand(1, *size)
    out = transforms(image=heights.clone(), segmentation=torch.zeros((1, *size), dtype=torch.int16))["image"]
    torch.testing.assert_close(out[:, :, 8:12, 8:12], heights[:, :, :4, :4])


@pytest.mark.parametrize("patch_size", [CUBE, (48, 48, 48), (12, 48, 48), (64, 64)])
def test_elastic_deformation_stays_small_and_never_folds_the_image(patch_size):
    spatial = parts(paper(patch_size), SpatialTransform)[0]
    spatial.p_elastic_deform, spatial.p_rotation, spatial.p_scaling = 1, 0, 0
    reach = ELASTIC_REACH * min(patch_size)
    assert spatial.elastic_deform_magnitude == (0, reach)
    spatial.elastic_deform_magnitude = (reach, reach)
    for draw in range(5):
        seed(draw)
        moves = spatial.get_parameters(image=torch.zeros(1, *patch_size))["elastic_offsets"].numpy()
        assert np.abs(moves).max() == pytest.approx(reach, rel=1e-4)
        axes = range(len(patch_size))
        slopes = np.stack([np.stack(np.gradient(moves[..., axis]), -1) for axis in axes], -2)
        assert np.linalg.det(slopes + np.eye(len(patch_size))).min() > 0.3


def test_rotation_and_zoom_stay_in_their_ranges():
    spatial = parts(paper(CUBE), SpatialTransform)[0]
    spatial.p_elastic_deform, spatial.p_rotation, spatial.p_scaling = 0, 0, 1
    seed(0)
    matrices = [spatial.get_parameters(image=torch.zeros(1, *CUBE))["affine"] for _ in range(200)]
    zooms = [1 / matrix[0, 0] for matrix in matrices]
    assert all(np.allclose(matrix, np.eye(3) / zoom) for matrix, zoom in zip(matrices, zooms, strict=True))
    assert 0.8 <= min(zooms) < 0.82
    assert 1.18 < max(zooms) <= 1.2
    flat = parts(paper((20, 20)), SpatialTransform)[0]
    flat.p_elastic_deform, flat.p_rotation, flat.p_scaling = 0, 1, 0
    turns = [flat.get_parameters(image=torch.zeros(1, 20, 20))["affine"] for _ in range(200)]
    angles = [np.arctan2(turn[1, 0], turn[0, 0]) for turn in turns]
    assert -0.3 <= min(angles) < -0.28
    assert 0.28 < max(angles) <= 0.3


@every_patch
def test_the_same_seed_gives_the_same_bits_and_another_gives_others(patch_size, slice_wise):
    data = sample(larger(patch_size, slice_wise=slice_wise))

    def drawn(value):
        transforms = paper(patch_size, slice_wise=slice_wise)
        seed(value)
        return [transforms(**copied(data)) for _ in range(5)]

    first, again, other = drawn(3), drawn(3), drawn(4)
    assert all(torch.equal(a[key], b[key]) for a, b in zip(first, again, strict=True) for key in data)
    assert any(not torch.equal(a["image"], b["image"]) for a, b in zip(first, other, strict=True))


def test_nothing_is_timed_to_choose_how_it_is_computed():
    assert not any(getattr(part, "benchmark", False) for part in parts(paper(CUBE), object))


def test_nearly_every_patch_is_changed_but_not_every_one():
    data = sample(larger(CUBE))
    untouched = center_crop(data["image"], CUBE)
    transforms = paper(CUBE)
    seed(0)
    same = [torch.equal(transforms(**copied(data))["image"], untouched) for _ in range(200)]
    # 0.5² · 0.85 of the intensities, 0.8 · 0.84 · 0.9 of the deformations, 0.8⁴ of the mirrorings: 0.053.
    assert 0.02 < np.mean(same) < 0.1


@pytest.mark.parametrize("missing", ["SpatialTransform", "RemoveLabelTransform"])
def test_transforms_that_are_not_nnunets_are_refused(missing):
    left = [part for part in stock(CUBE).transforms if type(part).__name__ != missing]
    with pytest.raises(SettingsError, match=r"augmentation 'paper'.*set augmentation to 'nnunet'"):
        paper_augmentation(ComposeTransforms(left), spacing=(1.0, 1.0, 1.0))
