"""Weights of other networks, fitted into one of ours by name and shape."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nnunet_cascade.errors import WeightsError
from nnunet_cascade.networks.checkpoints import is_plain_weight, read_checkpoint

Weights = Mapping[str, torch.Tensor]

_LEAST_SHARE = 0.1
_IF_TRUSTED = "if you trust its source, load it yourself and save its state_dict alone"
# What MONAI and those who trained with it call the same weights elsewhere.
_RENAMED = (
    (re.compile(r"\bmlp\.fc([12])\."), r"mlp.linear\1."),
    (re.compile(r"\blayers([1-4])\.0\.\d+\.(?=blocks\.|downsample\.)"), r"layers\1.0."),
    (re.compile(r"\bpatch_embeddings\.1\."), "patch_embeddings."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherShape:
    """A weight that file and network have, but not alike.

    Attributes:
        name: In the network.
        found: Shape in the file.
        expected: Shape in the network.
    """

    name: str
    found: tuple[int, ...]
    expected: tuple[int, ...]

    def __str__(self) -> str:
        found, expected = ("×".join(map(str, shape)) or "a number" for shape in (self.found, self.expected))
        return f"{self.name} ({found} in the file, {expected} in the network)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """Weights for a network, as far as a file had them.

    A weight that the network holds under several names is told once, under the first.

    Attributes:
        weights: All of the network's, under all their names, taken from the file or as they were.
        taken: Names of the network's weights that the file had.
        left: Names of those it had not.
        of_other_shape: Those it had in another shape; not taken.
        unused: Names in the file that stand for nothing in the network.
        origin: What the names of most of the taken weights begin with in the file, such as `state_dict.module.`.
        place: What they begin with in the network instead, such as `swinViT.`.
        numbers_taken: How many numbers the taken weights hold, tables of indices left out.
        numbers: How many all of the network's hold.
    """

    weights: dict[str, torch.Tensor]
    taken: tuple[str, ...]
    left: tuple[str, ...]
    of_other_shape: tuple[OtherShape, ...]
    unused: tuple[str, ...]
    origin: str
    place: str
    numbers_taken: int
    numbers: int


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read the weights of a checkpoint; no code of the file is run.

    Returns:
        All tensors by name. Dictionaries inside the file are joined with dots, such as
        `state_dict.module.norm.weight`; states of optimizers, which go by number, are left out.

    Raises:
        WeightsError: The file cannot be read, would run code, or holds no weights.
    """
    content = read_checkpoint(path, if_trusted=_IF_TRUSTED)
    try:
        weights = dict(_tensors(content))
    except (TypeError, ValueError) as error:  # of dictionaries whose methods a file has put something else for
        raise WeightsError(f"{path} holds dictionaries that are none; expected a PyTorch checkpoint") from error
    if not weights:
        raise WeightsError(f"{path} holds no weights by name; expected a PyTorch checkpoint")
    return weights


def fit_weights(
    source: Weights, network: torch.nn.Module, *, encoder: tuple[str, ...], where: str = "the file"
) -> Fitted:
    """Fit weights into a network by name and shape.

    Whatever wrappers put before the names of a file does not matter, and a file of the
    encoder alone goes where the network keeps its encoder.

    Args:
        source: Of the file. Left unchanged.
        network: What they are for. Left unchanged.
        encoder: What the names of the network's encoder begin with, such as `swinViT.`.
        where: Names the file in error messages.

    Raises:
        WeightsError: Less than a tenth of the encoder fits (tables of positions and biases fit
            encoders of any width, and mean nothing alone), or a weight is not finite.
    """
    mine: dict[str, torch.Tensor] = network.state_dict(keep_vars=True)
    first = _first_names(mine)
    placed = _PlacedWeights.of(source, first, places=("", *encoder) if len(encoder) == 1 else ("",))
    values = {name: _as_convolution(source[theirs], mine[name]) for name, theirs in placed.names.items()}
    fitting = {name: value for name, value in values.items() if value.shape == mine[name].shape}
    others = tuple(
        OtherShape(name=name, found=tuple(source[placed.names[name]].shape), expected=tuple(mine[name].shape))
        for name in placed.names
        if name not in fitting
    )
    every = tuple(dict.fromkeys(first.values()))
    inside = {name for name in every if name.startswith(encoder)} or set(every)
    share = _numbers(inside & set(fitting), mine) / max(_numbers(inside, mine), 1)
    if share < _LEAST_SHARE:
        raise WeightsError(f"{where}: {_misfit(source, mine, others, share)}")
    _require_finite(fitting, where)
    fresh = {name: _ours(fitting[name], mine[name]) if name in fitting else mine[name].detach() for name in every}
    return Fitted(
        weights={name: fresh[first[name]] for name in mine},
        taken=tuple(name for name in every if name in fitting),
        left=tuple(name for name in every if name not in placed.names),
        of_other_shape=others,
        unused=placed.unused,
        origin=placed.origin,
        place=placed.place,
        numbers_taken=_numbers(fitting, mine),
        numbers=_numbers(every, mine),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _PlacedWeights:
    """Which weight of a file goes where.

    Attributes:
        names: In the file, by first name in the network; in the network's order.
        unused: Names in the file that have no place.
        origin: Prefix in the file that gives most names a place, taken away.
        place: Prefix put there instead.
    """

    names: dict[str, str]
    unused: tuple[str, ...]
    origin: str
    place: str

    @classmethod
    def of(cls, source: Weights, first: Mapping[str, str], *, places: tuple[str, ...]) -> _PlacedWeights:
        """Place the weights of a file.

        First those under the prefix that gives most names a place, then what lies next to it: a file may hold the
        encoder under a name of its own.
        """
        theirs: dict[str, str] = {}
        for name in source:
            theirs.setdefault(_renamed(name), name)
        origin, place = _best_prefixes(theirs, first, places)
        names: dict[str, str] = {}
        known: set[str] = set()
        for outer in reversed(list(_prefixes(f"{origin}end"))):
            for inner in (place, *places):
                for name, original in theirs.items():
                    target = first.get(inner + name[len(outer) :]) if name.startswith(outer) else None
                    if target is not None and original not in known:
                        names.setdefault(target, original)
                        known.add(original)
        memory = {_memory(source[name]) for name in known}
        return cls(
            names={name: names[name] for name in first if name in names},
            unused=tuple(name for name, value in source.items() if name not in known and _memory(value) not in memory),
            origin=origin,
            place=place,
        )


def _best_prefixes(names: Iterable[str], first: Mapping[str, str], places: tuple[str, ...]) -> tuple[str, str]:
    """Find the prefix to take from names and the one to put there that give most of the network's weights a name.

    The shorter prefix wins a tie, then the earlier one.
    """
    found: dict[tuple[str, str], set[str]] = {}
    for name in names:
        for outer in _prefixes(name):
            for inner in places:
                target = first.get(inner + name[len(outer) :])
                if target is not None:
                    found.setdefault((outer, inner), set()).add(target)
    return max(found, key=lambda pair: (len(found[pair]), -pair[0].count(".")), default=("", ""))


def _prefixes(name: str) -> Iterator[str]:
    """Return what a name may lose at its front, from nothing to all but its last part."""
    yield ""
    for dot in re.finditer(r"\.", name):
        yield name[: dot.end()]


def _first_names(state: Weights) -> dict[str, str]:
    """Give, by every name of a weight, the first name it has: nnU-Net's U-Nets hold theirs under up to four."""
    seen: dict[int, str] = {}
    return {name: seen.setdefault(id(value), name) for name, value in state.items()}


def _memory(value: torch.Tensor) -> tuple[Any, ...]:
    """Return what two names of the same weight in a file share."""
    return (value.data_ptr() or id(value), tuple(value.shape), value.stride())


def _renamed(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = pattern.sub(replacement, name)
    return name


def _as_convolution(value: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """Turn a linear layer on the voxels of a patch, channels last, into the same as a convolution."""
    if value.ndim != 2 or expected.ndim <= 2 or (len(value), value.numel()) != (len(expected), expected.numel()):
        return value
    return value.reshape(len(value), *expected.shape[2:], expected.shape[1]).movedim(-1, 1)


def _ours(value: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """Return a copy of its own, in the network's precision: a file may keep all its weights in one block."""
    return value.detach().to(expected.dtype, copy=True).contiguous()


def _numbers(names: Iterable[str], mine: Weights) -> int:
    """Count what is learned; tables of indices are not."""
    return sum(mine[name].numel() for name in names if mine[name].is_floating_point())


def _misfit(source: Weights, mine: Weights, others: tuple[OtherShape, ...], share: float) -> str:
    told = f"{share:.0%} of the network's encoder fits by name and shape"
    if others:
        example = max(others, key=lambda other: len(other.expected))
        return f"{told}, others are such as {example}; expected weights of the same architecture and size"
    return (
        f"{told}; names in the file are such as {next(iter(source))}, the network's such as {next(iter(mine))}; "
        "expected weights of the same architecture"
    )


def _require_finite(weights: Weights, where: str) -> None:
    for name, value in weights.items():
        if not bool(torch.isfinite(value).all()):
            raise WeightsError(f"{where}: {name} is not finite everywhere; expected weights of a training that held")


def _tensors(content: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Return the tensors inside dictionaries, in their order; a file may make a dictionary hold itself."""
    waiting: list[tuple[str, Any]] = [("", content)]
    seen: set[int] = set()
    while waiting:
        name, part = waiting.pop()
        if isinstance(part, torch.Tensor):
            if name and is_plain_weight(part):
                yield name, torch.Tensor.detach(part)
        elif isinstance(part, Mapping) and id(part) not in seen:
            seen.add(id(part))
            items = [(f"{name}.{key}" if name else key, value) for key, value in part.items() if isinstance(key, str)]
            waiting.extend(reversed(items))
