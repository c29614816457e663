"""Lung masks from the pretrained networks of the lungmask package."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.errors import LungMaskError
from nnunet_cascade.images import Volume, to_sitk
from nnunet_cascade.postprocessing.lungs.result import LEFT, RIGHT, LungMask

NetworkName = Literal["R231", "LTRCLobes", "R231CovidWeb"]
_LOBE_SIDES = np.array([0, LEFT, LEFT, RIGHT, RIGHT, RIGHT], dtype=np.uint8)


def predict_lungs(ct: Volume, *, model: NetworkName = "R231", weights: Path | None = None) -> LungMask:
    """Segment the lungs with a pretrained network, on the GPU where there is one.

    Args:
        ct: In Hounsfield units, in any orientation; the package turns it upright.
        model: Which network. The lobes of "LTRCLobes" become sides.
        weights: The network's weights; None downloads them once into torch's hub folder.

    Returns:
        Lungs that include tumors and effusions, as the networks were trained to; may be empty.

    Raises:
        LungMaskError: The weights cannot be read or downloaded, or the network fails.

    Source:
        Hofmanninger et al. 2020, doi:10.1186/s41747-020-00173-2.
    """
    network = _load(model, weights)
    try:
        found = network.apply(to_sitk(ct.array, ct.grid))
    except (RuntimeError, ValueError, IndexError) as error:
        raise LungMaskError(f"lungmask {model} failed on this CT ({error}); choose another lung source") from error
    return LungMask.of(_sides(np.asarray(found, dtype=np.uint8), model), ct.grid, source=f"lungmask {model}")


def _load(model: NetworkName, weights: Path | None) -> Any:
    from lungmask import LMInferer  # noqa: PLC0415 - torch is slow to import and only this source needs it

    if weights is not None and not weights.is_file():
        raise LungMaskError(f"lungmask weights {weights} do not exist; give the file, or none to download them")
    try:
        return LMInferer(modelname=model, modelpath=None if weights is None else str(weights), tqdm_disable=True)
    except OSError as error:
        raise LungMaskError(
            f"the weights of lungmask {model} cannot be downloaded ({error}); "
            "on a computer without network pass the path of a weights file, or use the 'threshold' source"
        ) from error
    except Exception as error:
        file = weights or "the downloaded file"
        raise LungMaskError(f"{file} does not hold weights of lungmask {model} ({error}); give its own file") from error


def _sides(labels: NDArray[np.uint8], model: NetworkName) -> NDArray[np.uint8]:
    """Give sides for lobes, which a weights file may hold whatever the model is called."""
    lobes = model == "LTRCLobes" or int(labels.max(initial=0)) > LEFT
    return _LOBE_SIDES[labels] if lobes else labels
