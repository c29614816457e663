"""What uncertainty costs: training steps and Monte-Carlo inference, against the plain ones in the same run.

    python benchmarks/training_steps.py [--rounds 7] [--device cpu] [--networks]

Steps are those of the trainers, optimizer and clipping included, on the U-Net that nnU-Net plans: six stages of 32 to
320 features at 64³, and of 16 to 160 at 96³, batch 2. They take turns; the median of the rounds counts. Before that,
under one seed, the variance of shared passes must be that of whole ones. Peak memory is measured in a process of its
own each, from before the first step on. `--networks` times the other networks instead, in the size of the paper, at
64³ and batch 1. On CUDA, nnU-Net's mixed precision and torch.compile are on as in its own training
(`nnUNet_compile=f` switches the latter off).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from plain_unet import plain_unet

from nnunet_cascade.losses.distances import SignedDistanceTransform
from nnunet_cascade.plugin import nnunet_cascade_trainers
from nnunet_cascade.trainers.fixed_losses import DistanceTargetsTrainer
from nnunet_cascade.uncertainty.passes import StochasticPasses, passes_of
from nnunet_cascade.uncertainty.predictor import MonteCarloPredictor
from nnunet_cascade.uncertainty.sampling import stochastic

T_TRAINING, T_INFERENCE = 4, 20
BASELINE = "DiceCEROITrainer"
STAGE_2 = (
    BASELINE,
    "UncertaintyROITrainer",
    "UncertaintyLovaszROITrainer",
    "DistanceTransformROITrainer",
    "DistanceWeightedCEROITrainer",
    "L1DiceFocalROITrainer",
)
NETWORKS = ("CascadeTrainer", "SwinUNETRTrainer", "UNETRTrainer", "SegResNetTrainer", "AttentionUNetTrainer")
TARGETS = {"largest step": {64: 1.60, 96: 1.70}, "inference": 0.60, "memory": 1.05}


@dataclass(frozen=True, kw_only=True)
class Size:
    """A U-Net and its patches."""

    first_features: int
    most_features: int
    side: int
    batch: int = 2

    @property
    def features(self) -> list[int]:
        """Of the stages."""
        return [min(self.first_features * 2**stage, self.most_features) for stage in range(6)]


SIZES = (
    Size(first_features=32, most_features=320, side=64),
    Size(first_features=16, most_features=160, side=96),
)
NETWORK_SIZE = Size(first_features=32, most_features=320, side=64, batch=1)


def plans_of(size: Size) -> dict[str, Any]:
    """Give plans as nnU-Net's planner writes them."""
    configuration = {
        "data_identifier": "benchmark",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": size.batch,
        "patch_size": [size.side] * 3,
        "spacing": [1.0, 1.0, 1.0],
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "batch_dice": False,
        "architecture": plain_unet(size.features),
    }
    return {
        "dataset_name": "Dataset999_Benchmark",
        "plans_name": "benchmark",
        "continue_training": False,
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "image_reader_writer": "SimpleITKIO",
        "label_manager": "LabelManager",
        "configurations": {"3d_fullres": configuration},
        "nnunet_cascade": {"mc_samples": T_TRAINING},
    }


def make_trainer(name: str, size: Size, device: torch.device) -> Any:
    """Make a trainer and its network."""
    labels = {"background": 0, "tumor": 1}
    dataset = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}
    trainer = getattr(nnunet_cascade_trainers, name)(plans_of(size), "3d_fullres", 0, dataset, device)
    trainer.print_to_log_file = _print_nothing
    trainer.initialize()
    trainer.network.train()
    return trainer


def _print_nothing(*_: object, **__: object) -> None:
    """Stand in for nnU-Net's log."""


def make_batch(trainer: Any, size: Size) -> dict[str, Any]:
    """Draw an image and a ball at each of the trainer's resolutions, with distances where the loss wants them."""
    place = torch.linspace(-1, 1, size.side)
    z, y, x = torch.meshgrid(place, place, place, indexing="ij")
    ball = ((z - 0.1) ** 2 + y**2 + x**2 < 0.4**2).float()[None]
    generator = torch.Generator().manual_seed(0)
    image = torch.randn((size.batch, 1, *ball.shape[1:]), generator=generator) * 0.3 + ball
    scales = range(len(trainer._get_deep_supervision_scales() or [1]))  # noqa: SLF001 - as nnU-Net's loader asks
    targets = [ball[:, :: 2**scale, :: 2**scale, :: 2**scale] for scale in scales]
    if isinstance(trainer, DistanceTargetsTrainer):
        append = SignedDistanceTransform(trainer.label_scheme, 1)
        targets = append(segmentation=targets)["segmentation"]
    stacked = [torch.stack([target] * size.batch) for target in targets]
    return {"data": image, "target": stacked if trainer.enable_deep_supervision else stacked[0]}


def take_turns(runs: Mapping[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, float]:
    """Run in turn and give the medians of seconds; the first round warms up."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(found[1:]) for name, found in times.items()}


def peak_memory(name: str, size: Size, device: torch.device) -> float:
    """Take two steps; the most memory in MiB beyond what there was before them."""
    trainer = make_trainer(name, size, device)
    batch = make_batch(trainer, size)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated() / 2**20
    else:
        before = _resident("VmRSS")
    for _ in range(2):
        trainer.train_step(batch)
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20 - before
    # Not getrusage: its maximum outlives exec and would be that of the process that started this one.
    return _resident("VmHWM") - before


def _resident(field: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(float(line.split()[1]) / 2**10 for line in lines if line.startswith(field))


def peak_memory_apart(name: str, size: Size, device: torch.device) -> float:
    """Measure in a process of its own, whose allocator nobody used before."""
    arguments = [sys.executable, __file__, "--memory_of", name, "--side", str(size.side), "--device", str(device)]
    arguments += ["--networks"] if size is NETWORK_SIZE else []
    # One arena, so that the figure is that of the tensors and not of the allocator's threads.
    environment = {
        **os.environ,
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_MMAP_THRESHOLD_": "65536",
        "MALLOC_TRIM_THRESHOLD_": "0",
    }
    done = subprocess.run(arguments, check=True, capture_output=True, text=True, env=environment)
    return float(done.stdout.split()[-1])


def step_ratios(size: Size, rounds: int, device: torch.device, names: tuple[str, ...]) -> bool:
    """Print a table of training steps; give whether the adaptive loss reaches its targets."""
    trainers = {name: make_trainer(name, size, device) for name in names}
    if "UncertaintyROITrainer" in trainers:
        naive = trainers["UncertaintyROITrainer, whole passes"] = make_trainer("UncertaintyROITrainer", size, device)
        naive.passes = StochasticPasses(naive.network)
    batches = {name: make_batch(trainer, size) for name, trainer in trainers.items()}
    runs = {name: lambda name=name: trainers[name].train_step(batches[name]) for name in trainers}
    taken = take_turns(runs, rounds, device)
    memory = {name: peak_memory_apart(name, size, device) for name in names}
    print(f"\ntraining step, {size.side}³, batch {size.batch}, T = {T_TRAINING}\n")
    print("| trainer | parameters / 10⁶ | s | time | MiB | memory |\n|---|---:|---:|---:|---:|---:|")
    first = names[0]
    for name, seconds in taken.items():
        parameters = sum(value.numel() for value in trainers[name].network.parameters()) / 1e6
        space = f"{memory[name]:.0f} | {memory[name] / memory[first]:.2f}" if name in memory else "| "
        print(f"| {name} | {parameters:.1f} | {seconds:.3f} | {seconds / taken[first]:.2f} | {space} |", flush=True)
    if "UncertaintyROITrainer" not in names:
        return True
    ratio = taken["UncertaintyROITrainer"] / taken[first]
    more = memory["UncertaintyROITrainer"] / memory[first]
    limit = TARGETS["largest step"][size.side]
    print(
        f"\nUncertaintyROITrainer: time {ratio:.2f} (at most {limit}), memory {more:.2f} (at most {TARGETS['memory']})"
    )
    return ratio <= limit and more <= TARGETS["memory"]


def inference_ratio(size: Size, rounds: int, device: torch.device) -> bool:
    """Print Monte-Carlo inference against whole passes; both must give the same variance."""
    # nnU-Net does not compile for prediction, and compiled code draws from a generator of its own.
    os.environ.update(nnUNet_compile="f")
    trainer = make_trainer("UncertaintyROITrainer", size, device)
    image = make_batch(trainer, size)["data"][:1].to(device)
    trainer.network.decoder.deep_supervision = False
    predictor = MonteCarloPredictor(mc_samples=T_INFERENCE, device=device)
    predictor.label_manager = SimpleNamespace(has_regions=False)
    ways = {"whole": StochasticPasses(trainer.network), "shared": passes_of(trainer.network)}

    def moments(way: str) -> torch.Tensor:
        torch.manual_seed(0)
        with torch.inference_mode(), trainer.autocast(), stochastic(trainer.network):
            return predictor._window_moments(image, ways[way])  # noqa: SLF001 - the step that is timed

    mean, square = moments("shared").chunk(2)
    whole_mean, whole_square = moments("whole").chunk(2)
    variance, whole = square - mean**2, whole_square - whole_mean**2
    error = float((variance - whole).abs().max() / whole.abs().max())
    taken = take_turns({way: (lambda way=way: moments(way)) for way in ways}, rounds, device)
    ratio = taken["shared"] / taken["whole"]
    print(
        f"\nMonte-Carlo inference, {size.side}³, batch 1, T = {T_INFERENCE}: {ratio:.2f} of whole passes (at most ",
        end="",
    )
    print(f"{TARGETS['inference']}); variance differs by {error:.1e} of its maximum, mean {float(whole.mean()):.1e}")
    return ratio <= TARGETS["inference"] and error < (0.05 if device.type == "cuda" else 1e-3)  # half precision on CUDA


def main() -> None:
    """Print the tables; exit with 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--networks", action="store_true", help="time the networks instead of the losses")
    parser.add_argument("--memory_of", help=argparse.SUPPRESS)
    parser.add_argument("--side", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(dict.fromkeys(("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"), folder))
        # nnU-Net looks at the names of preprocessed files when a trainer is made.
        preprocessed = Path(folder) / "Dataset999_Benchmark" / "benchmark"
        preprocessed.mkdir(parents=True)
        for name in ("case.b2nd", "case.pkl"):
            (preprocessed / name).touch()
        if args.memory_of:
            size = NETWORK_SIZE if args.networks else next(size for size in SIZES if size.side == args.side)
            print(peak_memory(args.memory_of, size, args.device))
            return
        card = f" ({torch.cuda.get_device_name()})" if args.device.type == "cuda" else ""
        print(f"{args.device}{card}, {torch.get_num_threads()} threads, torch {torch.__version__}")
        if args.networks:
            step_ratios(NETWORK_SIZE, args.rounds, args.device, NETWORKS)
            return
        reached = [step_ratios(size, args.rounds, args.device, STAGE_2) for size in SIZES]
        reached += [inference_ratio(size, max(args.rounds // 2, 2), args.device) for size in SIZES]
    sys.exit(0 if all(reached) else 1)


if __name__ == "__main__":
    main()
