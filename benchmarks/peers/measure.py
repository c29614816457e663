"""What each peer's script prints: seconds of the work, peak memory of the process, voxels of each ROI."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Mapping

import numpy as np


def report(work: Callable[[], tuple[np.ndarray, Mapping[str, np.ndarray]]]) -> None:
    """Do the work once, imports excluded, and print the figures as one line of JSON.

    Args:
        work: Gives the CT's voxels and a mask for each ROI.
    """
    begun = time.perf_counter()
    voxels, masks = work()
    seconds = time.perf_counter() - begun
    figures = {
        "seconds": seconds,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "ct_sum": int(np.asarray(voxels, dtype=np.int64).sum()),
        "voxels": {name: int(np.count_nonzero(mask)) for name, mask in masks.items()},
    }
    print(json.dumps(figures))
