"""The losses as docs/decisions has them (0005, 0006), in float64, with NumPy and loops: for tests to compare with."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

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


def make_finding(tumor_in, uncertainty, *, size=24, radius=6):
    """Draw a batch in which a network of two classes finds a ball in each sample, and some samples have a tumor there.

    It is 90 % sure of the ball, and as sure of the rest as one that is trained.

    Args:
        tumor_in: Of each sample, whether the ball is a tumor.
        uncertainty: Its variance, as a share of p·(1 − p).
    """
    ball = np.linalg.norm(np.indices((size,) * 3) - size // 2, axis=0) < radius
    margin = torch.from_numpy(np.where(ball, np.log(9.0), -np.log(999.0)))
    logits = torch.stack((-margin / 2, margin / 2)).expand(len(tumor_in), -1, -1, -1, -1).clone()
    probability = logits.softmax(1)
    target = torch.stack([torch.from_numpy(ball & tumor)[None] for tumor in tumor_in]).long()
    distance = np.where(ball, -distance_transform_edt(ball), distance_transform_edt(~ball))
    distance = torch.stack([torch.from_numpy(distance * tumor)[None] for tumor in tumor_in])
    return Problem(logits, target, uncertainty * probability * (1 - probability), distance, SOFTMAX)


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
        known = (self.y > 0) & self.known
        self.without_tumor = ~(known if self.regions else np.broadcast_to(known.any(0), known.shape)).any(2)
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
    """mean(α)·Dice_α + mean((1 − α)·CE), or with means of α alone; all of CE in samples without tumor."""
    terms = []
    channels = (voxels.p, voxels.y, voxels.entropy, voxels.uncertainty, voxels.without_tumor)
    for p, y, entropy, uncertainty, empty in zip(*channels, strict=True):
        alpha = np.exp(-uncertainty / scale)
        mean = voxels.mean(alpha)
        weight = alpha if variant == "voxel" else np.ones_like(alpha)
        unsure = np.where(empty[:, None], 1, 1 - (alpha if variant == "voxel" else mean))
        terms.append(mean * (1 - voxels.dice(p, y, weight, batch_dice=batch_dice)) + voxels.mean(unsure * entropy))
    return np.mean(terms)


def boundary(voxels, *, batch_dice, weight=0.01):
    """Dice, probability times signed distance, and the cross-entropy of samples without tumor."""
    terms = []
    channels = (voxels.p, voxels.y, voxels.entropy, voxels.distance, voxels.without_tumor)
    for p, y, entropy, distance, empty in zip(*channels, strict=True):
        dice = voxels.dice(p, y, np.ones_like(p), batch_dice=batch_dice)
        terms.append(1 - dice + weight * voxels.mean(distance * p) + voxels.mean(empty[:, None] * entropy))
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
    """The errors, largest first, each times what its voxel adds to the Jaccard loss of the wrong voxels.

    And the cross-entropy where the class is in no sample.
    """
    terms = []
    channels = (voxels.p, voxels.y, voxels.entropy, voxels.uncertainty, voxels.without_tumor)
    for p, y, entropy, uncertainty, empty in zip(*channels, strict=True):
        errors = (np.abs(y - p) * (1 + uncertainty / scale))[voxels.known]
        truth = set(np.flatnonzero(y[voxels.known]))
        wrong, before, total = set(), 0.0, 0.0
        for place in np.argsort(-errors):
            wrong.add(place)
            jaccard = 1 - len(truth - wrong) / len(truth | wrong)
            total += errors[place] * (jaccard - before)
            before = jaccard
        terms.append(total + (voxels.mean(entropy) if empty.all() else 0))
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

    def gradient(self, problem, logits=None, *, batch_dice=False):
        """Compute the gradient at the logits of a problem, or at others."""
        logits = (problem.logits if logits is None else logits).detach().requires_grad_()
        self.of(problem, logits, batch_dice=batch_dice).backward()
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
