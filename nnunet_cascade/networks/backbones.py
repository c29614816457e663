"""Networks that nnU-Net's plans do not describe: MONAI's, under one way of asking for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, get_args

from torch import nn

from nnunet_cascade.networks.patch import legal_patch
from nnunet_cascade.settings.serialization import require
from nnunet_cascade.settings.training import NetworkSize

BackboneName = Literal["swin_unetr", "unetr", "segresnet", "attention_unet"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneRequest:
    """A network to build.

    Attributes:
        input_channels: Of the images.
        output_channels: Of the logits.
        patch_size: (Z, Y, X), voxels; legal for the network.
        size: As published, or tiny for CPUs.
        dropout: Probability of each dropout; 0 makes the network deterministic.

    Raises:
        SettingsError: A value is out of its range.
    """

    input_channels: int
    output_channels: int
    patch_size: tuple[int, ...]
    size: NetworkSize = "paper"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("input_channels", "output_channels"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1; found {getattr(self, name)}")
        require(self.size in get_args(NetworkSize), f"size must be one of {get_args(NetworkSize)}; found {self.size!r}")
        require(0 <= self.dropout < 1, f"dropout must be at least 0 and below 1; found {self.dropout}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    """A kind of network.

    Attributes:
        name: In settings and messages.
        patch_multiple: Every side of a patch must be divisible by it.
        patch_minimum: And be at least this long, or a normalization would see one value only.
        builder: Makes the network of a request whose patch is legal.
        encoder_prefix: How the state-dict keys of its encoder begin; `str.startswith` takes it as it is.
    """

    name: BackboneName
    patch_multiple: int
    patch_minimum: int
    builder: Callable[[BackboneRequest], nn.Module]
    encoder_prefix: tuple[str, ...]

    def build(self, request: BackboneRequest) -> nn.Module:
        """Build a network (B, C, Z, Y, X) → logits of the same grid, one output, no final nonlinearity.

        Raises:
            SettingsError: The patch is not legal.
        """
        legal = legal_patch(request.patch_size, self)
        require(
            legal == tuple(request.patch_size),
            f"{self.name} needs patches whose sides are divisible by {self.patch_multiple} and at least "
            f"{self.patch_minimum}; found {tuple(request.patch_size)}; use {legal}",
        )
        return self.builder(request)


def _monai(name: str, request: BackboneRequest, **options: Any) -> Any:
    # MONAI takes seconds to import, and nnU-Net imports all trainers to find one.
    kind = getattr(import_module("monai.networks.nets"), name)
    return kind(in_channels=request.input_channels, out_channels=request.output_channels, **options)


def _swin_unetr(request: BackboneRequest) -> nn.Module:
    # Attention dropout is left out: its share of the variance is a thousandth of that of drop_rate.
    # Windows of 4 instead of 7 take a third of the time on a CPU.
    sizes = {"paper": {"feature_size": 48}, "tiny": {"feature_size": 12, "window_size": 4}}
    return _monai("SwinUNETR", request, drop_rate=request.dropout, **sizes[request.size])


def _unetr(request: BackboneRequest) -> nn.Module:
    sizes = {
        "paper": {"feature_size": 16, "hidden_size": 768, "mlp_dim": 3072, "num_heads": 12},
        "tiny": {"feature_size": 8, "hidden_size": 96, "mlp_dim": 192, "num_heads": 4},
    }
    size = sizes[request.size]
    network = _monai("UNETR", request, img_size=request.patch_size, dropout_rate=request.dropout, **size)
    for block in network.vit.blocks:
        # Cross attention is never run here. Older MONAI builds it all the same, 28 million weights without
        # gradient: distributed training would stop at them, and checkpoints depend on MONAI's version.
        block.cross_attn = nn.Identity()
        block.norm_cross_attn = nn.Identity()
    return network


def _segresnet(request: BackboneRequest) -> nn.Module:
    filters = {"paper": 32, "tiny": 8}[request.size]
    return _monai("SegResNet", request, init_filters=filters, dropout_prob=request.dropout or None)


def _attention_unet(request: BackboneRequest) -> nn.Module:
    channels = {"paper": (32, 64, 128, 256, 512), "tiny": (8, 16, 32, 64, 128)}[request.size]
    strides = (2,) * (len(channels) - 1)
    return _monai("AttentionUnet", request, spatial_dims=3, channels=channels, strides=strides, dropout=request.dropout)


_KINDS = (
    Backbone(name="swin_unetr", patch_multiple=32, patch_minimum=64, builder=_swin_unetr, encoder_prefix=("swinViT.",)),
    Backbone(name="unetr", patch_multiple=16, patch_minimum=16, builder=_unetr, encoder_prefix=("vit.",)),
    Backbone(
        name="segresnet",
        patch_multiple=8,
        patch_minimum=8,
        builder=_segresnet,
        encoder_prefix=("convInit.", "down_layers."),
    ),
    Backbone(
        name="attention_unet",
        patch_multiple=16,
        patch_minimum=32,
        builder=_attention_unet,
        # Each level lies inside the one above; the bottom holds its convolutions without a further level.
        encoder_prefix=(
            "model.0.",
            *(f"model.1.{'submodule.1.' * level}submodule.0." for level in range(3)),
            f"model.1.{'submodule.1.' * 3}submodule.conv.",
        ),
    ),
)
BACKBONES: dict[BackboneName, Backbone] = {kind.name: kind for kind in _KINDS}
