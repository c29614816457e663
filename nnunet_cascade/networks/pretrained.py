"""Weights of other networks, fitted into one of ours by name and shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnunet_cascade.errors import WeightsError

Weights = Mapping[str, torch.Tensor]

_WRAPPERS = ("module.", "model.", "backbone.", "encoder.", "swinViT.", "swin_vit.")
_HOLDERS = ("network_weights", "state_dict", "model", "model_state_dict")
# Linear layers of a block bear other names in files of before MONAI 0.9.
_RENAMED = {"mlp.fc1.": "mlp.linear1.", "mlp.fc2.": "mlp.linear2."}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """Weights for a network, as far as a file had them.

    Attributes:
        weights: All of the network's, taken from the file or left as they were.
        taken: Names of the network's weights that the file had.
        left: Names of the network's weights that it had not.
        unused: Names in the file that the network has no place for.
        of_other_shape: Names in the network whose weights have another shape in the file.
    """

    weights: dict[str, torch.Tensor]
    taken: tuple[str, ...]
    left: tuple[str, ...]
    unused: tuple[str, ...]
    of_other_shape: tuple[str, ...]


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read the weights of a checkpoint; no code of the file is run.

    Raises:
        WeightsError: The file cannot be read, would run code, or holds no weights.
    """
    try:
        with torch.serialization.safe_globals(_harmless()):
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path} cannot be read as weights ({reason}); expected a PyTorch checkpoint") from error
    for holder in _HOLDERS:
        if isinstance(content, dict) and isinstance(content.get(holder), dict):
            content = content[holder]
    weights = {str(name): value for name, value in dict(content).items() if isinstance(value, torch.Tensor)}
    if not weights:
        raise WeightsError(f"{path} holds no weights; expected a PyTorch checkpoint")
    return weights


def fit_weights(source: Weights, network: torch.nn.Module, *, encoder_prefix: str = "") -> Fitted:
    """Fit weights into a network by name and shape.

    Args:
        source: Of a file. Prefixes that wrappers left (`module.` and the like) do not matter.
        network: What they are for. Left unchanged.
        encoder_prefix: Where the network keeps its encoder, such as `swinViT.`; a name is looked
            for as it is first, then there.

    Raises:
        WeightsError: No weight fits.
    """
    mine = network.state_dict()
    places = {name: _place(name, mine, encoder_prefix) for name in source}
    fitting = {place: name for name, place in places.items() if place is not None}
    same = {place: name for place, name in fitting.items() if source[name].shape == mine[place].shape}
    if not same:
        raise WeightsError(
            f"none of {len(source)} weights fits the network's {len(mine)}, such as {next(iter(source))} and "
            f"{next(iter(mine))}; expected weights of the same architecture and size"
        )
    weights = {name: source[same[name]].to(value.dtype) if name in same else value for name, value in mine.items()}
    return Fitted(
        weights=weights,
        taken=tuple(sorted(same)),
        left=tuple(sorted(set(mine) - set(same))),
        unused=tuple(sorted(name for name, place in places.items() if place is None)),
        of_other_shape=tuple(sorted(set(fitting) - set(same))),
    )


def _place(name: str, mine: Weights, encoder_prefix: str) -> str | None:
    """Find the network's name for a weight of a file."""
    for candidate in _unwrapped(name):
        for place in (candidate, encoder_prefix + candidate):
            if place in mine:
                return place
    return None


def _unwrapped(name: str) -> list[str]:
    """Give a name with fewer and fewer of its wrappers' prefixes."""
    for old, new in _RENAMED.items():
        name = name.replace(old, new)
    names = [name]
    while True:
        prefix = next((prefix for prefix in _WRAPPERS if names[-1].startswith(prefix)), None)
        if prefix is None:
            return names
        names.append(names[-1].removeprefix(prefix))


def _harmless() -> list[Any]:
    """Give the types of NumPy that an honest nnU-Net checkpoint holds beside tensors."""
    scalar: Any = getattr(np, "_core", np).multiarray.scalar
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.bool_)]
    return [scalar, np.dtype, *kinds]
