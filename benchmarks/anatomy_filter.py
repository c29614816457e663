"""Records and rules of 200 candidates in a CT of 400 × 512 × 512 voxels, against SciPy on whole arrays.

    OMP_NUM_THREADS=1 python benchmarks/anatomy_filter.py [--rounds 3] [--without_scipy]

The lungs are given: two ellipsoids. Among and around them lie 200 balls, each with a fragment beside it that merges
with it. Each measurement runs in a process of its own, imports and drawing excluded; the median of the rounds counts,
and the highest memory of all of them. The same patient in three slice thicknesses shows how the cost grows. The SciPy
version stands below, written down as one would: it must find the same verdicts and the same numbers.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import ndimage

from nnunet_cascade.geometry import Grid
from nnunet_cascade.postprocessing.anatomy import AnatomySettings, filter_candidates

SETTINGS = replace(AnatomySettings.recommended(), top_k="all")
SLICES, PLANE, CANDIDATES = (100, 200, 400), 512, 200
SIZE_MM = np.array([400.0, 384.0, 384.0])
LUNGS = (((200.0, 190.0, 105.0), (130.0, 85.0, 55.0)), ((205.0, 190.0, 280.0), (120.0, 80.0, 50.0)))
BODY = ((200.0, 192.0, 192.0), (190.0, 115.0, 165.0))
APART_MM = 36.0
LARGEST_SECONDS, LARGEST_MIB, SMALLEST_RATIO, LARGEST_DIFFERENCE = 2.0, 1024, 15, 1e-9
LARGEST_GROWTH = 1.5
TOLERANCE = 1e-6

Record = dict[str, Any]
Way = Callable[[np.ndarray, Grid, np.ndarray], list[Record]]


def make_case(slices: int) -> tuple[np.ndarray, Grid, np.ndarray]:
    """Draw tumor mask, grid and lungs."""
    shape = (slices, PLANE, PLANE)
    z, y, x = (float(length / size) for length, size in zip(SIZE_MM, shape, strict=True))
    grid = Grid(shape=shape, spacing_mm=(z, y, x))
    tumor, lungs = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    for center, radii in LUNGS:
        draw(lungs, grid, center, radii)
    for center, radius, fragment in blobs():
        draw(tumor, grid, center, (radius,) * 3)
        draw(tumor, grid, fragment, (2.5,) * 3)
    return tumor, grid, lungs


def blobs() -> list[tuple[np.ndarray, float, np.ndarray]]:
    """Place the balls in the body, each with the center of its fragment."""
    rng = np.random.default_rng(5)
    found: list[tuple[np.ndarray, float, np.ndarray]] = []
    while len(found) < CANDIDATES:
        center = rng.uniform(0, 1, 3) * SIZE_MM
        inside = (((center - BODY[0]) / BODY[1]) ** 2).sum() < 1
        if inside and all(np.linalg.norm(center - other) > APART_MM for other, _, _ in found):
            radius, way = rng.uniform(2.5, 7.0), rng.normal(size=3) * (0, 1, 1)
            found.append((center, radius, center + way / np.linalg.norm(way) * (radius + 2.5 + 2.0)))
    return found


def draw(mask: np.ndarray, grid: Grid, center: Any, radii: Any) -> None:
    """Draw an ellipsoid, touching no more of the array than its box."""
    spacing = np.array(grid.spacing_mm)
    low = np.maximum(np.floor((np.array(center) - radii) / spacing), 0).astype(int)
    high = np.minimum(np.ceil((np.array(center) + radii) / spacing) + 1, mask.shape).astype(int)
    z, y, x = (
        ((np.arange(a, b) * size - middle) / radius) ** 2
        for a, b, size, middle, radius in zip(low, high, spacing, center, radii, strict=True)
    )
    plane = y[:, None] + x[None]
    for index, height in zip(range(low[0], high[0]), z, strict=True):
        mask[index, low[1] : high[1], low[2] : high[2]] |= plane + height <= 1


def ours(tumor: np.ndarray, grid: Grid, lungs: np.ndarray) -> list[Record]:
    """Filter with the package."""
    found = filter_candidates(tumor, grid, lungs, SETTINGS)
    return [candidate.to_record().to_json() for candidate in found.candidates]


def straightforward(tumor: np.ndarray, grid: Grid, lungs: np.ndarray) -> list[Record]:
    """Filter with SciPy on whole arrays, component by component."""
    neighbors = np.ones((3, 3, 3), dtype=bool)
    grown = ndimage.binary_dilation(tumor, structure=ball(SETTINGS.merge_radius_mm, grid.spacing_mm))
    labels, count = ndimage.label(grown, structure=neighbors)
    labels[~tumor] = 0
    distances_mm = ndimage.distance_transform_edt(~lungs, sampling=grid.spacing_mm)
    distances_mm[ndimage.binary_dilation(lungs, structure=neighbors)] = 0
    columns = np.flatnonzero(lungs.any(axis=(0, 1)))
    middle, half_width = (columns[0] + columns[-1]) / 2, (columns[-1] + 1 - columns[0]) / 2
    records = []
    for number in range(1, count + 1):
        mask = labels == number
        places = np.argwhere(mask)
        low, high = places.min(axis=0), places.max(axis=0) + 1
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        rim = mask[box] & ~ndimage.binary_erosion(mask[box])
        center = places.mean(axis=0)
        offset = center[2] - middle
        central = bool(abs(offset) <= SETTINGS.central_zone_share * half_width)
        record = {
            "voxels": len(places),
            "volume_mm3": len(places) * grid.voxel_volume_mm3,
            "box": {"start": low.tolist(), "stop": high.tolist()},
            "centroid_mm": list(grid.world_mm(tuple(center))),
            "lung_overlap": float(lungs[mask].mean()),
            "lung_distance_mm": float(distances_mm[mask].min()),
            "near_surface_share": float((distances_mm[box][rim] <= SETTINGS.rescue_distance_mm + TOLERANCE).mean()),
            "central": central,
            "side": "central" if central else "left" if offset > 0 else "right",
        }
        records.append({**record, "verdict": verdict(record)})
    return records


def ball(radius_mm: float, spacing_mm: Any) -> np.ndarray:
    """Give a ball as a structuring element."""
    reach = [int((radius_mm + TOLERANCE) / size) for size in spacing_mm]
    steps = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), axis=-1)
    return np.linalg.norm(steps * np.array(spacing_mm), axis=-1) <= radius_mm + TOLERANCE


def verdict(record: Record) -> Record:
    """Apply the rules in their order."""
    needed = SETTINGS.min_lung_overlap_central if record["central"] else SETTINGS.min_lung_overlap
    share = SETTINGS.rescue_near_surface_share_central if record["central"] else 0.0
    if record["volume_mm3"] < SETTINGS.min_volume_mm3 - TOLERANCE:
        return {"kept": False, "rule": "minimum_volume"}
    if record["lung_overlap"] >= needed - TOLERANCE:
        return {"kept": True, "rule": "lung_overlap"}
    near = record["lung_distance_mm"] <= SETTINGS.rescue_distance_mm + TOLERANCE
    large = record["volume_mm3"] >= SETTINGS.rescue_min_volume_mm3 - TOLERANCE
    if near and large and record["near_surface_share"] >= share - TOLERANCE:
        return {"kept": True, "rule": "rescue"}
    return {"kept": False, "rule": "outside_lungs"}


WAYS: dict[str, Way] = {"ours": ours, "scipy": straightforward}


def measure(way: str, slices: int, rounds: int) -> Record:
    """Do the work and give the median of its seconds, its memory above the inputs, and the records."""
    case = make_case(slices)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, records = [], []
    for _ in range(rounds):
        begun = time.perf_counter()
        records = WAYS[way](*case)
        seconds.append(time.perf_counter() - begun)
    above = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"seconds": statistics.median(seconds), "mib": above / 1024, "records": records}


def measured_apart(way: str, slices: int, rounds: int) -> Record:
    """Measure in a process of its own."""
    command = [sys.executable, __file__, "--way", way, "--slices", str(slices), "--rounds", str(rounds)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def difference(one: Any, other: Any) -> float:
    """Give the largest difference of two records' numbers, infinite where anything else differs."""
    if isinstance(other, dict):
        return max(difference(one[name], value) for name, value in other.items())
    if isinstance(other, list):
        return max(difference(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(other, float):
        return abs(one - other)
    return 0.0 if one == other else float("inf")


def by_box(records: list[Record]) -> list[Record]:
    """Order records by their place in the array."""
    return sorted(records, key=lambda record: record["box"]["start"] + record["box"]["stop"])


def growth(rounds: int) -> tuple[Record, bool]:
    """Print seconds and memory at each size; give the largest and whether a target was missed."""
    print("| voxels | candidates | seconds | ns per voxel | MiB above the inputs |\n|---|---:|---:|---:|---:|")
    found: Record = {}
    costs: list[float] = []
    for slices in SLICES:
        found = measured_apart("ours", slices, rounds)
        costs.append(1e9 * found["seconds"] / (slices * PLANE**2))
        figures = f"{len(found['records'])} | {found['seconds']:.2f} | {costs[-1]:.1f} | {found['mib']:.0f}"
        print(f"| {slices} × {PLANE} × {PLANE} | {figures} |", flush=True)
    missed = len(found["records"]) != CANDIDATES or costs[-1] > LARGEST_GROWTH * costs[0]
    return found, missed or found["seconds"] > LARGEST_SECONDS or found["mib"] > LARGEST_MIB


def main() -> None:
    """Print both tables; exit with 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without_scipy", action="store_true", help="the SciPy version takes minutes")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--slices", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        print(json.dumps(measure(args.way, args.slices, args.rounds)))
        return
    found, missed = growth(args.rounds)
    if not args.without_scipy:
        plain = measured_apart("scipy", SLICES[-1], 1)
        ratio = plain["seconds"] / found["seconds"]
        apart = difference(by_box(found["records"]), by_box(plain["records"]))
        print(f"\nSciPy: {plain['seconds']:.1f} s, {ratio:.0f} times ours, {plain['mib']:.0f} MiB; ", end="")
        print(f"verdicts equal, numbers within {apart:.0e}" if apart < float("inf") else "records DIFFER")
        missed = missed or ratio < SMALLEST_RATIO or apart > LARGEST_DIFFERENCE
    sys.exit(int(missed))


if __name__ == "__main__":
    main()
