"""Checkpoints of PyTorch's read as numbers: no code that a file brings is run."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.torch_version import TorchVersion

from nnunet_cascade.errors import WeightsError

_ZIP_START = b"PK\x03\x04"
_CLOSED = "2.6"  # before, an old-style file ran code whatever it was loaded with (CVE-2025-32434)


def read_checkpoint(path: Path, *, if_trusted: str) -> Any:
    """Read a checkpoint; what it asks for beyond tensors, plain values and NumPy's numbers is refused.

    Args:
        path: Of the file.
        if_trusted: What to do where a file would run code and its source is trusted, for the error message.

    Returns:
        What was saved; tensors lie in the CPU's memory.

    Raises:
        WeightsError: The file is missing, broken, packed as PyTorch packs none, or would run code.

    Source:
        torch.load's `weights_only`; CVE-2025-32434.
    """
    if not path.is_file():
        raise WeightsError(f"{path} is no file; expected a PyTorch checkpoint")
    _require_plain_container(path, if_trusted)
    try:
        with _numpy_allowed():
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(f"{path} {_refusal(error, if_trusted)}") from error


def _require_plain_container(path: Path, if_trusted: str) -> None:
    """Refuse a zip that unpacks to more than its size, and old formats where PyTorch is not safe with them."""
    with path.open("rb") as file:
        packed = file.read(len(_ZIP_START)) == _ZIP_START
    if not packed:
        if TorchVersion(torch.__version__) < _CLOSED:
            raise WeightsError(
                f"{path} is no zip file, and PyTorch {torch.__version__} can be made to run code by the older formats; "
                f"update PyTorch to 2.6 or later; {if_trusted}"
            )
        return
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return  # torch says what is wrong with it
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise WeightsError(f"{path} is compressed, as no PyTorch checkpoint is; expected one as torch.save writes it")
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise WeightsError(f"{path} unpacks to more than its size; expected a checkpoint as torch.save writes it")
    if any(member.filename.endswith("/constants.pkl") for member in members):
        raise WeightsError(f"{path} is a TorchScript program; expected a checkpoint as torch.save writes it")


def _refusal(error: Exception, if_trusted: str) -> str:
    """Say in one line why a file was not read."""
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


def _numpy_allowed() -> AbstractContextManager[Any]:
    """Let honest checkpoints of nnU-Net and MONAI be read: their logs hold numbers of NumPy."""
    allow: Callable[[list[Any]], AbstractContextManager[Any]] | None = getattr(
        torch.serialization, "safe_globals", None
    )
    if allow is None:
        return nullcontext()
    kinds = (np.bool_, np.int32, np.int64, np.uint8, np.float16, np.float32, np.float64)
    makers = [_maker(name, module) for name in ("scalar", "_reconstruct") for module in ("core", "_core")]
    return allow([*makers, np.dtype, np.ndarray, *(type(np.dtype(kind)) for kind in kinds)])


def _maker(name: str, module: str) -> Callable[..., Any]:
    """Give one of NumPy's two makers of numbers and arrays by the path that a release before or after 2.0 wrote."""
    multiarray = import_module("numpy._core.multiarray")

    def make(*args: Any) -> Any:
        return getattr(multiarray, name)(*args)

    make.__module__, make.__name__, make.__qualname__ = f"numpy.{module}.multiarray", name, name
    return make
