"""Calibration of one case of 150 × 512 × 512 voxels, sums per bin against NumPy on whole arrays.

    OMP_NUM_THREADS=1 python benchmarks/calibration.py [--rounds 3]

All voxels, and those within 5 mm of a tumor of 25 mm radius. Each measurement runs in a process of its own, drawing
excluded; the median of the rounds counts, and the highest memory above that of the drawn arrays. The version on whole
arrays stands below, written down as one would: it must find the same figures.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import tracemalloc
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from nnunet_cascade.evaluation.calibration.counts import count_voxels
from nnunet_cascade.evaluation.calibration.figures import figures_of
from nnunet_cascade.evaluation.calibration.regions import near_surface, near_union
from nnunet_cascade.evaluation.calibration.temperature import fit_temperature

SHAPE, SPACING_MM, RADIUS_MM = (150, 512, 512), (3.0, 0.977, 0.977), 25.0
BINS, LEAST, CERTAIN = 15, 1e-7, 1e-12
WAYS = ("ours, all voxels", "NumPy, all voxels", "ours, 5 mm region", "NumPy, 5 mm region", "ours, regions alone")
LARGEST_ERROR = {"ece": 1e-9, "ace": 1e-3, "brier": 1e-9, "nll": 1e-9, "temperature": 1e-3}
LARGEST_SECONDS, LARGEST_MIB = 5.0, 200


def make_case() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw probabilities that promise twice the logits that are kept, the truth, and a tumor."""
    rng = np.random.default_rng(7)
    z, y, x = (
        (np.arange(count, dtype=np.float32) - count / 2) * size for count, size in zip(SHAPE, SPACING_MM, strict=True)
    )
    radius_mm = np.sqrt(z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2)
    logits = (RADIUS_MM - radius_mm) / 12
    truth = rng.random(SHAPE, dtype=np.float32) < 1 / (1 + np.exp(-logits))
    probability = (1 / (1 + np.exp(-2 * logits))).astype(np.float32)
    return probability, truth, radius_mm < RADIUS_MM


def whole_arrays(probability: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Measure the definitions on all values at once."""
    p, y = probability.astype(np.float64), truth.astype(np.float64)
    place = np.minimum((p * BINS).astype(int), BINS - 1)
    gaps = [abs(p[place == k].sum() - y[place == k].sum()) for k in range(BINS)]
    order = np.argsort(p, kind="stable")
    masses = [abs(p[part].mean() - y[part].mean()) for part in np.array_split(order, BINS)]
    known = (p > 0) & (p < 1)
    kept = np.clip(p, CERTAIN, 1 - CERTAIN)
    logits = np.log(kept) - np.log1p(-kept)

    def nll(log_temperature: float) -> float:
        scaled = logits[known] / np.exp(log_temperature)
        return float((np.logaddexp(0, scaled) - y[known] * scaled).mean())

    best = minimize_scalar(nll, bounds=(-1, 2), method="bounded", options={"xatol": 1e-5})
    return {
        "ece": sum(gaps) / p.size,
        "ace": float(np.mean(masses)),
        "brier": float(((p - y) ** 2).mean()),
        "nll": float(-np.log(np.maximum(np.where(truth, p, 1 - p), LEAST)).mean()),
        "temperature": float(np.exp(best.x)),
    }


def measure(way: str) -> dict[str, Any]:
    """Do one way once; gives figures, seconds and memory above the arrays'."""
    probability, truth, tumor = make_case()
    near_union(tumor[:2], tumor[:2], spacing_mm=SPACING_MM)
    tracemalloc.start()
    begun = time.perf_counter()
    found: dict[str, float] = {}
    region = near_union(tumor, tumor, spacing_mm=SPACING_MM) if "region" in way else None
    if way == "ours, regions alone":
        near_surface(tumor, spacing_mm=SPACING_MM)
    elif way.startswith("ours"):
        counts = count_voxels(probability, truth, region)
        figures, fit = figures_of(counts), fit_temperature(counts)
        found = {name: getattr(figures, name) for name in ("ece", "ace", "brier", "nll")}
        found["temperature"] = fit.temperature
    else:
        inside = ... if region is None else region
        found = whole_arrays(probability[inside].ravel(), truth[inside].ravel())
    return {"figures": found, "seconds": time.perf_counter() - begun, "mib": tracemalloc.get_traced_memory()[1] / 2**20}


def main() -> None:
    """Print the table; exit 1 where a figure, the time or the memory is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way is not None:
        print(json.dumps(measure(args.way)))
        return
    results = {way: [_in_process(way) for _ in range(args.rounds)] for way in WAYS}
    print(f"{'':22} {'s':>7} {'MiB':>6}  figures")
    for way, rounds in results.items():
        seconds, mib = statistics.median(r["seconds"] for r in rounds), max(r["mib"] for r in rounds)
        figures = "  ".join(f"{name} {value:.6f}" for name, value in rounds[0]["figures"].items())
        print(f"{way:22} {seconds:7.2f} {mib:6.0f}  {figures}")
    sys.exit(1 if _faults(results) else 0)


def _faults(results: dict[str, list[dict[str, Any]]]) -> list[str]:
    faults: list[str] = []
    for where in ("all voxels", "5 mm region"):
        ours, theirs = (results[f"{who}, {where}"] for who in ("ours", "NumPy"))
        for name, limit in LARGEST_ERROR.items():
            error = abs(ours[0]["figures"][name] - theirs[0]["figures"][name])
            if error > limit:
                faults.append(f"{where}: {name} differs by {error:.2g}, more than {limit:g}")
        if statistics.median(r["seconds"] for r in ours) > LARGEST_SECONDS:
            faults.append(f"{where}: more than {LARGEST_SECONDS} s")
        if max(r["mib"] for r in ours) > LARGEST_MIB:
            faults.append(f"{where}: more than {LARGEST_MIB} MiB")
    print("\n".join(faults) or "figures, time and memory are as they should be")
    return faults


def _in_process(way: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, __file__, "--way", way], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
