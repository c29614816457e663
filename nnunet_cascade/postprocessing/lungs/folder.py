"""Lung masks from files that something else made."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nnunet_cascade.errors import LungMaskError
from nnunet_cascade.images import Volume, read_labels
from nnunet_cascade.postprocessing.lungs.result import LEFT, RIGHT, UNKNOWN_SIDE, LungMask


def read_lungs(ct: Volume, folder: Path, *, case: str) -> LungMask:
    """Read the lung mask of a case.

    Args:
        ct: On whose grid the mask must lie.
        folder: Holds `<case>.nii.gz`. Any value but 0 is lung. Where the values are
            exactly 1 and 2 they are taken as right and left, as lungmask writes them;
            from any other set no side is read.
        case: The case's name.

    Raises:
        LungMaskError: The file does not exist.
        GridMismatchError: It lies on another grid.
        InputImageError: It cannot be read.
    """
    path = folder / f"{case}.nii.gz"
    if not path.is_file():
        raise LungMaskError(
            f"{path} does not exist; lung masks are looked for as <case>.nii.gz: write it, or choose another source"
        )
    values = read_labels(path, ct.grid, what="lung mask")
    sided = set(np.unique(values).tolist()) == {0, RIGHT, LEFT}
    labels = values if sided else np.where(values != 0, UNKNOWN_SIDE, 0)
    return LungMask.of(labels.astype(np.uint8), ct.grid, source=f"folder {folder}")
