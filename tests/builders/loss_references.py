"""The losses as docs/decisions has them (0005, 0006), in float64, with NumPy and loops: for tests to compare with."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from nnunet_cascade.losses.adaptive import AdaptiveLoss
from nnunet_cascade.losses.boundary import BoundaryLoss
from nnunet_cascade.losses.dice_focal import L1DiceFocalLoss
from nnunet_cascade.losses.distance_weighted import DistanceWeightedLoss
from nnunet_cascade.losses.lovasz import UncertaintyLovaszLoss
from nnunet_cascade.losses.targets import LabelScheme, VoxelLoss

SMOOTH = 1e-5
SOFTMAX, REGIONS = LabelScheme(), LabelScheme(regions=True)
SCHEMES = {
    "two classes": (2, SOFTMAX),
    "three classes": (3, SOFTMAX),
    "regions": (2, REGIONS),
    "two classes, ignore": (2, LabelScheme(ignore_label=2)),
    "three classes, ignore": (3, LabelScheme(ignore_label=3)),
    "regions, ignore": (2, LabelScheme(regions=True, ignore_label=3)),
}


@dataclass
class Problem:
    """What a loss is given."""

    logits: torch.Tensor
    target: torch.Tensor
    uncertainty: torch.Tensor
    distance: torch.Tensor
    labels: LabelScheme

    @property
    def known(self):
        """(B, 1, …), True where a voxel is annotated."""
        if self.labels.ignore_label is None:
            return torch.ones_like(self.target[:, :1], dtype=torch.bool)
        return self.target[:, -1:] == 0 if self.labels.regions else self.target != self.labels.ignore_label


def make_problem(scheme, *, size=(4, 3, 5), batch=2, seed=0, ignored=0.3):
    """Draw a problem at random; a share of the voxels is ignored where the scheme allows it."""
    classes, labels = SCHEMES[scheme]
    generator = torch.Generator().manual_seed(seed)

    def uniform(channels):
        return torch.rand((batch, channels, *size), generator=generator, dtype=torch.float64)

    logits = torch.randn((batch, classes, *size), generator=generator, dtype=torch.float64) * 2
    marked = uniform(1) < ignored
    if labels.regions:
        target = (uniform(classes) < 0.4).long()
        target = torch.cat((target, marked), 1) if labels.ignore_label is not None else target
    else:
        target = (uniform(1) * classes).long()
        target = target.masked_fill(marked, labels.ignore_label) if labels.ignore_label is not None else target
    foreground = classes if labels.regions else classes - 1
    return Problem(logits, target, uniform(classes) / 4, uniform(foreground) * 20 - 8, labels)


class Voxels:
    """A problem channel by channel, each (F, B, N): probability p, truth y, entropy, and what is known (B, N)."""

    def __init__(self, problem: Problem):
        logits = problem.logits.detach().double().numpy()
        batch, channels = logits.shape[:2]
        logits = logits.reshape(batch, channels, -1)
        target = problem.target.numpy().reshape(batch, problem.target.shape[1], -1)
        uncertainty = problem.uncertainty.double().numpy().reshape(logits.shape)
        self.known = problem.known.numpy().reshape(batch, -1)
        self.regions = problem.labels.regions
        if self.regions:
            p, y = 1 / (1 + np.exp(-logits)), target[:, :channels].astype(float)
            entropy = -y * np.log(p) - (1 - y) * np.log(1 - p)
        else:
            p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            y = np.stack([target[:, 0] == label for label in range(channels)], 1).astype(float)
            entropy = -np.log((p * y).sum(1, keepdims=True) + (~self.known)[:, None])
            p, y, uncertainty = p[:, 1:], y[:, 1:], uncertainty.mean(1, keepdims=True)
        self.p, self.y = p.swapaxes(0, 1), y.swapaxes(0, 1)
        # One for all channels of a softmax.
        self.entropy = np.broadcast_to(entropy.swapaxes(0, 1), self.p.shape)
        self.uncertainty = np.broadcast_to(uncertainty.swapaxes(0, 1), self.p.shape)
        self.distance = problem.distance.double().numpy().reshape(batch, len(self.p), -1).swapaxes(0, 1)

    def mean(self, values):
        """Average the known voxels of the batch."""
        return values[self.known].mean()

    def dice(self, p, y, weight, *, batch_dice, power=1):
        """Average the weighted Dice over the samples, or take that of all their voxels."""
        samples = [slice(None)] if batch_dice else range(len(self.known))
        found = []
        for sample in samples:
            known = self.known[sample]
            pk, yk, wk = (values[sample][known] for values in (p, y, weight))
            found.append((2 * (wk * pk * yk).sum() + SMOOTH) / ((wk * (pk**power + yk**power)).sum() + SMOOTH))
        return np.mean(found)


def adaptive(voxels, *, variant, batch_dice, scale=0.25):
    """mean(α)·Dice_α + mean((1 − α)·CE), or with means of α alone."""
    terms = []
    for p, y, entropy, uncertainty in zip(voxels.p, voxels.y, voxels.entropy, voxels.uncertainty, strict=True):
        alpha = np.exp(-uncertainty / scale)
        mean = voxels.mean(alpha)
        weight = alpha if variant == "voxel" else np.ones_like(alpha)
        priority = voxels.mean((1 - alpha) * entropy) if variant == "voxel" else (1 - mean) * voxels.mean(entropy)
        terms.append(mean * (1 - voxels.dice(p, y, weight, batch_dice=batch_dice)) + priority)
    return np.mean(terms)


def boundary(voxels, *, batch_dice, weight=0.01):
    """Dice, and probability times signed distance."""
    terms = []
    for p, y, distance in zip(voxels.p, voxels.y, voxels.distance, strict=True):
        dice = voxels.dice(p, y, np.ones_like(p), batch_dice=batch_dice)
        terms.append(1 - dice + weight * voxels.mean(distance * p))
    return np.mean(terms)


def distance_weighted(voxels, *, batch_dice, surface=10, width=5):
    """Dice, and the mean of cross-entropy weighted by the nearest surface; for regions by each one's own."""
    nearest = np.where(voxels.distance == 0, np.inf, np.abs(voxels.distance))
    if not voxels.regions:
        nearest = np.broadcast_to(nearest.min(0), nearest.shape)
    terms = []
    for p, y, entropy, distance in zip(voxels.p, voxels.y, voxels.entropy, nearest, strict=True):
        weight = 1 + surface * np.exp(-(distance**2) / (2 * width**2))
        dice = voxels.dice(p, y, np.ones_like(p), batch_dice=batch_dice)
        terms.append(1 - dice + np.average(entropy[voxels.known], weights=weight[voxels.known]))
    return np.mean(terms)


def lovasz(voxels, *, scale=0.25):
    """The errors, largest first, each times what its voxel adds to the Jaccard loss of the wrong voxels."""
    terms = []
    for p, y, uncertainty in zip(voxels.p, voxels.y, voxels.uncertainty, strict=True):
        errors = (np.abs(y - p) * (1 + uncertainty / scale))[voxels.known]
        truth = set(np.flatnonzero(y[voxels.known]))
        wrong, before, total = set(), 0.0, 0.0
        for place in np.argsort(-errors):
            wrong.add(place)
            jaccard = 1 - len(truth - wrong) / len(truth | wrong)
            total += errors[place] * (jaccard - before)
            before = jaccard
        terms.append(total)
    return np.mean(terms)


def l1_dice_focal(voxels, *, batch_dice, gamma=2.0):
    """A Dice of squares, weighted by N over the density of errors, and the focal loss."""
    terms = []
    for p, y, entropy in zip(voxels.p, voxels.y, voxels.entropy, strict=True):
        errors = np.abs(p - y)
        weight = np.zeros_like(p)
        for center in np.arange(21) / 20:
            low, high = max(center - 0.025, 0), min(center + 0.025, 1)
            inside = voxels.known & (errors >= low) & ((errors < high) | (high == 1))
            if inside.any():
                weight[inside] = voxels.known.sum() * (high - low) / inside.sum()
        focal = voxels.mean((1 - np.exp(-entropy)) ** gamma * entropy)
        terms.append(1 - voxels.dice(p, y, weight, batch_dice=batch_dice, power=2) + focal)
    return np.mean(terms)


@dataclass
class Subject:
    """A loss beside its reference."""

    make: Callable[..., VoxelLoss]
    reference: Callable[..., float]
    has_distance: bool = False
    sums_batch: bool = False

    def loss(self, labels, *, batch_dice=False):
        """Make the loss; one that always takes the batch together has no setting for it."""
        return self.make(labels=labels) if self.sums_batch else self.make(labels=labels, batch_dice=batch_dice)

    def of(self, problem, logits=None, *, batch_dice=False):
        """Compute the loss of a problem, or of other logits in it."""
        target = torch.cat((problem.target, problem.distance), 1) if self.has_distance else problem.target
        logits = problem.logits if logits is None else logits
        return self.loss(problem.labels, batch_dice=batch_dice)(logits, target, problem.uncertainty)

    def expected(self, problem, *, batch_dice):
        """Compute what the loss should be."""
        return self.reference(Voxels(problem), **({} if self.sums_batch else {"batch_dice": batch_dice}))

    def gradient(self, problem, logits=None):
        """Compute the gradient at the logits of a problem, or at others."""
        logits = (problem.logits if logits is None else logits).detach().requires_grad_()
        self.of(problem, logits).backward()
        return logits.grad


SUBJECTS = {
    "adaptive voxel": Subject(AdaptiveLoss, lambda voxels, **kw: adaptive(voxels, variant="voxel", **kw)),
    "adaptive scalar": Subject(
        lambda **kw: AdaptiveLoss(variant="scalar", **kw), lambda voxels, **kw: adaptive(voxels, variant="scalar", **kw)
    ),
    "boundary": Subject(BoundaryLoss, boundary, has_distance=True),
    "distance-weighted": Subject(DistanceWeightedLoss, distance_weighted, has_distance=True),
    "lovasz": Subject(UncertaintyLovaszLoss, lovasz, sums_batch=True),
    "l1 dice focal": Subject(L1DiceFocalLoss, l1_dice_focal),
}
