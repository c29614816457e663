"""Results of a cascade beside the DICOM series they were made from, drawn by hand."""

import json

import numpy as np

from nnunet_cascade.case_folders.case_record import CaseRecord
from nnunet_cascade.dicom.ct.writing import write_ct_series
from nnunet_cascade.dicom.writing import Identity, Series, uid_from
from nnunet_cascade.geometry import Box, Grid
from nnunet_cascade.images import write_image
from nnunet_cascade.scans.scans import Scan
from nnunet_cascade.uncertainty.lesions import describe_lesions, label_lesions
from nnunet_cascade.versions import NOTICE, versions

GRID = Grid(shape=(8, 20, 24), spacing_mm=(3.0, 1.5, 2.0), origin_mm=(-24.0, -30.5, 100.25))
SHEET = (slice(2, 5), slice(4, 9), slice(5, 12))
DOTS = ((5, 15, 16), (6, 15, 17))
REASON = "it lies 31.0 mm from the nearest lung"


def scan_of(folder, grid=GRID, *, name="patient", without=(), seed=1, lowest=-1000, **identity):
    """Write a CT series; gives its scan."""
    told = {"patient_name": "Doe^Jane", "birth_date": "19500102", "sex": "F", "study_id": "7", **identity}
    who = Identity(
        patient_id=name,
        study_uid=uid_from(name, "study"),
        frame_of_reference_uid=uid_from(name, "frame"),
        accession_number="A-1",
        date="20240315",
        time="101112",
        **told,
    )
    series = Series(identity=who, uid=uid_from(name, "ct"), number=2, description="Thorax")
    voxels = np.random.default_rng(seed).integers(lowest, 200, grid.shape).astype(np.int16)
    paths = write_ct_series(voxels, grid, folder / name, series=series)
    for plane in without:
        paths[plane].unlink()
    slices = tuple(path for path in paths if path.exists())
    return Scan(case=name, path=folder, series_uid=series.uid, slices=slices)


def tumor_of(shape):
    """A sheet with a hole, and two voxels that touch at a corner."""
    mask = np.zeros(shape, dtype=bool)
    mask[SHEET] = True
    mask[3, 6, 7:9] = False
    for voxel in DOTS:
        mask[voxel] = True
    return mask


def write_results(folder, case, grid=GRID, mask=None, *, samples=True, scan=None, **changes):
    """Write what a cascade leaves of a case; gives mask, probability and uncertainty."""
    folder.mkdir(exist_ok=True)
    mask = tumor_of(grid.shape) if mask is None else mask
    probability = np.zeros(grid.shape, dtype=np.float32)
    if mask.any():
        here = Box.around(mask).grown((1, 2, 2)).clipped(grid.shape).slices
        drawn = np.random.default_rng(5).random(mask[here].shape, dtype=np.float32) / 2
        probability[here] = np.where(mask[here], 0.5 + drawn, drawn)
    uncertainty = probability * (1 - probability)
    maps = {"": mask.astype(np.uint8), "_probability": probability}
    if samples:
        maps["_uncertainty"] = uncertainty
    for suffix, array in maps.items():
        write_image(array, grid, folder / f"{case}{suffix}.nii.gz")
    lesions = [lesion.to_record().to_json() for lesion in describe_lesions(label_lesions(mask), grid.spacing_mm)]
    for lesion in lesions:
        lesion["mean_uncertainty"] = 0.125 if samples else None
    record = {
        "case": case,
        "notice": NOTICE,
        "flags": ["roi_clipped"] if mask.any() else ["empty_result"],
        "grid": CaseRecord(grid=grid).to_json()["grid"],
        "lesions": lesions,
        "uncertainty": {"measure": "variance", "mean_in_tumor": 0.125} if samples else None,
        "candidates": [
            {"id": 1, "volume_ml": 2.0, "verdict": {"kept": True, "rule": "lung_overlap", "reason": "in a lung"}},
            {"id": 2, "volume_ml": 0.7, "verdict": {"kept": False, "rule": "outside_lungs", "reason": REASON}},
        ],
        "model": {"stage1": "a" * 64, "stage2": "b" * 64},
        "versions": versions(),
        "files": {f"{case}{suffix}.nii.gz": (folder / f"{case}{suffix}.nii.gz").stat().st_size for suffix in maps},
        "varying": {"seconds": {}, **({"image": scan.to_json()} if scan else {})},
        **changes,
    }
    (folder / f"{case}.json").write_text(json.dumps(record))
    return mask, probability, uncertainty
