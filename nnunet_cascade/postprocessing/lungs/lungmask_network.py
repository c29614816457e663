"""Lung masks from the pretrained networks of the lungmask package."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from functools import lru_cache
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.errors import LungMaskError, WeightsError, one_line
from nnunet_cascade.images import Volume, to_sitk
from nnunet_cascade.postprocessing.lungs.result import LEFT, RIGHT, LungMask

NetworkName = Literal["R231", "LTRCLobes", "R231CovidWeb", "LTRCLobes_R231"]
DeviceName = Literal["auto", "cuda", "mps", "cpu"]
FUSION: NetworkName = "LTRCLobes_R231"
_PARTS = {FUSION: ("LTRCLobes", "R231")}
_LOBE_SIDES = np.array([0, LEFT, LEFT, RIGHT, RIGHT, RIGHT], dtype=np.uint8)


def predict_lungs(
    ct: Volume, model: NetworkName, weights: Path | None, *, batch_size: int, device: DeviceName
) -> LungMask:
    """Segment the lungs with a pretrained network.

    The network stays in memory for the next case.

    Args:
        ct: In Hounsfield units, in any orientation; the package turns it upright.
        model: Which network; "LTRCLobes_R231" fills gaps of the lobes with R231.
        weights: File with the network's weights, or a folder of files named as lungmask's own downloads are; None
            downloads them once into torch's hub folder.
        batch_size: Slices at a time.
        device: "auto" takes CUDA or MPS where there is one.

    Returns:
        Lungs that include tumors and effusions, as the networks were trained to; may be empty.

    Raises:
        LungMaskError: The weights cannot be read or downloaded, the device is not there, or the network fails.

    Source:
        Hofmanninger et al. 2020, doi:10.1186/s41747-020-00173-2.
    """
    inferer = _load(model, weights, batch_size, device)
    try:
        with _quiet():
            found = inferer.apply(to_sitk(ct.array.astype(np.float32, copy=False), ct.grid))
    except (RuntimeError, ValueError, IndexError) as error:
        reason = one_line(error)
        raise LungMaskError(
            f"lungmask {model} failed on this CT ({reason}); "
            f"give less than {batch_size} slices at a time, or choose another lung source"
        ) from error
    return LungMask.of(_sides(np.asarray(found, dtype=np.uint8), model), ct.grid, source=f"lungmask {model}")


@lru_cache(maxsize=1)
def _load(model: NetworkName, weights: Path | None, batch_size: int, device: DeviceName) -> Any:
    _require_device(device)
    base, fill = _PARTS.get(model, (model, None))
    files = _weight_files(model, weights)
    for file in filter(None, files):
        _require_plain_weights(file, model)
    # lungmask silences every UserWarning of the process where it is imported.
    with warnings.catch_warnings():
        from lungmask import LMInferer  # noqa: PLC0415 - torch is slow to import and only this source needs it
    try:
        with _quiet():
            return LMInferer(
                modelname=base,
                modelpath=files[0],
                fillmodel=fill,
                fillmodel_path=files[1] if fill else None,
                force_cpu=device == "cpu",
                batch_size=batch_size,
                tqdm_disable=True,
            )
    except (OSError, HTTPException) as error:
        raise LungMaskError(
            f"the weights of lungmask {model} cannot be downloaded ({error}); "
            "on a computer without network pass the path of a weights file, or use the 'threshold' source"
        ) from error
    except Exception as error:
        there = " and ".join(file for file in files if file) or "the downloaded file"
        reason = one_line(error, longest=200)
        raise LungMaskError(
            f"{there} does not hold weights of lungmask {model} ({reason}); give its own file"
        ) from error


def _weight_files(model: NetworkName, weights: Path | None) -> tuple[str | None, ...]:
    """Return the weights file of each part of a network; None if lungmask downloads it."""
    parts = _PARTS.get(model, (model,))
    if weights is None:
        return (None,) * len(parts)
    if weights.is_file():
        if len(parts) > 1:
            raise LungMaskError(
                f"lungmask {model} joins {' and '.join(parts)}, but {weights} is one file; "
                f"give the folder that holds {' and '.join(map(_download_name, parts))}"
            )
        return (str(weights),)
    files = [weights / _download_name(part) for part in parts]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise LungMaskError(
            f"lungmask weights {missing[0] if weights.is_dir() else weights} do not exist; "
            "give the file or a folder of lungmask's downloads, or none to download them"
        )
    return tuple(map(str, files))


def _download_name(part: str) -> str:
    with warnings.catch_warnings():
        from lungmask.mask import MODEL_URLS  # noqa: PLC0415
    return MODEL_URLS[part][0].rsplit("/", 1)[1]


def _require_plain_weights(file: str, model: NetworkName) -> None:
    """Raise unless a given file holds numbers alone: lungmask's own loading may run code with an older torch."""
    from nnunet_cascade.networks.checkpoints import read_checkpoint  # noqa: PLC0415 - needs torch

    try:
        read_checkpoint(Path(file), if_trusted="give its own file")
    except WeightsError as error:
        reason = str(error).removeprefix(f"{file} ")
        raise LungMaskError(f"{file} does not hold weights of lungmask {model}: it {reason}") from error


def _require_device(device: DeviceName) -> None:
    import torch  # noqa: PLC0415

    there = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if device in there and not there[device]():
        raise LungMaskError(f"lungmask on {device}: no such device found; choose 'auto' or 'cpu'")


@contextmanager
def _quiet() -> Generator[None, None, None]:
    """Keep lungmask's notes off standard output, where commands print their tables."""
    logger = logging.getLogger("lungmask")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def _sides(labels: NDArray[np.uint8], model: NetworkName) -> NDArray[np.uint8]:
    """Return sides for lobes, which a weights file may hold whatever the model is called."""
    lobes = model in {"LTRCLobes", FUSION} or int(labels.max(initial=0)) > LEFT
    return _LOBE_SIDES[labels] if lobes else labels
