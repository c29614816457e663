"""What the benchmarks of many cases share: phantoms, a small cascade trained on others, memory, comparison."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from nnunet_cascade.images import ENDING, write_image
from nnunet_cascade.phantom.record import phantom_name
from nnunet_cascade.phantom.settings import PhantomSettings
from nnunet_cascade.phantom.thorax import make_phantom

FIRST_SEED = 6000
SPACING_MM = 3.0
SAMPLE_SECONDS = 0.05


def new_parser(description: str | None, *, cases: int) -> argparse.ArgumentParser:
    """Give a parser with the options that all these benchmarks have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=cases, help="number of phantoms; default %(default)s")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(tempfile.gettempdir()) / "nnc_benchmark_cohort",
        help="for phantoms and bundle, which are kept for the next time, and results; default %(default)s",
    )
    parser.add_argument("--bundle", type=Path, help="default: one trained on eight other phantoms, in minutes")
    parser.add_argument("--spacing_mm", type=float, default=SPACING_MM, help="of the phantoms; default %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="OMP_NUM_THREADS of all commands; default %(default)s")
    return parser


def phantoms(args: argparse.Namespace) -> list[Path]:
    """Draw the phantoms that are not there yet, and say how large they are."""
    folder: Path = args.folder / f"images_{args.spacing_mm:g}mm"
    folder.mkdir(parents=True, exist_ok=True)
    settings = PhantomSettings(tumors=(1, 2), spacing_mm=(args.spacing_mm,) * 3)
    paths: list[Path] = []
    shape: tuple[int, ...] | None = None
    for seed in tqdm(range(FIRST_SEED, FIRST_SEED + args.cases), desc="phantoms", disable=None):
        paths.append(folder / f"{phantom_name(seed)}_0000{ENDING}")
        if shape is None or not paths[-1].is_file():
            phantom = make_phantom(seed, settings)
            shape = phantom.ct.shape
            write_image(phantom.ct.astype(np.int16), phantom.grid, paths[-1])
    print(f"{args.cases} phantoms of {' × '.join(map(str, shape or ()))} voxels at {args.spacing_mm:g} mm")
    return paths


def bundle(args: argparse.Namespace) -> Path:
    """Give the bundle asked for, or train the demonstration's networks for a moment."""
    if args.bundle is not None:
        return args.bundle
    from nnunet_cascade.nnunet_folders import own_nnunet_folders  # noqa: PLC0415
    from nnunet_cascade.reproduction.demo import DemoRequest, demo_training, make_demo_dataset  # noqa: PLC0415
    from nnunet_cascade.training.pipeline import train_cascade  # noqa: PLC0415 - torch is not needed otherwise

    request = DemoRequest(folder=args.folder / "training", train=8, test=1, folds=2, effort=0.2)
    chain = demo_training(request)
    if not chain.bundle.is_dir():
        request.folder.mkdir(parents=True, exist_ok=True)
        with own_nnunet_folders(request.folder):
            make_demo_dataset(request)
            train_cascade(chain)
    return chain.bundle


def chosen(paths: Sequence[Path], folder: Path) -> Path:
    """Give a folder of some of the images."""
    fresh(folder)
    folder.mkdir(parents=True)
    for path in paths:
        os.link(path, folder / path.name)
    return folder


def fresh(folder: Path) -> Path:
    """Give a folder's name with nothing behind it."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def command(images: Path, output: Path, model: Path, *options: str) -> list[str]:
    """Give the arguments of a run on the CPU."""
    program = Path(sys.executable).with_name("nnc-cascade-predict")
    return [
        sys.executable,
        str(program),
        "-i",
        str(images),
        "-o",
        str(output),
        "-m",
        str(model),
        "-device",
        "cpu",
        *options,
    ]


def environment(threads: int) -> dict[str, str]:
    """Give the environment of all commands: the same threads, and a Ray of their own."""
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "RAY_ADDRESS": "local"}


def timed(arguments: Sequence[str], threads: int) -> float:
    """Run a command that must succeed, and give its seconds, start included."""
    begun = time.perf_counter()
    done = subprocess.run(arguments, env=environment(threads), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return time.perf_counter() - begun


def family(pid: int) -> list[int]:
    """List a process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            children.setdefault(parent, []).append(int(folder.name))
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo += children.get(found[-1], [])
    return found


def workers_of(pid: int) -> list[int]:
    """List the processes among the descendants of a run that hold models."""
    found: list[int] = []
    for process in family(pid)[1:]:
        with suppress(OSError):
            name = Path(f"/proc/{process}/cmdline").read_bytes()
            if b"spawn_main" in name or name.startswith(b"ray::CascadeActor"):
                found.append(process)
    return sorted(found)


def pss_mib(pid: int) -> float:
    """Give the memory of a process and its descendants; what several share counts once."""
    total = 0
    for process in family(pid):
        with suppress(OSError, IndexError, ValueError):
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


@contextmanager
def memory_watched(pid: int) -> Iterator[list[float]]:
    """Watch the memory of a process and its descendants; gives a list that holds the peak at the end, in MiB.

    The system counts page by page, so that a look at a large process takes long: pauses are at least
    nineteen times as long as the looks, which then take a twentieth of a core at most.
    """
    peak, ended = [0.0], threading.Event()

    def watch() -> None:
        pause = SAMPLE_SECONDS
        while not ended.wait(pause):
            begin = time.perf_counter()
            peak[0] = max(peak[0], pss_mib(pid))
            pause = max(SAMPLE_SECONDS, 19 * (time.perf_counter() - begin))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def peak_mib(arguments: Sequence[str], threads: int) -> float:
    """Run a command that must succeed, and give the peak of the memory of all its processes together."""
    process = subprocess.Popen(
        arguments, env=environment(threads), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    with memory_watched(process.pid) as peak:
        _, told = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}:\n{told[-3000:]}")
    return peak[0]


def differences(first: Path, second: Path, names: Sequence[str] | None = None) -> list[str]:
    """List the files of two folders that differ: JSON but for `varying`, all else byte for byte, hidden ones too.

    Args:
        first: A folder.
        second: Another one.
        names: What to compare; None compares everything.
    """
    if names is None:
        names = sorted({path.name for folder in (first, second) for path in folder.iterdir()})
    return [name for name in names if _content(first / name) != _content(second / name)]


def files_of(folder: Path, case: str) -> list[str]:
    """Name the files of a case: its record and what that names."""
    return [f"{case}.json", *json.loads((folder / f"{case}.json").read_text())["files"]]


def case_of(path: Path) -> str:
    """Give the case of an image."""
    return path.name.removesuffix(f"_0000{ENDING}")


def verdict(figures: dict[str, bool]) -> int:
    """Print what holds and what does not; gives the exit code."""
    for name, holds in figures.items():
        print(f"{'holds' if holds else 'FAILS'}: {name}")
    return 0 if all(figures.values()) else 1


def _content(path: Path) -> Any:
    if not path.is_file():
        return None
    if path.suffix != ".json":
        return path.read_bytes()
    content = json.loads(path.read_text())
    content.pop("varying", None)
    return content
