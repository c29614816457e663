"""What of a lung source decides its masks: some of its settings, and the files that are used of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from nnunet_cascade.errors import LungMaskError
from nnunet_cascade.files import sha256_of
from nnunet_cascade.postprocessing.lungs.folder import mask_files
from nnunet_cascade.postprocessing.lungs.lungmask_network import FUSION
from nnunet_cascade.postprocessing.lungs.source import LungSource

_FREE = frozenset({"path", "weights", "device", "batch_size"})
"""Settings that change no mask or whose files have checksums: places of files, device, batch size."""
IGNORED_SETTINGS = frozenset(f"lungs.{name}" for name in _FREE)
"""The same in the settings of a cascade."""
_DOWNLOADS = {
    "R231": ("unet_r231-*.pth",),
    "LTRCLobes": ("unet_ltrclobes-*.pth",),
    "R231CovidWeb": ("unet_r231covid-*.pth",),
    FUSION: ("unet_ltrclobes-*.pth", "unet_r231-*.pth"),
}
"""Names of lungmask's downloads; lungmask itself, which knows them, would load PyTorch."""


def deciding_settings(lungs: Mapping[str, Any]) -> dict[str, Any]:
    """Return those settings of a lung source, as JSON holds them, that decide a mask besides its files."""
    return {name: value for name, value in lungs.items() if name not in _FREE}


def lung_files(source: LungSource, case: str) -> list[Path]:
    """List the files that ready masks of a case are read from; none for other sources.

    Raises:
        OSError: Their folder cannot be looked into.
    """
    return [] if source.path is None else mask_files(source.path, case)


def weights_checksum(source: LungSource) -> str | None:
    """Return the SHA-256 of given weights, of all files of a network of two; None if none are given.

    Raises:
        LungMaskError: They are not there, or cannot be read.
    """
    if source.weights is None:
        return None
    try:
        files = _weights(source.weights, source.model)
        stamps = [(file, file.stat()) for file in files]
        sums = [_known(file, stamp.st_mtime_ns, stamp.st_size) for file, stamp in stamps]
    except OSError as error:
        raise LungMaskError(
            f"lungmask weights {source.weights} cannot be read ({error.strerror}); "
            "give the file or a folder of lungmask's downloads"
        ) from error
    if not sums:
        raise LungMaskError(
            f"lungmask weights {source.weights}: no {' or '.join(_DOWNLOADS[source.model])} found; "
            "give the file or a folder of lungmask's downloads, or none to download them"
        )
    return sums[0] if len(sums) == 1 else hashlib.sha256("\n".join(sums).encode()).hexdigest()


def _weights(path: Path, model: str) -> list[Path]:
    if not path.is_dir():
        return [path]
    return [file for pattern in _DOWNLOADS[model] for file in sorted(path.glob(pattern))]


@lru_cache(maxsize=8)
def _known(file: Path, _changed_ns: int, _bytes: int) -> str:
    return sha256_of(file)
