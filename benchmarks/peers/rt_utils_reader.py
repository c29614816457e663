"""rt-utils: CT and all ROIs of one patient as arrays."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from measure import report
from rt_utils import RTStructBuilder


def work() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Let rt-utils read the series and draw every ROI."""
    folder = Path(sys.argv[1])
    structures = next((folder / "mask_rtstruct").iterdir())
    rtstruct = RTStructBuilder.create_from(str(folder / "image"), str(structures))
    voxels = np.stack(
        [s.pixel_array.astype(np.int16) * int(s.RescaleSlope) + int(s.RescaleIntercept) for s in rtstruct.series_data]
    )
    return voxels, {name: rtstruct.get_roi_mask_by_name(name) for name in rtstruct.get_roi_names()}


report(work)
