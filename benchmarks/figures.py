"""What a figure costs: slices read against whole volumes, and the time of a figure.

    python benchmarks/figures.py [--cases 5] [--large]

Draws a phantom's results on a grid of 128 × 256 × 256 voxels (134 × 512 × 512 with --large), checks that the slices
read are those of SimpleITK and nibabel, and prints processor seconds and ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from nnunet_cascade.case_folders.case_record import CaseRecord
from nnunet_cascade.geometry import Box, as_index
from nnunet_cascade.images import write_image
from nnunet_cascade.phantom.settings import PhantomSettings
from nnunet_cascade.phantom.thorax import make_phantom
from nnunet_cascade.report.figures.drawing import FigureRequest, draw_figure
from nnunet_cascade.report.figures.sources import read_planes
from nnunet_cascade.scans.scans import Scan

SIZES = {False: (128, 256, 256), True: (134, 512, 512)}
MARGIN = (4, 12, 12)


def phantom_case(folder: Path, case: str, seed: int, *, large: bool) -> FigureRequest:
    """Write the results that a cascade might have of a phantom: one tumor kept, distractors dropped."""
    shape = SIZES[large]
    spacing_mm = (306.0 / shape[0], 270.0 / shape[1], 372.0 / shape[2])
    phantom = make_phantom(seed, PhantomSettings(spacing_mm=spacing_mm, tumors=(1, 1), distractors=(4, 4)))
    tumor = phantom.tumors > 0
    findings, count = ndimage.label(tumor | (phantom.distractors > 0))
    boxes = [_box(part) for part in ndimage.find_objects(findings)]
    lesion = Box.around(tumor)
    region = lesion.grown(MARGIN).clipped(as_index(tumor.shape))
    rng = np.random.default_rng(seed)
    probability, inside = np.zeros(tumor.shape, np.float32), region.slices
    probability[inside] = ndimage.gaussian_filter(tumor[inside].astype(np.float32), 1.5)
    probability[inside] += rng.normal(0, 0.01, region.shape).astype(np.float32)
    maps: dict[str, Any] = {
        "": tumor,
        "_stage1": findings > 0,
        "_candidates": findings.astype(np.uint16),
        "_lungs": phantom.lungs.astype(np.uint8),
        "_probability": probability,
        "_uncertainty": (probability * (1 - probability)).clip(0),
    }
    for suffix, array in maps.items():
        write_image(array, phantom.grid, folder / f"{case}{suffix}.nii.gz")
    write_image(np.rint(phantom.ct).astype(np.int16), phantom.grid, folder / "images" / f"{case}_0000.nii.gz")
    kept = int(np.bincount(findings[tumor]).argmax())
    record = {
        "case": case,
        "grid": {name: getattr(phantom.grid, name) for name in ("shape", "spacing_mm", "origin_mm", "axes")},
        "tumor": {"volume_ml": float(tumor.sum()) * phantom.grid.voxel_volume_mm3 / 1000},
        "lesions": [{"id": 1, "box": _json(lesion)}],
        "rois": [{"id": 1, "box": _json(region)}],
        "uncertainty": {"measure": "variance", "mean_in_tumor": 0.01},
        "candidates": [
            {"id": n, "volume_ml": 1.0, "box": _json(box), "verdict": {"kept": n == kept, "reason": "of a benchmark"}}
            for n, box in zip(range(1, count + 1), boxes, strict=True)
        ],
    }
    scan = Scan(case=case, path=folder / "images" / f"{case}_0000.nii.gz")
    return FigureRequest(
        case=case, folder=folder, record=CaseRecord.from_json(json.loads(json.dumps(record))), scan=scan
    )


def _box(part: tuple[slice, ...]) -> Box:
    return Box(as_index(side.start for side in part), as_index(side.stop for side in part))


def _json(box: Box) -> dict[str, list[int]]:
    return {"start": list(box.start), "stop": list(box.stop)}


def seconds(work: Callable[[], object], times: int = 3) -> float:
    """Give the processor time of the fastest of some runs."""
    taken: list[float] = []
    for _ in range(times):
        begin = time.process_time()
        work()
        taken.append(time.process_time() - begin)
    return min(taken)


def compare_readers(request: FigureRequest) -> None:
    """Print what a slice from the middle costs, of each file, against the whole of it."""
    paths = sorted(request.folder.glob(f"{request.case}*.nii.gz")) + [
        path for path in [request.scan and request.scan.path] if path
    ]
    print("| file | slice, s | SimpleITK whole, s | nibabel whole, s | ratio |\n|---|---|---|---|---|")
    for path in sorted(paths):
        whole = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        other: Any = np.asarray(nib.load(path).dataobj).T  # pyright: ignore - nibabel's own types
        middle = len(whole) // 2
        for axis, place in ((0, middle), (1, whole.shape[1] // 2), (2, whole.shape[2] // 2)):
            found = read_planes(path, axis, [place])
            if not np.array_equal(found, whole.take([place], axis)) or not np.array_equal(whole, other):
                raise SystemExit(f"{path.name}: a slice across axis {axis} is not that of the whole volume")
        part = seconds(lambda path=path, middle=middle: read_planes(path, 0, [middle]))
        by_sitk = seconds(lambda path=path: sitk.GetArrayFromImage(sitk.ReadImage(str(path))))
        by_nibabel = seconds(lambda path=path: np.asarray(nib.load(path).dataobj))
        ratio = min(by_sitk, by_nibabel) / part
        print(f"| {path.name} | {part:.4f} | {by_sitk:.3f} | {by_nibabel:.3f} | {ratio:.1f} |")


def main() -> None:
    """Print the table of readers, then the time of figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=3)
    parser.add_argument("--large", action="store_true", help="134 × 512 × 512 voxels")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        requests = [phantom_case(folder, f"case{n}", 6000 + n, large=args.large) for n in range(args.cases)]
        compare_readers(requests[0])
        draw_figure(requests[0], folder / "warm.png")
        taken = [
            seconds(lambda request=request: draw_figure(request, folder / "figure.png"), 2) for request in requests
        ]
        size = (folder / "figure.png").stat().st_size / 1000
        shape = " × ".join(map(str, SIZES[args.large]))
        print(f"{shape}: {statistics.median(taken):.3f} s of processor a figure ({size:.0f} kB)")


if __name__ == "__main__":
    main()
