"""Each loss, forward and backward, against nnU-Net's Dice-CE in the same run, and its gradient against float64.

    python benchmarks/losses.py [--size 96] [--rounds 30] [--device cpu]

A batch of two patches with two classes, the foreground a few balls. The losses take turns; the median of the rounds
counts. Gradients are compared with those that autograd finds of the losses' definitions, written out below in
float64 for two classes; the error is the norm of the difference over the norm of the gradient.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch.nn.functional import cross_entropy

from nnunet_cascade.losses.adaptive import AdaptiveLoss
from nnunet_cascade.losses.boundary import BoundaryLoss
from nnunet_cascade.losses.dice_focal import L1DiceFocalLoss
from nnunet_cascade.losses.distance_weighted import DistanceWeightedLoss
from nnunet_cascade.losses.distances import SignedDistanceTransform
from nnunet_cascade.losses.lovasz import UncertaintyLovaszLoss
from nnunet_cascade.losses.targets import LabelScheme

TAU, LAMBDA, GAMMA, BINS, SMOOTH, SURFACE, WIDTH = 0.25, 0.01, 2, 20, 1e-5, 10, 5
BASELINE = "nnU-Net's Dice-CE"
LARGEST_RATIO = {"Lovász": 4.0}
LARGEST_ERROR = 1e-4

Loss = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Task:
    """A batch: logits (B, 2, Z, Y, X), labels (B, 1, …), labels with distances (B, 2, …), variance (B, 2, …)."""

    logits: torch.Tensor
    labels: torch.Tensor
    with_distance: torch.Tensor
    variance: torch.Tensor


def make_task(size: int, device: torch.device) -> Task:
    """Draw balls, and outputs that have found them more or less."""
    generator = torch.Generator().manual_seed(0)
    places = torch.stack(torch.meshgrid(*[torch.arange(size, dtype=torch.float32)] * 3, indexing="ij"))
    labels = torch.zeros(2, 1, size, size, size, dtype=torch.int16)
    for patch in labels[:, 0]:
        for radius in (0.16, 0.08, 0.05):
            center = (0.2 + 0.6 * torch.rand(3, generator=generator)) * size
            patch[((places - center.view(3, 1, 1, 1)) ** 2).sum(0) < (radius * size) ** 2] = 1
    logits = torch.randn(2, 2, size, size, size, generator=generator) * 1.5
    logits[:, 1:] += 6 * labels - 3
    append = SignedDistanceTransform(LabelScheme(), 1)
    with_distance = torch.stack([append(segmentation=patch)["segmentation"] for patch in labels])
    variance = torch.rand(logits.shape, generator=generator) / 8
    return Task(*(tensor.to(device) for tensor in (logits, labels, with_distance, variance)))


def losses_of(task: Task) -> dict[str, Loss]:
    """Give nnU-Net's loss and ours."""
    dice_kwargs = {"batch_dice": False, "smooth": SMOOTH, "do_bg": False, "ddp": False}
    dice_class: Any = MemoryEfficientSoftDiceLoss
    baseline = DC_and_CE_loss(dice_kwargs, {}, dice_class=dice_class)
    voxel, scalar, boundary = AdaptiveLoss(variant="voxel"), AdaptiveLoss(variant="scalar"), BoundaryLoss()
    weighted, lovasz, focal = DistanceWeightedLoss(), UncertaintyLovaszLoss(), L1DiceFocalLoss()
    return {
        BASELINE: lambda logits: baseline(logits, task.labels),
        "adaptive, voxel": lambda logits: voxel(logits, task.labels, task.variance),
        "adaptive, scalar": lambda logits: scalar(logits, task.labels, task.variance),
        "boundary": lambda logits: boundary(logits, task.with_distance),
        "distance-weighted CE": lambda logits: weighted(logits, task.with_distance),
        "Lovász": lambda logits: lovasz(logits, task.labels, task.variance),
        "L1 Dice-focal": lambda logits: focal(logits, task.labels),
    }


def definitions_of(task: Task) -> dict[str, Loss]:  # noqa: C901 - one small function for each loss
    """Give the same losses as their definitions read, for two classes."""
    truth = (task.labels[:, 0] == 1).double()
    uncertainty = task.variance.double().mean(1)
    alpha = torch.exp(-uncertainty / TAU)

    def dice(p: torch.Tensor, weight: torch.Tensor, power: int = 1) -> torch.Tensor:
        overlap = (weight * p * truth).sum((1, 2, 3))
        size = (weight * (p**power + truth)).sum((1, 2, 3))
        return ((2 * overlap + SMOOTH) / (size + SMOOTH)).mean()

    def tumor(logits: torch.Tensor) -> torch.Tensor:
        return torch.softmax(logits, 1)[:, 1]

    def entropy(logits: torch.Tensor) -> torch.Tensor:
        return cross_entropy(logits, task.labels[:, 0].long(), reduction="none")

    def adaptive_voxel(logits: torch.Tensor) -> torch.Tensor:
        return alpha.mean() * (1 - dice(tumor(logits), alpha)) + ((1 - alpha) * entropy(logits)).mean()

    def adaptive_scalar(logits: torch.Tensor) -> torch.Tensor:
        plain = 1 - dice(tumor(logits), torch.ones_like(alpha))
        return alpha.mean() * plain + (1 - alpha.mean()) * entropy(logits).mean()

    def boundary(logits: torch.Tensor) -> torch.Tensor:
        p = tumor(logits)
        return 1 - dice(p, torch.ones_like(p)) + LAMBDA * (task.with_distance[:, 1].double() * p).mean()

    def distance_weighted(logits: torch.Tensor) -> torch.Tensor:
        p, near = tumor(logits), torch.exp(-(task.with_distance[:, 1].double() ** 2) / (2 * WIDTH**2))
        weight = 1 + SURFACE * near
        return 1 - dice(p, torch.ones_like(p)) + (weight * entropy(logits)).sum() / weight.sum()

    def lovasz(logits: torch.Tensor) -> torch.Tensor:
        errors, order = ((truth - tumor(logits)).abs() * (1 + uncertainty / TAU)).flatten().sort(descending=True)
        found = truth.flatten()[order]
        jaccard = 1 - (found.sum() - found.cumsum(0)) / (found.sum() + (1 - found).cumsum(0))
        return (errors * torch.diff(jaccard, prepend=jaccard.new_zeros(1))).sum()

    def l1_dice_focal(logits: torch.Tensor) -> torch.Tensor:
        p, ce = tumor(logits), entropy(logits)
        # Bins are those of float32: an error within rounding of a border would jump.
        errors = (tumor(task.logits) - truth.float()).abs().double().detach()
        weight = torch.zeros_like(p)
        for center in range(BINS + 1):
            inside = (errors * BINS + 0.5).floor() == center
            width = (0.5 if center in {0, BINS} else 1.0) / BINS
            weight[inside] = errors.numel() * width / inside.sum()
        return 1 - dice(p, weight, power=2) + ((1 - torch.exp(-ce)) ** GAMMA * ce).mean()

    return {
        "adaptive, voxel": adaptive_voxel,
        "adaptive, scalar": adaptive_scalar,
        "boundary": boundary,
        "distance-weighted CE": distance_weighted,
        "Lovász": lovasz,
        "L1 Dice-focal": l1_dice_focal,
    }


def gradient(loss: Loss, logits: torch.Tensor) -> torch.Tensor:
    """Run forward and backward."""
    logits = logits.detach().requires_grad_()
    loss(logits).backward()
    if logits.grad is None:
        raise RuntimeError("the loss has no gradient")
    return logits.grad


def seconds(losses: dict[str, Loss], logits: torch.Tensor, rounds: int) -> dict[str, float]:
    """Time the losses in turn and give their medians."""
    times: dict[str, list[float]] = {name: [] for name in losses}
    for _ in range(rounds + 3):
        for name, loss in losses.items():
            begin = time.perf_counter()
            gradient(loss, logits)
            if logits.is_cuda:
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - begin)
    # The first rounds warm up.
    return {name: statistics.median(found[3:]) for name, found in times.items()}


def main() -> None:
    """Print the table; exit with 1 if a ratio or an error is too large."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=96, help="side of the patches in voxels")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    args = parser.parse_args()
    task = make_task(args.size, args.device)
    losses, definitions = losses_of(task), definitions_of(task)
    times = seconds(losses, task.logits, args.rounds)
    print(f"batch 2 × 2 × {args.size}³, {args.device}, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print("| loss | ms | ratio | at most | error of the gradient |")
    print("|---|---:|---:|---:|---:|")
    missed = False
    for name, taken in times.items():
        ratio, limit, error = taken / times[BASELINE], LARGEST_RATIO.get(name, 2.5), 0.0
        if name != BASELINE:
            exact = gradient(definitions[name], task.logits.double())
            error = ((gradient(losses[name], task.logits) - exact).norm() / exact.norm()).item()
        missed = missed or ratio > limit or error > LARGEST_ERROR
        print(f"| {name} | {1000 * taken:.1f} | {ratio:.2f} | {limit if name != BASELINE else 1} | {error:.1e} |")
    sys.exit(int(missed))


if __name__ == "__main__":
    main()
