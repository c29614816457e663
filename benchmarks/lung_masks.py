"""Lung masks by threshold on real CTs, against clinical lungs and against themselves when the CT is disturbed.

    NNC_REAL_DATA=... python benchmarks/lung_masks.py [--cases CIP_ct64 LUNG1-001 LUNG1-002] [--only agreement]

Dice and coverage are of the clinical lungs, which exclude the tumor. Stray air is in the mask, below −500 HU and more
than 3 mm from them: trachea, bowel, the room; of it, what reaches the edge of a slice through air is the room's. Each
CT is timed in a process of its own (Linux); the peak includes Python, its libraries and the CT. A disturbed CT is
compared with the mask of the CT as it is, in a crop with the part of it inside the crop. A figure that misses its
target is marked.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from nnunet_cascade.dicom.ct.reading import read_ct_series, stack_files
from nnunet_cascade.dicom.folder import index_folder
from nnunet_cascade.dicom.rtstruct.rasterizing import rasterize
from nnunet_cascade.dicom.rtstruct.reading import read_structure_set
from nnunet_cascade.evaluation.overlap import dice
from nnunet_cascade.geometry import Box, Grid, Mask, as_index
from nnunet_cascade.images import Volume, read_volume
from nnunet_cascade.postprocessing.lungs.placement import lung_placement
from nnunet_cascade.postprocessing.lungs.source import LungSource, find_lungs

CASES = ("CIP_ct64", "LUNG1-001", "LUNG1-002")
TARGETS = {"CIP_ct64": (0.97, 0.98), "LUNG1-001": (0.95, 0.95), "LUNG1-002": (0.94, 0.94)}
NEAR_MM, WITHIN, VOLUME, STRAY_ML, SECONDS, PEAK_MIB, UNDISTURBED = 3.0, 0.985, 0.05, 5.0, 8.0, 1024.0, 0.98
AIR_HU, TRACHEA_HU = -500.0, -900.0
CIP_LUNGS = tuple(range(9, 15))
CHANNEL_RADIUS_MM = 6.0


@dataclass(frozen=True, kw_only=True)
class RealCase:
    """A CT with what was drawn on it.

    Attributes:
        name: Of the case.
        ct: The CT, its z, y and x growing to the head, the back and the left.
        lungs: (Z, Y, X), the clinical lungs.
        others: Other masks by name, such as "GTV-1".
    """

    name: str
    ct: Volume
    lungs: Mask
    others: dict[str, Mask]


def real_case(name: str) -> RealCase:
    """Read a case below $NNC_REAL_DATA; contours that repeat another count once, so twins unite."""
    folder = Path(os.environ["NNC_REAL_DATA"]) / name
    if name == "CIP_ct64":
        ct = read_volume(folder / "ct-64.nrrd")
        regions = read_volume(folder / "lm-64.nrrd").array.astype(np.int32) & 255
        return RealCase(name=name, ct=ct, lungs=np.isin(regions, CIP_LUNGS), others={})
    patient = index_folder(folder).patients[0]
    series = read_ct_series(stack_files(patient.of_modality("CT")))
    structures = read_structure_set(patient.of_modality("RTSTRUCT")[0].path)
    masks = {
        roi: rasterize(structures.contours(number).closed, series.stack).mask
        for number, roi in structures.names.items()
    }
    lungs = np.logical_or.reduce([mask for roi, mask in masks.items() if roi.lower().startswith("lung")])
    return RealCase(
        name=name, ct=Volume(series.voxels.astype(np.float32), series.stack.grid), lungs=lungs, others=masks
    )


def find(ct: Volume) -> Mask:
    """Give the mask under test."""
    return find_lungs(ct, LungSource(), case="real").mask


def near(mask: Mask, grid: Grid, radius_mm: float) -> Mask:
    """Mark what lies within a distance of a mask, or one voxel where voxels are larger."""
    radius_mm = max(radius_mm, *grid.spacing_mm)
    box = Box.around(mask).grown_mm(radius_mm, grid.spacing_mm).clipped(grid.shape)
    grown = np.zeros_like(mask)
    grown[box.slices] = ndimage.distance_transform_edt(~mask[box.slices], sampling=grid.spacing_mm) <= radius_mm
    return grown


def room_air(ct: Volume) -> Mask:
    """Mark the air that reaches the edge of its slice."""
    air = ct.array < AIR_HU
    room = np.zeros_like(air)
    for part, found in zip(air, room, strict=True):
        labels = ndimage.label(part)[0]
        edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
        found[...] = np.isin(labels, edge[edge > 0])
    return room


def marked(value: float, is_met: bool, form: str = ".3f") -> str:  # noqa: FBT001
    """Give a figure, in bold where it misses its target."""
    return f"{value:{form}}" if is_met else f"**{value:{form}}**"


def cost(case: RealCase) -> tuple[float, float, float]:
    """Measure one mask in a process of its own: seconds, MiB at the peak, MiB before."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ct.npy"
        np.save(path, case.ct.array)
        command = [sys.executable, __file__, "--timed", str(path), *map(str, case.ct.grid.spacing_mm)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    return found["seconds"], found["peak_mib"], found["before_mib"]


def timed(path: str, *spacing_mm: str) -> None:
    """Find lungs once and print time and memory as JSON."""
    array = np.load(path)
    z, y, x = map(float, spacing_mm)
    ct = Volume(array, Grid(shape=as_index(array.shape), spacing_mm=(z, y, x)))
    before = peak_mib()
    begun = time.perf_counter()
    find(ct)
    seconds = time.perf_counter() - begun
    print(json.dumps({"seconds": seconds, "peak_mib": peak_mib(), "before_mib": before}))


def peak_mib() -> float:
    """Give the most memory this process has held; getrusage would count that of the parent, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def agreement_row(case: RealCase, found: Mask) -> str:
    """Compare with the clinical lungs."""
    lungs, grid = case.lungs, case.ct.grid
    dice_target, coverage_target = TARGETS[case.name]
    score, coverage = dice(lungs, found), np.count_nonzero(found & lungs) / np.count_nonzero(lungs)
    within = np.count_nonzero(near(found, grid, NEAR_MM) & lungs) / np.count_nonzero(lungs)
    volume = np.count_nonzero(found) / np.count_nonzero(lungs)
    stray = found & (case.ct.array < AIR_HU) & ~near(lungs, grid, NEAR_MM)
    stray_ml, room_ml, dark_ml = (
        np.count_nonzero(part) * grid.voxel_volume_mm3 / 1000
        for part in (stray, stray & room_air(case.ct), stray & (case.ct.array < TRACHEA_HU))
    )
    seconds, peak, before = cost(case)
    cells = (
        case.name, "×".join(map(str, grid.shape)), marked(score, score >= dice_target),
        marked(coverage, coverage >= coverage_target), marked(within, within >= WITHIN),
        marked(volume, abs(volume - 1) <= VOLUME), marked(stray_ml, stray_ml <= STRAY_ML, ".1f"),
        f"{dark_ml:.1f}", marked(room_ml, room_ml <= STRAY_ML, ".1f"), marked(seconds, seconds <= SECONDS, ".1f"),
        f"{before:.0f}", marked(peak, peak <= PEAK_MIB, ".0f"),
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def channel_from_trachea(case: RealCase) -> Volume:
    """Cut a tube of air from the trachea, above the lungs, forward to the room."""
    ct, top = case.ct, Box.around(case.lungs).stop[0]
    plane = min(top - 1, ct.grid.shape[0] - 1)
    middle = (Box.around(case.lungs).start[2] + Box.around(case.lungs).stop[2]) / 2
    free = (ct.array[plane] < TRACHEA_HU + 200) & ~room_air(ct)[plane] & ~near(case.lungs, ct.grid, NEAR_MM)[plane]
    labels, count = ndimage.label(free)
    if count == 0:
        raise SystemExit(f"{case.name}: no trachea found in slice {plane}")
    centers = ndimage.center_of_mass(free, labels, range(1, count + 1))
    sizes = ndimage.sum_labels(free, labels, range(1, count + 1))
    worth = [size / (1 + abs(x - middle)) for size, (_, x) in zip(sizes, centers, strict=True)]
    y, x = centers[int(np.argmax(worth))]
    dz, _, dx = ct.grid.spacing_mm
    zs, ys, xs = np.ogrid[tuple(map(slice, ct.grid.shape))]
    tube = ((zs - plane) * dz) ** 2 + ((xs - x) * dx) ** 2 <= CHANNEL_RADIUS_MM**2
    return Volume(np.where(tube & (ys <= y), np.float32(-1000), ct.array), ct.grid)


def cropped(case: RealCase, box: Box) -> tuple[Volume, Box]:
    """Give the CT inside a box, and the box."""
    box = box.clipped(case.ct.grid.shape)
    return Volume(np.ascontiguousarray(case.ct.array[box.slices]), case.ct.grid.cropped(box)), box


def disturbed(case: RealCase) -> Iterator[tuple[str, Callable[[], tuple[Volume, Box]]]]:
    """List disturbances, each with how to make the CT and which part of the array it is."""
    ct, whole = case.ct, Box.whole(case.ct.grid.shape)
    around = Box.around(case.lungs)
    _, dy, dx = ct.grid.spacing_mm
    half = (around.start[0] + around.stop[0]) // 2
    quarter = (around.stop[0] - around.start[0]) // 4
    yx = ((0, ct.grid.shape[1]), (0, ct.grid.shape[2]))

    def slab(low: int, high: int) -> Box:
        return Box((low, yx[0][0], yx[1][0]), (high, yx[0][1], yx[1][1]))

    def in_plane(margin_mm: float) -> Box:
        my, mx = round(margin_mm / dy), round(margin_mm / dx)
        return Box(
            (0, around.start[1] - my, around.start[2] - mx),
            (ct.grid.shape[0], around.stop[1] + my, around.stop[2] + mx),
        )

    def noisy() -> Volume:
        noise = np.random.default_rng(0).normal(0, 60, ct.grid.shape).astype(np.float32)
        return Volume(ct.array + noise, ct.grid)

    yield "noise, σ 60 HU", lambda: (noisy(), whole)
    yield "−50 HU", lambda: (Volume(ct.array - 50, ct.grid), whole)
    yield "+100 HU", lambda: (Volume(ct.array + 100, ct.grid), whole)
    yield "crop to lungs + 10 mm", lambda: cropped(case, in_plane(10))
    yield "crop to lungs", lambda: cropped(case, in_plane(0))
    yield "crop 15 mm into lungs", lambda: cropped(case, in_plane(-15))
    yield "z: lower half", lambda: cropped(case, slab(0, half))
    yield "z: upper half", lambda: cropped(case, slab(half, ct.grid.shape[0]))
    yield "z: middle half", lambda: cropped(case, slab(around.start[0] + quarter, around.stop[0] - quarter))
    yield "air from trachea to room", lambda: (channel_from_trachea(case), whole)


def stability_row(name: str, found: dict[str, Mask], cases: dict[str, RealCase], place: int) -> str:
    """Compare each CT, disturbed in one way, with itself."""
    cells = [name]
    for case in cases.values():
        ct, box = list(disturbed(case))[place][1]()
        score = dice(found[case.name][box.slices], find(ct))
        cells.append(marked(score, score >= UNDISTURBED))
    return "| " + " | ".join(cells) + " |"


def whereabouts_rows(cases: dict[str, RealCase]) -> Iterator[str]:
    """Tell how the clinical lungs lie in their CT, moved by 50 mm, and in the CT of the next case, slice by slice."""
    names = list(cases)
    for name, following in zip(names, names[1:] + names[:1], strict=True):
        case, other = cases[name], cases[following]
        moved = round(50.0 / case.ct.grid.spacing_mm[1])
        masks = {"its own": case.lungs, "moved by 50 mm": np.roll(case.lungs, moved, axis=1)}
        if case.lungs.shape[1:] == other.lungs.shape[1:] and following != name:
            foreign = np.zeros_like(case.lungs)
            depth = min(len(foreign), len(other.lungs))
            foreign[:depth] = other.lungs[:depth]
            masks[f"those of {following}"] = foreign
        for what, mask in masks.items():
            seen = lung_placement(case.ct, mask)
            told = "elsewhere" if seen.is_misplaced else "–"
            yield f"| {name} | {what} | {seen.air_share:.0%} | {seen.air_covered:.0%} | {told} |"


def main() -> None:
    """Print the tables."""
    if sys.argv[1:2] == ["--timed"]:
        timed(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--only", choices=("agreement", "stability", "whereabouts"))
    args = parser.parse_args()
    cases = {name: real_case(name) for name in args.cases}
    found = {name: find(case.ct) for name, case in cases.items()}
    if args.only in {None, "agreement"}:
        columns = (
            "CT|voxels|Dice|coverage|within 3 mm|volume ratio|stray air, ml|below −900 HU|the room's|s|MiB before|peak"
        )
        print(f"| {columns.replace('|', ' | ')} |\n|{'---|' * 12}")
        for name, case in cases.items():
            print(agreement_row(case, found[name]), flush=True)
    if args.only in {None, "stability"}:
        print(
            f"\n| Dice with the undisturbed mask (≥ {UNDISTURBED}) | {' | '.join(cases)} |\n|---|{'---:|' * len(cases)}"
        )
        for place, (name, _) in enumerate(disturbed(next(iter(cases.values())))):
            print(stability_row(name, found, cases, place), flush=True)
    if args.only in {None, "whereabouts"}:
        columns = ("CT", "lungs", "of them air in the body", "of that air covered", "taken for")
        print(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
        for row in whereabouts_rows({name: case for name, case in cases.items() if name != "CIP_ct64"}):
            print(row, flush=True)


if __name__ == "__main__":
    main()
