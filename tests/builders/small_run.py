"""A folder of results that one can draw by hand: a block of a tumor in the right lung, and a dropped candidate."""

import numpy as np
from builders.oriented_grids import grid_towards

from nnunet_cascade.case_folders.case_record import CaseRecord
from nnunet_cascade.case_folders.records import CaseFingerprint, write_record
from nnunet_cascade.geometry import Box
from nnunet_cascade.images import write_image
from nnunet_cascade.prediction.spec import CascadeSpec
from nnunet_cascade.scans.scans import Scan

SHAPE = (30, 48, 52)  # foot to head, front to back, right to left
TUMOR = (slice(13, 18), slice(20, 27), slice(11, 18))
DROPPED = (slice(4, 6), slice(40, 43), slice(25, 28))
REGION = (slice(10, 21), slice(16, 31), slice(8, 22))
SURE = (slice(10, 12), slice(16, 31), slice(8, 22))
"""Of the region, without any uncertainty."""
SPACING_MM = (6.0, 5.0, 5.0)


class SmallRun:
    """CTs, results and true labels below a folder."""

    def __init__(self, root):
        self.images, self.results, self.truths = root / "images", root / "results", root / "truths"
        for folder in (self.images, self.results, self.truths):
            folder.mkdir(parents=True)

    def write(self, case, *, orientation="LPS", flags=(), dropped=1, **told):
        """Write a case; whichever way its arrays run, the patient is the same but for the place of the origin."""
        grid = grid_towards(orientation, turned(np.zeros(SHAPE), orientation).shape, spacing_of(orientation))
        arrays = {name: turned(array, orientation) for name, array in drawn().items()}
        ct = self.images / f"{case}_0000.nii.gz"
        write_image(arrays.pop("ct"), grid, ct)
        write_image(arrays[""], grid, self.truths / f"{case}.nii.gz")
        for suffix, array in arrays.items():
            write_image(array, grid, self.results / f"{case}{suffix}.nii.gz")
        scan = Scan(case=case, path=ct)
        record = {**record_of(case, arrays, grid, dropped), "flags": list(flags), **told}
        record["varying"] = {"image": scan.to_json()}
        made_from = CaseFingerprint(settings=CascadeSpec().to_json())
        return write_record(self.results, CaseRecord.from_json(record), made_from)


def drawn():
    """Arrays that grow to the head, the back and the left, by what follows the case's name; the CT's is "ct"."""
    ct = np.full(SHAPE, -1000, dtype=np.int16)
    ct[1:-1, 4:-4, 4:-4] = 40
    lungs = np.zeros(SHAPE, dtype=np.uint8)
    lungs[3:27, 12:38, 8:23], lungs[3:27, 12:38, 29:44] = 1, 2
    ct[lungs > 0] = -850
    tumor, roi = np.zeros(SHAPE, dtype=np.uint8), np.zeros(SHAPE, dtype=np.uint8)
    tumor[TUMOR] = roi[REGION] = 1
    ct[TUMOR] = 30
    sure = np.ones(SHAPE, dtype=np.float32)
    sure[SURE] = 0
    candidates = tumor.astype(np.uint16)
    candidates[DROPPED] = 2
    return {
        "ct": ct,
        "": tumor,
        "_probability": 0.9 * tumor.astype(np.float32),
        "_uncertainty": (sure * (0.05 * roi + 0.15 * tumor)).astype(np.float32),
        "_roi": roi,
        "_stage1": (candidates > 0).astype(np.uint8),
        "_candidates": candidates,
        "_lungs": lungs,
    }


def turned(array, orientation):
    """Turn an array to one whose x, y and z index grow towards the letters of a code."""
    axes = [
        next(axis for axis, pair in enumerate(("SI", "PA", "LR")) if letter in pair) for letter in orientation[::-1]
    ]
    flipped = [place for place, letter in enumerate(orientation[::-1]) if letter in "IAR"]
    return np.ascontiguousarray(np.flip(array.transpose(axes), flipped))


def spacing_of(orientation):
    """The voxel sizes that go with `turned`."""
    sizes = {"S": SPACING_MM[0], "I": SPACING_MM[0], "P": SPACING_MM[1], "A": SPACING_MM[1]}
    return tuple(sizes.get(letter, SPACING_MM[2]) for letter in orientation[::-1])


def record_of(case, arrays, grid, dropped):
    """What a run would write, in short."""
    ml = grid.voxel_volume_mm3 / 1000
    kept = _candidate(1, arrays["_candidates"] == 1, ml, kept=True, rule="lung_overlap", reason="97 % in the lungs")
    lost = _candidate(2, arrays["_candidates"] == 2, ml, kept=False, rule="outside_lungs", reason="20 mm from a lung")
    voxels = int(arrays[""].sum())
    return {
        "case": case,
        "notes": [],
        "grid": CaseRecord(grid=grid).to_json()["grid"],
        "tumor": {"voxels": voxels, "volume_ml": voxels * ml, "temperature": 1.0},
        "lesions": [{"id": 1, "voxels": voxels, "volume_ml": voxels * ml, "box": _box(arrays[""] > 0)}],
        "uncertainty": {"measure": "variance", "total_samples": 10, "mean_in_tumor": 0.2, "total_ml": 1.0},
        "candidates": [kept, *[lost] * dropped],
        "rois": [{"id": 1, "candidate": 1, "box": _box(arrays["_roi"] > 0)}],
        "files": {f"{case}{suffix}.nii.gz": None for suffix in arrays},
    }


def _candidate(number, mask, ml, **verdict):
    voxels = int(mask.sum())
    return {"id": number, "voxels": voxels, "volume_ml": voxels * ml, "box": _box(mask), "verdict": verdict}


def _box(mask):
    box = Box.around(mask)
    return {"start": [int(place) for place in box.start], "stop": [int(place) for place in box.stop]}
