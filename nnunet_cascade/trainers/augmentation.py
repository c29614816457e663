"""Augmentation of the paper's kind: what MONAI does to train Swin UNETR and UNETR, by nnU-Net's own transforms.

The paper names MONAI and "a range of spatial and intensity augmentations", no numbers. Those
here are MONAI's own for these networks: its scripts for BTCV and BraTS (research-contributions,
`SwinUNETR` and `UNETR`), its tutorials on BTCV, and its Auto3DSeg template for Swin UNETR.
docs/decisions/0009-augmentation.md, says which comes from where.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isclose

from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.intensity.brightness import (
    BrightnessAdditiveTransform,
    MultiplicativeBrightnessTransform,
)
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.rot90 import Rot90Transform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.nnunet_masking import MaskImageTransform
from batchgeneratorsv2.transforms.utils.pseudo2d import Convert2DTo3DTransform, Convert3DTo2DTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTansform

from nnunet_cascade.errors import SettingsError

FLIP_PROBABILITY = 0.2
"""Of a mirroring along one axis; each axis has its own draw. MONAI's BTCV scripts."""
QUARTER_TURN_PROBABILITY = 0.2
"""Of one to three quarter turns in the plane of the last two axes. MONAI's BTCV scripts."""

ROTATION_PROBABILITY = 0.2
ROTATION_RADIANS = (-0.3, 0.3)
"""Of a turn about each axis. MONAI's Auto3DSeg template."""
SCALING_PROBABILITY = 0.16
SCALING = (1 / 1.2, 1 / 0.8)
"""Voxels of the image per voxel of the patch: zoomed by 0.8 to 1.2. MONAI's Auto3DSeg template."""
ELASTIC_PROBABILITY = 0.1
ELASTIC_SMOOTHING = (0.1, 0.2)
"""Standard deviation of the displacements' smoothing, as a share of the patch. Ours: MONAI deforms nothing here."""
ELASTIC_REACH = 0.04
"""Largest displacement, as a share of the patch's shortest edge: too small to fold the image. Ours."""

INTENSITY_SCALE_PROBABILITY = 0.5
INTENSITY_SCALE = (0.9, 1.1)
"""Factor of a channel. MONAI's BTCV and BraTS scripts; the probability is Auto3DSeg's."""
INTENSITY_SHIFT_PROBABILITY = 0.5
INTENSITY_SHIFT_STD = 0.1
"""Of what is added to a channel, in units of normalized intensity. MONAI draws evenly from ± a tenth: of its window
of 0 … 1 for CT, which is −1 … 1 here, or of a standard deviation."""
NOISE_PROBABILITY = 0.15
NOISE_STD = (0.0, 0.1)
"""In the same units. MONAI's default; the probability is Auto3DSeg's."""


def paper_augmentation(stock: ComposeTransforms, *, spacing: Sequence[float]) -> ComposeTransforms:
    """Replace what nnU-Net's training transforms do to images by the paper's kind of augmentation.

    Patch size, the axes that may be mirrored, and whether thick slices are deformed in their
    plane alone are those of `stock`. Without leave to mirror the last two axes there are no
    quarter turns either: half a turn is two mirrorings. What nnU-Net does behind its
    augmentation (masks, labels, previous stage, regions, deep supervision) stays as it is.
    Draws come from NumPy's and torch's global generators.

    Args:
        stock: Made by nnU-Net's `get_training_transforms`. Left unchanged; its bookkeeping is shared.
        spacing: Voxel size along the axes of the patch, mm.

    Returns:
        Transforms of the same input and output.

    Raises:
        SettingsError: `stock` is not built as nnU-Net builds it.

    Source:
        docs/decisions/0009-augmentation.md.
    """
    kinds = [type(transform) for transform in stock.transforms]
    end = next((i for i, kind in enumerate(kinds) if issubclass(kind, (MaskImageTransform, RemoveLabelTansform))), None)
    front = stock.transforms[:end]
    spatial = next((transform for transform in front if isinstance(transform, SpatialTransform)), None)
    if end is None or spatial is None:
        raise SettingsError(
            "augmentation 'paper' takes the place of nnU-Net's own; expected its SpatialTransform and "
            f"RemoveLabelTransform, found {', '.join(kind.__name__ for kind in kinds)}; set augmentation to 'nnunet'"
        )
    patch_size = tuple(int(edge) for edge in spatial.patch_size)
    slice_wise = any(isinstance(transform, Convert3DTo2DTransform) for transform in front)
    mirror_axes = {axis for part in front if isinstance(part, MirrorTransform) for axis in part.allowed_axes}
    can_turn = patch_size[-2] == patch_size[-1] and isclose(spacing[-2], spacing[-1], rel_tol=0.05)
    return ComposeTransforms(
        [
            *_deformations(patch_size, slice_wise=slice_wise),
            *_mirrorings(mirror_axes, last_axis=len(patch_size) - 1 + int(slice_wise), can_turn=can_turn),
            *_intensities(),
            *stock.transforms[end:],
        ]
    )


def _deformations(patch_size: Sequence[int], *, slice_wise: bool) -> list[BasicTransform]:
    """Cut the patch, at times turned, zoomed or bent; outside the image lies −1, which nnU-Net removes later."""
    spatial = SpatialTransform(
        tuple(patch_size),
        patch_center_dist_from_border=0,
        random_crop=False,
        p_elastic_deform=ELASTIC_PROBABILITY,
        elastic_deform_scale=ELASTIC_SMOOTHING,
        elastic_deform_magnitude=(0.0, ELASTIC_REACH * min(patch_size)),
        p_synchronize_def_scale_across_axes=1,
        p_rotation=ROTATION_PROBABILITY,
        rotation=ROTATION_RADIANS,
        p_scaling=SCALING_PROBABILITY,
        scaling=SCALING,
        p_synchronize_scaling_across_axes=1,
        border_mode_seg="constant",
        padding_value_seg=-1,
    )
    return [Convert3DTo2DTransform(), spatial, Convert2DTo3DTransform()] if slice_wise else [spatial]


def _mirrorings(mirror_axes: set[int], *, last_axis: int, can_turn: bool) -> list[BasicTransform]:
    """Mirror along the axes allowed, and turn the plane of the last two axes by quarters where it is square."""
    # MirrorTransform tosses a coin for each axis itself.
    mirrorings: list[BasicTransform] = [
        RandomTransform(MirrorTransform((axis,)), 2 * FLIP_PROBABILITY) for axis in sorted(mirror_axes)
    ]
    plane = {last_axis - 1, last_axis}
    if can_turn and plane <= mirror_axes:
        mirrorings.append(RandomTransform(Rot90Transform(1, (1, 2, 3), plane), QUARTER_TURN_PROBABILITY))
    return mirrorings


def _intensities() -> list[BasicTransform]:
    """Scale and shift the intensities of each channel by itself, and add noise."""
    # Synchronized, BrightnessAdditiveTransform would draw evenly between mean and standard deviation: never below 0.
    shift = BrightnessAdditiveTransform(mu=0.0, sigma=INTENSITY_SHIFT_STD, synchronize_channels=False)
    # What GaussianNoiseTransform calls a variance is taken as a standard deviation.
    noise = GaussianNoiseTransform(noise_variance=NOISE_STD, p_per_channel=1, synchronize_channels=True)
    return [
        RandomTransform(
            MultiplicativeBrightnessTransform(INTENSITY_SCALE, synchronize_channels=False), INTENSITY_SCALE_PROBABILITY
        ),
        RandomTransform(shift, INTENSITY_SHIFT_PROBABILITY),
        RandomTransform(noise, NOISE_PROBABILITY),
    ]
