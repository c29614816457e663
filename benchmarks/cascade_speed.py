"""The cascade against plain `nnUNetv2_predict` on one CT: wall time, memory, and time outside the networks.

    NNC_REAL_DATA=... python benchmarks/cascade_speed.py [--slices 400] [--json FILE]   # about ten minutes on 2 cores
    python benchmarks/cascade_speed.py --quick                                          # a phantom, in seconds

The CT is LUNG1-001's, converted by `nnc-convert-nsclc-radiomics`; `--slices` resamples it linearly along z (GTV-1 to
the nearest slice). Stage 1 runs at 2.5 mm, then GTV-1 takes the place of what it found, so that stage 2 has its full
work: T = 20 at 1 mm. Plain is stage 2's network at 1 mm over the whole volume. Networks are untrained, of a fixed
seed; neither side mirrors, both have the same threads, and float32 unless asked otherwise. Each side is a process of
its own, its start included, with its children; memory is their Pss together, sampled every 50 ms. The clock around
nnU-Net's network sits around `predict_logits_from_preprocessed_data` in both. Time outside is wall time less that, and
for the cascade less the time in lung masks too; what ran side by side is taken off once. At the end the cascade's files
must hold what `predict_case` gives in this process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from phantom_cohort import environment, fresh, memory_watched, verdict
from scipy import ndimage
from untrained_cascade import FULL, QUICK, Size, make_models, plain_arguments, plain_environment

from nnunet_cascade.bundles.bundle import load_cascade
from nnunet_cascade.geometry import Grid
from nnunet_cascade.images import ENDING, read_ct, read_labels, read_volume, write_image
from nnunet_cascade.machine import take_threads
from nnunet_cascade.phantom.settings import PhantomSettings
from nnunet_cascade.phantom.thorax import make_phantom
from nnunet_cascade.prediction.case import PrecomputedInputs, predict_case
from nnunet_cascade.versions import versions

CASE = "LUNG1-001"
MOST = {"wall time": 0.25, "peak memory": 0.30, "time outside": 0.50}
HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one side took.

    Attributes:
        wall_s: From the start of its process to its end.
        peak_mib: Pss of all its processes together, at the most.
        networks_s: In networks.
        outside_s: Neither in networks nor, in the cascade, in lung masks.
        steps_s: Seconds by step, where they are known; steps overlap.
    """

    wall_s: float
    peak_mib: float
    networks_s: float
    outside_s: float
    steps_s: Mapping[str, float]


def real_ct(folder: Path, slices: int | None) -> tuple[Path, Path]:
    """Convert the CT and GTV-1, resampled along z if so asked; gives the folder of the CT and the mask."""
    source = os.environ.get("NNC_REAL_DATA", "")
    if not source:
        raise SystemExit("NNC_REAL_DATA is not set; name the folder that holds LUNG1-001, or give --quick")
    command = Path(sys.executable).with_name("nnc-convert-nsclc-radiomics")
    raw = fresh(folder / "raw")
    arguments = [sys.executable, str(command), "-i", source, "-d", "501", "-np", "1", "--patients", CASE]
    subprocess.run(arguments, check=True, env={**os.environ, "nnUNet_raw": str(raw)})
    dataset = raw / "Dataset501_NSCLCRadiomics"
    ct = read_ct(dataset / "imagesTr" / f"{CASE}_0000{ENDING}")
    mask = read_labels(dataset / "labelsTr" / f"{CASE}{ENDING}", ct.grid, what="GTV-1") > 0
    if slices is None:
        return written(folder, ct.array, mask, ct.grid)
    factors = (slices / ct.grid.shape[0], 1, 1)
    array = ndimage.zoom(ct.array, factors, order=1, mode="nearest", grid_mode=True)
    nearest = ndimage.zoom(mask.astype(np.uint8), factors, order=0, mode="nearest", grid_mode=True) > 0
    thin = ct.grid.spacing_mm[0] / factors[0]
    origin_mm = ct.grid.world_mm((0.5 / factors[0] - 0.5, 0.0, 0.0))
    spacing_mm = (thin, *ct.grid.spacing_mm[1:])
    grid = Grid(shape=array.shape, spacing_mm=spacing_mm, origin_mm=origin_mm, axes=ct.grid.axes)
    return written(folder, array, nearest, grid)


def phantom_ct(folder: Path) -> tuple[Path, Path]:
    """Draw a small phantom with a tumor."""
    settings = PhantomSettings(spacing_mm=(5.0, 5.0, 5.0), tumors=(1, 1), tumor_radius_mm=(12.0, 20.0))
    phantom = make_phantom(6000, settings)
    return written(folder, phantom.ct, phantom.tumors > 0, phantom.grid)


def written(folder: Path, array: np.ndarray, mask: np.ndarray, grid: Grid) -> tuple[Path, Path]:
    """Write CT and mask; gives the folder of the CT and the mask."""
    images = fresh(folder / "images")
    images.mkdir(parents=True)
    write_image(np.rint(array).astype(np.int16), grid, images / f"{CASE}_0000{ENDING}")
    write_image(mask, grid, folder / f"{CASE}{ENDING}")
    return images, folder / f"{CASE}{ENDING}"


def measured(arguments: Sequence[str], variables: Mapping[str, str]) -> Cost:
    """Run a script that ends with a line of JSON; the time in networks is among what that tells."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(variables)
    )
    with memory_watched(process.pid) as peak:
        said, complained = process.communicate()
    wall_s = time.perf_counter() - begun
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}:\n{said[-1500:]}{complained[-3000:]}")
    told: dict[str, float] = json.loads(said.strip().splitlines()[-1])
    networks_s = told.pop("networks")
    outside_s = wall_s - told.pop("counted", networks_s)
    return Cost(wall_s=wall_s, peak_mib=peak[0], networks_s=networks_s, outside_s=outside_s, steps_s=told)


def differing(asked: argparse.Namespace, output: Path, images: Path, mask: Path, bundle: Path) -> list[str]:
    """Name the maps of the cascade that differ from those of `predict_case`, in one process and without a runner."""
    take_threads(asked.threads)
    image = read_ct(images / f"{CASE}_0000{ENDING}")
    given = PrecomputedInputs(case=CASE, stage1=read_labels(mask, image.grid, what="mask") > 0)
    loaded = load_cascade(bundle, device=torch.device("cpu"), precision=asked.precision)
    result = predict_case(image, loaded, given)
    maps: dict[str, Any] = {
        "": result.tumor,
        "_probability": result.probability,
        "_uncertainty": result.uncertainty,
        "_roi": result.regions,
        "_stage1": result.stage1,
        "_candidates": result.filtered.labels,
        "_lungs": None if result.lungs is None else result.lungs.labels,
    }
    there = {suffix: output / f"{CASE}{suffix}{ENDING}" for suffix in maps}
    return [
        suffix or "mask"
        for suffix, array in maps.items()
        if (array is None) == there[suffix].is_file()
        or (array is not None and not np.array_equal(read_volume(there[suffix]).array, array.astype(np.float32)))
    ]


def facts(asked: argparse.Namespace, output: Path, size: Size) -> dict[str, Any]:
    """Give what was predicted, with what, and on what."""
    record = json.loads((output / f"{CASE}.json").read_text())
    processor = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    return {
        "ct": {"shape": record["grid"]["shape"], "spacing_mm": record["grid"]["spacing_mm"]},
        "regions_voxels": [
            [stop - start for start, stop in zip(roi["box"]["start"], roi["box"]["stop"], strict=True)]
            for roi in record["rois"]
        ],
        "networks": asdict(size),
        "threads": asked.threads,
        "precision": asked.precision,
        "processor": f"{processor}, {os.cpu_count()} cores",
        "versions": versions(),
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines() if Path(path).is_file() else []


def new_parser() -> argparse.ArgumentParser:
    """Describe the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small phantom instead of the real CT")
    parser.add_argument("--slices", type=int, help="resample the CT to so many slices")
    parser.add_argument("--same_resampling", action="store_true", help="plain resamples by the cascade's plans too")
    parser.add_argument("--cascade_only", action="store_true", help="leave plain out, and the ratios with it")
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16"), default="float32", help="of the cascade; default %(default)s"
    )
    parser.add_argument("--threads", type=int, default=2, help="of either side; default %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    return parser


def compared(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run the sides that are asked for and give all figures."""
    size = QUICK if args.quick else FULL
    images, mask = phantom_ct(folder) if args.quick else real_ct(folder, args.slices)
    models = make_models(folder / "models", size, stock_resampling=not args.same_resampling)
    output = folder / "cascade"
    paths = [str(path) for path in (images, mask, models.bundle, output)]
    sides = {
        "cascade": measured(
            [str(HERE / "clocked_cascade.py"), *paths, "--precision", args.precision], environment(args.threads)
        )
    }
    if not args.cascade_only:
        sides["plain"] = measured(
            [str(HERE / "clocked_plain.py"), *plain_arguments(images, folder / "plain")],
            plain_environment(models, args.threads),
        )
    wrong = differing(args, output, images, mask, models.bundle)
    return {**facts(args, output, size), **{side: asdict(cost) for side, cost in sides.items()}, "differing": wrong}


def ratios(figures: Mapping[str, Any]) -> dict[str, float]:
    """Give the cascade's cost over that of plain; nothing where plain was left out."""
    names = {"wall time": "wall_s", "peak memory": "peak_mib", "time outside": "outside_s"}
    if "plain" not in figures:
        return {}
    return {name: figures["cascade"][key] / figures["plain"][key] for name, key in names.items()}


def main() -> None:
    """Print the table; exit 1 where a ratio is not reached or a map differs. --quick asks for the maps alone."""
    args = new_parser().parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = compared(args, Path(folder))
    found = ratios(figures)
    if args.json is not None:
        args.json.write_text(json.dumps({**figures, "ratios": found}, indent=1, default=dict) + "\n")
    sides = {side: figures.pop(side) for side in ("plain", "cascade") if side in figures}
    wrong = figures.pop("differing")
    print(json.dumps(figures))
    print("| | wall time, s | in networks, s | outside, s | peak memory, MiB |\n|---|---:|---:|---:|---:|")
    for side, cost in sides.items():
        seconds = " | ".join(f"{cost[key]:.1f}" for key in ("wall_s", "networks_s", "outside_s"))
        print(f"| {side} | {seconds} | {cost['peak_mib']:.0f} |")
    print(f"steps of the cascade, which overlap, s: {dict(sides['cascade']['steps_s'])}")
    held = {f"{name} {ratio:.3f}, at most {MOST[name]}": ratio <= MOST[name] for name, ratio in found.items()}
    asked = {} if args.quick else held
    sys.exit(verdict({**asked, f"the maps of predict_case, {len(wrong)} differ {wrong}": not wrong}))


if __name__ == "__main__":
    main()
