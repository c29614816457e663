"""Checkpoints of PyTorch's read as numbers: no code that a file brings is run."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import serialization

from nnunet_cascade.errors import WeightsError, one_line
from nnunet_cascade.files import atomic_file

_ZIP_START = b"PK\x03\x04"
_NUMBERS = re.compile(r"[<>=|]?(?:b1|[iu][1248]|f[248])")


def read_checkpoint(path: Path, *, if_trusted: str) -> Any:
    """Read a checkpoint; what it asks for beyond tensors, plain values and single numbers of NumPy's is refused.

    Args:
        path: Of the file.
        if_trusted: What to do where a file would run code and its source is trusted, for the error message.

    Returns:
        What was saved; tensors lie in the CPU's memory.

    Raises:
        WeightsError: The file is missing, broken, packed as PyTorch packs none, or would run code.

    Source:
        torch.load's `weights_only`.
    """
    if not path.is_file():
        raise WeightsError(f"{path} is no file; expected a PyTorch checkpoint")
    _require_plain_container(path)
    try:
        with _numbers_allowed():
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(f"{path} {_refusal(error, if_trusted)}") from error


def write_checkpoint(path: Path, content: Any) -> None:
    """Write what `torch.save` takes as a whole file; the same content gives the same bytes, whatever the file's name.

    Raises:
        OSError: The file cannot be written; one that was there before is as it was.
    """
    with atomic_file(path) as beside, beside.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # what torch raises where the disk is full
            raise OSError(f"{path} cannot be written ({one_line(error, longest=100)})") from error


def is_plain_weight(value: Any) -> bool:
    """Return whether a value is a tensor like those that a network holds: dense, with numbers of its own in memory."""
    if type(value) not in {torch.Tensor, torch.nn.Parameter} or value.layout != torch.strided or value.is_quantized:
        return False
    if value.device.type != "cpu":
        return False
    plain = torch.Tensor.detach(value)  # without attributes, which may bear the names of methods
    try:
        return plain.numel() * plain.element_size() <= plain.untyped_storage().nbytes()
    except RuntimeError:  # of a tensor that stands for another
        return False


def _require_plain_container(path: Path) -> None:
    """Refuse a zip that unpacks to more than its size; files of the older formats are no zips."""
    with path.open("rb") as file:
        if file.read(len(_ZIP_START)) != _ZIP_START:
            return
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except Exception as error:  # PyTorch's own reader may stumble less, and would read what was not looked at
        reason = one_line(error, longest=120)
        raise WeightsError(
            f"{path} cannot be read as weights ({reason}); expected a PyTorch checkpoint, whole"
        ) from error
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise WeightsError(f"{path} is compressed, as no PyTorch checkpoint is; expected one as torch.save writes it")
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise WeightsError(f"{path} unpacks to more than its size; expected a checkpoint as torch.save writes it")
    if any(member.filename.endswith("/constants.pkl") for member in members):
        raise WeightsError(f"{path} is a TorchScript program; expected a checkpoint as torch.save writes it")


def _refusal(error: Exception, if_trusted: str) -> str:
    """Return in one line why a file was not read."""
    text = str(error)
    wanted = re.search(r"(?:GLOBAL|Unsupported class) (\S+)", text)
    if wanted:
        return (
            f"asks for {wanted[1]} when it is read, and a file that asks for more than numbers can run any code; "
            f"{if_trusted}"
        )
    said = " ".join(text.rpartition("WeightsUnpickler error:")[2].split())
    reason = re.split(r"\. | Check the documentation", said)[0][:120]
    return f"cannot be read as weights ({reason or type(error).__name__}); expected a PyTorch checkpoint, whole"


@contextmanager
def _numbers_allowed() -> Generator[None, None, None]:
    """Let honest checkpoints of nnU-Net and MONAI be read: their logs hold numbers of NumPy.

    What other packages allow for files of their own is not allowed for these.
    """
    before = serialization.get_safe_globals()
    serialization.clear_safe_globals()
    try:
        with serialization.safe_globals(_stand_ins()):
            yield
    finally:
        serialization.add_safe_globals(before)


class _NumberKind:
    """Stands for `numpy.dtype`, whose own `__setstate__` makes kinds that read and write any memory."""

    def __init__(self, name: Any, *_flags: Any) -> None:
        if not isinstance(name, str) or not _NUMBERS.fullmatch(name):
            raise ValueError(f"numpy.dtype {str(name)[:20]!r} is no kind of number")
        self.kind = np.dtype(name)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if len(state) != 8 or tuple(state[2:]) != (None, None, None, -1, -1, 0):
            raise ValueError("numpy.dtype is no plain kind of number")
        self.kind = self.kind.newbyteorder(state[1])


def _stand_ins() -> list[Any]:
    """Return what stands for NumPy, under the names that releases before and after 2.0 wrote."""
    return [type("dtype", (_NumberKind,), {"__module__": "numpy"}), _scalar("core"), _scalar("_core")]


def _scalar(module: str) -> Any:
    """Stand for NumPy's `scalar`, which takes its bytes on trust."""

    def scalar(kind: Any, content: Any) -> Any:
        if not isinstance(kind, _NumberKind) or type(content) is not bytes or len(content) != kind.kind.itemsize:
            raise ValueError("a number of NumPy's is not as long as its kind")
        return np.frombuffer(content, kind.kind)[0]

    scalar.__module__, scalar.__qualname__ = f"numpy.{module}.multiarray", "scalar"
    return scalar
