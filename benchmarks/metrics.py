"""All metrics of one case of 150 × 512 × 512 voxels of 3 × 0.977² mm, against MONAI and surface-distance.

    OMP_NUM_THREADS=1 python benchmarks/metrics.py [--rounds 3]   # also real masks, where $NNC_REAL_DATA is set

The tumor is a ball of 40 ml, predicted a little off and with one small false positive in the other lung; both lungs are
ellipsoids, predicted a little off. MONAI gives eight metrics (Dice, HD95, HD, ASSD, NSD at 1, 2 and 3 mm, volume
difference), each by its own function, as its documentation has it; surface-distance measures distances once and derives
the same but for the volume difference; ours are those, HD95 pooled, and components with their overlaps and spread.
surface-distance is no dependency: it takes part where it is installed. Each measurement runs in a process of its own,
imports and drawing excluded; the median of the rounds counts. Memory is the peak above what the process held with both
masks.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from lung_masks import real_case

from nnunet_cascade.evaluation.case import score_case
from nnunet_cascade.geometry import Mask, Spacing

Case = tuple[Mask, Mask, Spacing]
SHAPE, SPACING_MM = (150, 512, 512), (3.0, 0.977, 0.977)
SMALLEST_RATIO = {"tumor": 10.0, "lungs": 5.0}
LARGEST_MIB, LARGEST_DIFFERENCE = 1024.0, 1e-6
TOLERANCES_MM = (1.0, 2.0, 3.0)
REAL = "LUNG1-001"


def ellipsoids(*bodies: tuple[tuple[float, float, float], tuple[float, float, float]]) -> Mask:
    """Draw ellipsoids, each of center and radii in mm along (Z, Y, X)."""
    mask = np.zeros(SHAPE, dtype=bool)
    for center, radii in bodies:
        z, y, x = (
            ((np.arange(count) * size - middle) / radius) ** 2
            for count, size, middle, radius in zip(SHAPE, SPACING_MM, center, radii, strict=True)
        )
        for index, height in enumerate(z):
            mask[index] |= y[:, None] + x[None] + height <= 1
    return mask


def drawn_tumor() -> Case:
    """Draw a tumor of 40 ml, and a prediction with an island of 0.5 ml far away."""
    truth = ellipsoids(((225, 250, 150), (21.2, 21.2, 21.2)))
    return truth, ellipsoids(((228, 251, 151), (20, 22, 20)), ((300, 350, 400), (5, 5, 5))), SPACING_MM


def drawn_lungs() -> Case:
    """Draw two lungs of 2.6 and 2.4 liters, and a prediction."""
    truth = ellipsoids(((225, 250, 150), (130, 85, 57)), ((230, 250, 350), (125, 80, 57)))
    return truth, ellipsoids(((228, 251, 151), (128, 86, 56)), ((231, 249, 349), (126, 78, 58))), SPACING_MM


def real_tumor() -> Case:
    """Read a tumor; the prediction is moved and has the same island as the drawn one."""
    case = real_case(REAL)
    truth = case.others["GTV-1"]
    island = drawn_tumor()[1][-truth.shape[0] :]
    island[:, :, : SHAPE[2] // 2] = False
    return truth, np.roll(truth, (1, 2, -1), axis=(0, 1, 2)) | island, case.ct.grid.spacing_mm


def real_lungs() -> Case:
    """Read both lungs; the prediction is moved."""
    case = real_case(REAL)
    return case.lungs, np.roll(case.lungs, (1, 2, -1), axis=(0, 1, 2)), case.ct.grid.spacing_mm


def ours(truth: Mask, prediction: Mask, spacing_mm: Spacing) -> dict[str, float]:
    """Score with the package."""
    record = score_case("case", truth, prediction, spacing_mm).record()
    return {name: value for name, value in record.items() if not isinstance(value, str)}


def monai() -> Callable[[Mask, Mask, Spacing], dict[str, float]]:
    """Give a way to score with MONAI."""
    import torch  # noqa: PLC0415 - a peer's imports are no part of ours
    from monai.metrics import (  # noqa: PLC0415
        compute_absolute_volume_difference,
        compute_average_surface_distance,
        compute_dice,
        compute_hausdorff_distance,
        compute_surface_dice,
    )

    def score(truth: Mask, prediction: Mask, spacing_mm: Spacing) -> dict[str, float]:
        pair = [torch.from_numpy(mask[None, None]) for mask in (prediction, truth)]
        plain: dict[str, Any] = {"include_background": True}
        spaced = {**plain, "spacing": spacing_mm}
        voxel_ml = math.prod(spacing_mm) / 1000
        found = {
            "dice": compute_dice(*pair, **plain),
            "hd95_mm": compute_hausdorff_distance(*pair, percentile=95, **spaced),
            "hd_mm": compute_hausdorff_distance(*pair, **spaced),
            "assd_mm": compute_average_surface_distance(*pair, symmetric=True, **spaced),
            **{f"nsd_{mm:.0f}mm": compute_surface_dice(*pair, [mm], **spaced) for mm in TOLERANCES_MM},
            "volume_error_ml": compute_absolute_volume_difference(*pair, **plain) * voxel_ml,
        }
        return {name: float(value) for name, value in found.items()}

    return score


def surface_distance() -> Callable[[Mask, Mask, Spacing], dict[str, float]]:
    """Give a way to score with surface-distance, which weighs by area."""
    from surface_distance import metrics  # noqa: PLC0415 - no dependency

    def score(truth: Mask, prediction: Mask, spacing_mm: Spacing) -> dict[str, float]:
        distances = metrics.compute_surface_distances(truth, prediction, spacing_mm)
        return {
            "dice": float(metrics.compute_dice_coefficient(truth, prediction)),
            "hd95_mm": float(metrics.compute_robust_hausdorff(distances, 95)),
            "hd_mm": float(metrics.compute_robust_hausdorff(distances, 100)),
            "assd_mm": float(statistics.fmean(metrics.compute_average_surface_distance(distances))),
            **{
                f"nsd_{mm:.0f}mm": float(metrics.compute_surface_dice_at_tolerance(distances, mm))
                for mm in TOLERANCES_MM
            },
        }

    return score


CASES = {"tumor": drawn_tumor, "lungs": drawn_lungs, "real tumor": real_tumor, "real lungs": real_lungs}
WAYS = {"ours": lambda: ours, "MONAI": monai, "surface-distance": surface_distance}


def memory_mib(field: str) -> float:
    """Give memory of this process: VmRSS is what it holds, VmHWM the most it has held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def measure(way: str, case: str, rounds: int) -> dict[str, Any]:
    """Score one case in this process."""
    warnings.simplefilter("ignore")  # the peers' own
    score, masks = WAYS[way](), CASES[case]()
    small = np.ones((3, 3, 3), dtype=bool)
    score(small, small, SPACING_MM)  # what is set up at the first call is no part of a case
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here (Linux)
    before, seconds, values = memory_mib("VmRSS"), list[float](), dict[str, float]()
    for _ in range(rounds):
        begun = time.perf_counter()
        values = score(*masks)
        seconds.append(time.perf_counter() - begun)
    return {"seconds": statistics.median(seconds), "mib": memory_mib("VmHWM") - before, "values": values}


def measured_apart(way: str, case: str, rounds: int) -> dict[str, Any]:
    """Score one case in a process of its own."""
    command = [sys.executable, __file__, "--way", way, "--case", case, "--rounds", str(rounds)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def row(case: str, found: dict[str, dict[str, Any]]) -> tuple[str, bool]:
    """Give a case's line of the table, and whether it misses a target."""
    mine, peer = found["ours"], found["MONAI"]
    ratio = peer["seconds"] / mine["seconds"]
    apart = max(
        abs(abs(mine["values"][name]) - value if name == "volume_error_ml" else mine["values"][name] - value)
        / max(1.0, value)
        for name, value in peer["values"].items()
    )
    cells = [case, f"{mine['seconds']:.3f}", f"{peer['seconds']:.2f}", f"{ratio:.0f}", f"{apart:.0e}"]
    missed = (
        ratio < SMALLEST_RATIO[case.removeprefix("real ")] or apart > LARGEST_DIFFERENCE or mine["mib"] > LARGEST_MIB
    )
    other = found.get("surface-distance")
    if other:
        missed = missed or other["seconds"] < mine["seconds"]
        missed = missed or abs(other["values"]["dice"] - mine["values"]["dice"]) > LARGEST_DIFFERENCE
    cells += [f"{other['seconds']:.2f}", f"{other['seconds'] / mine['seconds']:.1f}"] if other else ["–", "–"]
    cells += [f"{mine['mib']:.0f}", f"{peer['mib']:.0f}", f"{other['mib']:.0f}" if other else "–"]
    cells += ["/".join(f"{each['values'][name]:.{digits}f}" for each in found.values()) for name, digits in SHOWN]
    return "| " + " | ".join(cells) + (" | **missed** |" if missed else " | |"), missed


SHOWN = (("hd95_mm", 2), ("assd_mm", 2), ("nsd_2mm", 3))
HEAD = (
    "case|ours, s|MONAI, s|ratio|largest difference|surface-distance, s|ratio|ours, MiB|MONAI|surface-distance"
    "|HD95, mm|ASSD, mm|NSD 2 mm|"
)


def main() -> None:
    """Print the table; exit with 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        print(json.dumps(measure(args.way, args.case, args.rounds)))
        return
    ways = [way for way in WAYS if way != "surface-distance" or importlib.util.find_spec("surface_distance")]
    cases = [case for case in CASES if "real" not in case or os.environ.get("NNC_REAL_DATA")]
    for name, taken, all_of_them in (("ways", ways, WAYS), ("cases", cases, CASES)):
        left_out = [each for each in all_of_them if each not in taken]
        print(f"{name}: {', '.join(taken)}" + (f"; left out: {', '.join(left_out)}" if left_out else ""))
    print(f"\n| {HEAD.replace('|', ' | ')} |\n|{'---|' * (HEAD.count('|') + 1)}", flush=True)
    missed = False
    for case in cases:
        line, is_missed = row(case, {way: measured_apart(way, case, args.rounds) for way in ways})
        print(line, flush=True)
        missed = missed or is_missed
    sys.exit(int(missed))


if __name__ == "__main__":
    main()
