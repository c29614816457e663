"""A case one can draw by hand, stored in any orientation, with all that a cascade writes of it.

Voxels of 6 × 7 × 5 mm; slices run from the feet (S 40 mm) to the head (S 106 mm), x to the patient's left. The lungs
fill x 6–19 (right) and 31–44 (left) of 50, y 4–23 of 30. The kept candidate 1 lies in the left lung, the dropped ones
between the lungs (2) and, on slice 10 alone, in the right one (3).
"""

import json
from dataclasses import replace

import numpy as np

from nnunet_cascade.case_folders.case_record import CaseRecord
from nnunet_cascade.geometry import AxisTurn, Box, Grid
from nnunet_cascade.images import write_image
from nnunet_cascade.report.figures.drawing import FigureRequest
from nnunet_cascade.scans.scans import Scan

GRID = Grid(shape=(12, 30, 50), spacing_mm=(6.0, 7.0, 5.0), origin_mm=(-120.0, -100.0, 40.0))
CANDIDATE = Box((3, 8, 34), (8, 14, 42))
DROPPED = Box((4, 12, 22), (7, 17, 28))
ELSEWHERE = Box((10, 8, 10), (11, 10, 12))
TUMOR = Box((4, 9, 35), (7, 13, 41))
TRUTH = Box((5, 9, 36), (6, 12, 40))
REGION = Box((1, 5, 31), (10, 17, 45))
REASON = "it lies 25.0 mm from the nearest lung (may lie 5 mm)"
HEIGHT_MM = 70.0
"""Of slice 5, the middle one of those with the most tumor."""


def filled(*boxes, dtype=np.uint8):
    array = np.zeros(GRID.shape, dtype=dtype)
    for number, box in enumerate(boxes, start=1):
        array[box.slices] = number
    return array


def ct():
    hu = np.full(GRID.shape, -1000, dtype=np.int16)
    hu[:, 2:26, 3:47] = 40
    hu[filled(Box((1, 4, 6), (11, 24, 20)), Box((1, 4, 31), (11, 24, 45))) > 0] = -850
    hu[TUMOR.slices] = 60
    return hu


def maps():
    tumor, around = filled(TUMOR), filled(TUMOR.grown((1, 1, 1)))
    return {
        "": tumor,
        "_stage1": (filled(CANDIDATE, DROPPED, ELSEWHERE) > 0).astype(np.uint8),
        "_candidates": filled(CANDIDATE, DROPPED, ELSEWHERE, dtype=np.uint16),
        "_lungs": filled(Box((1, 4, 6), (11, 24, 20)), Box((1, 4, 31), (11, 24, 45))),
        "_roi": filled(REGION),
        "_probability": tumor.astype(np.float32),
        "_uncertainty": ((around > 0) & (tumor == 0)).astype(np.float32) / 4,
    }


def _box(box, turn):
    turned = turn.box(box, GRID.shape)
    return {"start": list(turned.start), "stop": list(turned.stop)}


def stored_grid(code):
    """The same place in the patient, for an array whose x, y and z index grow towards the letters of a code."""
    turn = AxisTurn.to_code(GRID, code)
    corner = [0.0, 0.0, 0.0]
    for axis, flip in zip(turn.order, turn.flipped, strict=True):
        corner[axis] = GRID.shape[axis] - 1.0 if flip else 0.0
    senses = zip(turn.order, turn.flipped, strict=True)
    axes = tuple(tuple(-v if flip else v for v in GRID.axes[axis]) for axis, flip in senses)
    shape = tuple(GRID.shape[axis] for axis in turn.order)
    return Grid(
        shape=shape, spacing_mm=turn.spacing(GRID.spacing_mm), origin_mm=GRID.world_mm(tuple(corner)), axes=axes
    )


def record(case, code="LPS", **changed):
    turn, grid = AxisTurn.to_code(GRID, code), stored_grid(code)
    verdicts = (
        (1, CANDIDATE, {"kept": True, "rule": "lung_overlap", "reason": "100 % of it lies in the lungs (needs 80 %)"}),
        (2, DROPPED, {"kept": False, "rule": "outside_lungs", "reason": REASON}),
        (3, ELSEWHERE, {"kept": False, "rule": "minimum_volume", "reason": "too small"}),
    )
    candidates = [
        {"id": number, "volume_ml": round(np.prod(box.shape) * 0.21, 3), "box": _box(box, turn), "verdict": verdict}
        for number, box, verdict in verdicts
    ]
    return {
        "case": case,
        "flags": ["roi_clipped"],
        "grid": CaseRecord(grid=grid).to_json()["grid"],
        "tumor": {"volume_ml": 15.12},
        "lesions": [{"id": 1, "box": _box(TUMOR, turn)}],
        "uncertainty": {"measure": "variance", "mean_in_tumor": 0.02},
        "candidates": candidates,
        "rois": [{"id": 1, "box": _box(REGION, turn)}],
        **changed,
    }


def write_drawn(folder, case="case", code="LPS", **changed):
    """Write the CT, true labels, all maps and the record of a case.

    Returns:
        What asks for its figure, with its truth.
    """
    turn, grid = AxisTurn.to_code(GRID, code), stored_grid(code)
    results, images, labels = (folder / name for name in ("results", "images", "labels"))
    for place in (results, images, labels):
        place.mkdir(parents=True, exist_ok=True)
    for suffix, array in maps().items():
        write_image(turn.apply(array), grid, results / f"{case}{suffix}.nii.gz")
    image, truth = images / f"{case}_0000.nii.gz", labels / f"{case}.nii.gz"
    write_image(turn.apply(ct()), grid, image)
    write_image(turn.apply(filled(TRUTH)), grid, truth)
    content = record(case, code, varying={"image": {"path": str(image)}}, **changed)
    (results / f"{case}.json").write_text(json.dumps(content))
    known = CaseRecord.from_json(content)
    return FigureRequest(case=case, folder=results, record=known, scan=Scan(case=case, path=image), truth=truth)


def with_record(request, **changed):
    """The same request with some keys of its record changed."""
    return replace(request, record=CaseRecord.from_json({**request.record.to_json(), **changed}))
