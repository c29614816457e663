"""Chests one can draw by hand, as folders of CTs, predictions, true labels and lung masks.

Voxels of 5 mm. The lungs fill x 5–18 (right) and 31–44 (left) of 50, y 3–22 of 26 and z 2–27 of 30: 1820 ml. Their
middle half, the central zone, is x 15–34.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_cascade.geometry import Grid
from nnunet_cascade.images import write_image

GRID = Grid(shape=(30, 26, 50), spacing_mm=(5.0, 5.0, 5.0), origin_mm=(10.0, -20.0, 30.0))
LUNGS = np.zeros(GRID.shape, dtype=np.uint8)
LUNGS[2:28, 3:23, 5:19] = 1
LUNGS[2:28, 3:23, 31:45] = 2

IN_LEFT = (slice(8, 12), slice(8, 12), slice(36, 40))
IN_RIGHT = (slice(14, 17), slice(8, 11), slice(8, 11))
MIDDLE = (slice(10, 13), slice(10, 13), slice(24, 27))  # 30 mm from the right lung, 25 mm from the left one
SPECK = (slice(20, 21), slice(20, 21), slice(40, 41))  # 125 mm³, in the left lung


def chest_ct():
    """Air around, soft tissue, two lungs."""
    hu = np.full(GRID.shape, -1000.0, dtype=np.float32)
    hu[:, 1:-1, 1:-1] = 30.0
    hu[LUNGS > 0] = -850.0
    return hu


def blocks(*places, value=1):
    labels = np.zeros(GRID.shape, dtype=np.uint8)
    for place in places:
        labels[place] = value
    return labels


@dataclass(frozen=True)
class Folders:
    root: Path

    def __getitem__(self, name):
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def write(self, case, predicted=(), true=(), *, ct=None, grid=GRID, lungs=LUNGS):
        """A case with everything; `predicted` and `true` are places or label maps."""
        write_image(chest_ct() if ct is None else ct, grid, self["images"] / f"{case}_0000.nii.gz")
        for folder, labels in (("predictions", predicted), ("labels", true)):
            array = labels if isinstance(labels, np.ndarray) else blocks(*labels)
            write_image(array, grid, self[folder] / f"{case}.nii.gz")
        write_image(lungs, grid, self["lung_masks"] / f"{case}.nii.gz")
