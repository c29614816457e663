"""Dropout in the networks that nnU-Net's plans describe, and only where it is wanted."""

from __future__ import annotations

from typing import Any, cast

from torch import nn
from torch.nn.modules.dropout import _DropoutNd  # pyright: ignore[reportPrivateUsage] - their one common base

from nnunet_cascade.errors import DropoutError
from nnunet_cascade.settings.training import DropoutPlacement

_OPS = {2: "torch.nn.Dropout2d", 3: "torch.nn.Dropout3d"}


def dropout_modules(network: nn.Module) -> list[_DropoutNd]:
    """Return the dropouts of a network that can drop anything: those with a probability above 0."""
    return [module for module in network.modules() if isinstance(module, _DropoutNd) and module.p > 0]


def require_dropout(network: nn.Module) -> None:
    """Raise a DropoutError unless a network has an active dropout."""
    if not dropout_modules(network):
        raise DropoutError(
            "the network has no active dropout, so Monte-Carlo samples would all be equal; "
            "train stage 2 with UncertaintyROITrainer, or predict with --mc_samples 0"
        )


def with_dropout(arch_kwargs: dict[str, Any], *, probability: float, dimensions: int) -> dict[str, Any]:
    """Return an architecture's arguments with nnU-Net's own dropout switched on.

    The norms' keys in the state dict move by one (`all_modules.1` becomes `all_modules.2`), so that a network trained
    without dropout does not load into one with it.

    Args:
        arch_kwargs: `architecture.arch_kwargs` of a plans file. Left unchanged.
        probability: Of each dropout, between 0 and 1.
        dimensions: 2 or 3, the dimensions of the convolutions.

    Raises:
        DropoutError: The architecture has no `dropout_op`.
    """
    if "dropout_op" not in arch_kwargs:
        raise DropoutError(
            "the architecture of the plans takes no dropout_op; plan with nnU-Net's default or ResEnc planner"
        )
    return {**arch_kwargs, "dropout_op": _OPS[dimensions], "dropout_op_kwargs": {"p": probability}}


def confine_dropout(network: nn.Module, placement: DropoutPlacement) -> None:
    """Switch off, for good, the dropouts of a U-Net that lie outside the wanted part.

    With `bottleneck_decoder` all encoder stages but the last become deterministic,
    so that their features need computing once for any number of samples.

    Raises:
        DropoutError: The network has no `encoder.stages` to tell the parts by.
    """
    if placement == "everywhere":
        return
    encoder = getattr(network, "encoder", None)
    stages = getattr(encoder, "stages", None)
    if encoder is None or stages is None:
        raise DropoutError(f"{type(network).__name__} has no encoder stages; use dropout_placement 'everywhere'")
    bottleneck = set(dropout_modules(list(cast(nn.Sequential, stages))[-1]))
    for module in set(dropout_modules(encoder)) - bottleneck:
        module.p = 0.0
