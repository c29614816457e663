"""Thresholds of the anatomy rules from predictions with ground truth: lose no tumor first, then drop what is none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.geometry import Grid, Mask
from nnunet_cascade.postprocessing.anatomy import filter_candidates
from nnunet_cascade.postprocessing.lungs.result import LungMask
from nnunet_cascade.postprocessing.settings import AnatomySettings

TUNED = (
    "min_volume_mm3",
    "min_lung_overlap",
    "min_lung_overlap_central",
    "rescue_distance_mm",
    "rescue_near_surface_share_central",
)
_TOLERANCE = 1e-6
_BLOCK = 2048  # candidates at a time, so that memory does not grow with their number
_CONFIDENCE = 0.95

Flags = NDArray[np.bool_]
"""(n,), one truth value per candidate."""
Numbers = NDArray[np.float64]
"""(n,), one number per candidate; NaN if it is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """What the rules ask of candidates, one row each; it depends on no threshold.

    Attributes:
        case: (n,), the case each belongs to.
        true: (n,), whether it has a voxel in common with a true tumor.
        volume_mm3: (n,).
        judged: (n,), whether there was a lung mask that could be used.
        central: (n,), whether it lies in the central zone.
        lung_overlap: (n,), share of its volume in the lungs.
        lung_distance_mm: (n,), smallest distance to a lung.
        near_surface_share: (n, d), share of its surface within each of `distances_mm` of a lung.
        distances_mm: The d distances.

    Raises:
        SettingsError: The columns differ in length.
    """

    case: NDArray[np.str_]
    true: Flags
    volume_mm3: Numbers
    judged: Flags
    central: Flags
    lung_overlap: Numbers
    lung_distance_mm: Numbers
    near_surface_share: NDArray[np.float64]
    distances_mm: tuple[float, ...]

    def __post_init__(self) -> None:
        lengths = {name: len(getattr(self, name)) for name in _columns()}
        if len(set(lengths.values())) > 1 or self.near_surface_share.shape[1:] != (len(self.distances_mm),):
            raise SettingsError(
                f"columns of {lengths} rows, {self.near_surface_share.shape} shares of the surface for "
                f"{len(self.distances_mm)} distances; expected one row per candidate, one share per distance"
            )

    def __len__(self) -> int:
        return len(self.case)

    def rows(self, which: Flags) -> Measurements:
        """Return some of the candidates."""
        return replace(self, **{name: getattr(self, name)[which] for name in _columns()})

    def of_cases(self, cases: Iterable[str]) -> Flags:
        """Mark the candidates of some cases."""
        return np.isin(self.case, sorted(cases))

    @classmethod
    def joined(cls, parts: Sequence[Measurements]) -> Measurements:
        """Return all candidates of several tables, at least one, measured at the same distances."""
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _columns()}
        return cls(**columns, distances_mm=parts[0].distances_mm)


def _columns() -> tuple[str, ...]:
    return tuple(field.name for field in fields(Measurements) if field.name != "distances_mm")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownCase:
    """A prediction whose truth is known; all arrays (Z, Y, X) on `grid`.

    Attributes:
        name: Of the case.
        tumor: What was predicted. May be empty.
        truth: What is there. May be empty.
        lungs: None if there is no mask.
        grid: Of the arrays.
    """

    name: str
    tumor: Mask
    truth: Mask
    lungs: LungMask | Mask | None
    grid: Grid


def measure_known(known: KnownCase, base: AnatomySettings, distances_mm: Sequence[float]) -> Measurements:
    """Measure the candidates of a case as the filter does, once for each rescue distance.

    Args:
        known: The case.
        base: How candidates are merged, how wide the central zone is and which lungs are plausible.
        distances_mm: The rescue distances, at least one.

    Returns:
        A row per candidate; none if nothing was predicted. A candidate is true where
        it has a voxel of truth, as in `evaluation.lesions`.

    Raises:
        GridMismatchError: An array is not of the grid's shape.
    """
    plain = replace(base, top_k="all", rank_by="volume", keep_best_if_none=False)
    runs = [
        filter_candidates(known.tumor, known.grid, known.lungs, replace(plain, rescue_distance_mm=distance))
        for distance in distances_mm
    ]
    candidates = runs[0].candidates
    shared = np.bincount(runs[0].labels[known.truth], minlength=len(candidates) + 1)[1:]
    shares = [[c.near_surface_share for c in run.candidates] for run in runs]  # NumPy reads None as NaN
    return Measurements(
        case=np.array([known.name] * len(candidates), dtype=np.str_),
        true=shared > 0,
        volume_mm3=np.array([c.volume_mm3 for c in candidates], dtype=np.float64),
        judged=np.array([c.lung_distance_mm is not None for c in candidates], dtype=np.bool_),
        central=np.array([c.central for c in candidates], dtype=np.bool_),
        lung_overlap=np.array([c.lung_overlap for c in candidates], dtype=np.float64),
        lung_distance_mm=np.array([c.lung_distance_mm for c in candidates], dtype=np.float64),
        near_surface_share=np.array(shares, dtype=np.float64).T.reshape(len(candidates), len(runs)),
        distances_mm=tuple(distances_mm),
    )


def kept_by(found: Measurements, settings: AnatomySettings) -> Flags:
    """Tell which candidates the rules keep, before any top k.

    Args:
        found: Measured at `settings.rescue_distance_mm`, among others.
        settings: What the rules ask.

    Raises:
        SettingsError: The distance was not measured.
    """
    if settings.rescue_distance_mm not in found.distances_mm:
        raise SettingsError(
            f"rescue_distance_mm is {settings.rescue_distance_mm:g}, measured were {found.distances_mm}; add it to them"
        )
    near_share = found.near_surface_share[:, found.distances_mm.index(settings.rescue_distance_mm)]
    needed = np.where(found.central, settings.min_lung_overlap_central, settings.min_lung_overlap)
    inside = found.lung_overlap >= needed - _TOLERANCE
    near = found.lung_distance_mm <= settings.rescue_distance_mm + _TOLERANCE
    near &= found.volume_mm3 >= settings.rescue_min_volume_mm3 - _TOLERANCE
    near &= ~found.central | (near_share >= settings.rescue_near_surface_share_central - _TOLERANCE)
    return (found.volume_mm3 >= settings.min_volume_mm3 - _TOLERANCE) & (~found.judged | inside | near)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """The values that each threshold may take, all combinations of which are tried.

    Combinations that ask for less overlap in the central zone than elsewhere are left out.

    Raises:
        SettingsError: A threshold has no value, one twice, or one out of its range; or no combination is left.
    """

    min_volume_mm3: tuple[float, ...] = (0.0, 30.0, 50.0, 100.0, 150.0, 200.0, 300.0, 500.0, 750.0, 1000.0)
    min_lung_overlap: tuple[float, ...] = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
    min_lung_overlap_central: tuple[float, ...] = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
    rescue_distance_mm: tuple[float, ...] = (0.0, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0)
    rescue_near_surface_share_central: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

    def __post_init__(self) -> None:
        for name in TUNED:
            values: tuple[float, ...] = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise SettingsError(f"{name} may be {values}; expected at least one value, each once")
            for value in values:
                replace(AnatomySettings(), **{name: value})
            object.__setattr__(self, name, tuple(sorted(float(value) for value in values)))
        if self.min_lung_overlap_central[-1] < self.min_lung_overlap[0]:
            raise SettingsError(
                "no min_lung_overlap_central is as high as a min_lung_overlap; the central zone asks for more"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """How many values each threshold may take, in the order of `TUNED`."""
        return tuple(len(getattr(self, name)) for name in TUNED)

    def settings(self, place: Sequence[int], base: AnatomySettings) -> AnatomySettings:
        """Return the settings at a place of the grid; what is not tuned is `base`'s."""
        values = {name: getattr(self, name)[index] for name, index in zip(TUNED, place, strict=True)}
        return replace(base, **values)

    def allowed(self) -> NDArray[np.bool_]:
        """Mark the places where the central zone asks for no less overlap than the rest, in `shape`."""
        elsewhere = np.array(self.min_lung_overlap)[None, :, None, None, None]
        central = np.array(self.min_lung_overlap_central)[None, None, :, None, None]
        return np.broadcast_to(central >= elsewhere - _TOLERANCE, self.shape)

    def strictness(self) -> NDArray[np.float64]:
        """Return how far each place lies from the one that keeps most, in `shape`: 0 there, at most 5."""
        total = np.zeros(self.shape)
        for axis, (name, count) in enumerate(zip(TUNED, self.shape, strict=True)):
            steps = np.arange(count) / max(1, count - 1)
            # A rescue that reaches farther keeps more; every other threshold keeps less where it is higher.
            along = steps[::-1] if name == "rescue_distance_mm" else steps
            total += along.reshape([-1 if other == axis else 1 for other in range(len(TUNED))])
        return np.round(total, 9)


def best_settings(found: Measurements, space: SearchSpace, base: AnatomySettings) -> AnatomySettings:
    """Find the settings that lose the fewest true candidates, then keep the fewest false ones.

    All combinations are tried. Of those that come out equal the most cautious is
    taken: the one nearest to keeping everything.

    Args:
        found: Measured at all distances of `space`; at least one candidate is true.
        space: What is tried.
        base: What is not tuned. Its top k is not applied.

    Raises:
        SettingsError: No candidate is true: without one, dropping all would seem best.
    """
    if not found.true.any():
        raise SettingsError(
            f"none of {len(found)} candidates meets a true tumor; thresholds are tuned on predictions that find some"
        )
    kept_true = kept_counts(found.rows(found.true), space, base)
    kept_false = kept_counts(found.rows(~found.true), space, base)
    best = space.allowed()
    best = best & (kept_true == kept_true[best].max())
    best = best & (kept_false == kept_false[best].min())
    place = int(np.argmin(np.where(best, space.strictness(), np.inf)))
    return space.settings([int(index) for index in np.unravel_index(place, space.shape)], base)


def kept_counts(found: Measurements, space: SearchSpace, base: AnatomySettings) -> NDArray[np.int64]:
    """Count the candidates that each combination of thresholds keeps.

    Returns:
        In the shape of `space`.
    """
    counts = np.zeros(space.shape, dtype=np.int64)
    for begin in range(0, len(found), _BLOCK):
        block = np.zeros(len(found), dtype=np.bool_)
        block[begin : begin + _BLOCK] = True
        _add_block(counts, found.rows(block), space, base)
    return counts


def _add_block(counts: NDArray[np.int64], found: Measurements, space: SearchSpace, base: AnatomySettings) -> None:
    """Add what is kept of few candidates: a candidate depends on two thresholds elsewhere, on three in the middle."""
    large = _reaches(found.volume_mm3, space.min_volume_mm3)
    counts += large[:, ~found.judged].sum(axis=1)[:, None, None, None, None]
    near = found.lung_distance_mm <= np.array(space.rescue_distance_mm)[:, None] + _TOLERANCE
    near &= found.volume_mm3 >= base.rescue_min_volume_mm3 - _TOLERANCE

    sided = found.judged & ~found.central
    inside = _reaches(found.lung_overlap[sided], space.min_lung_overlap)
    elsewhere = _count(large[:, sided], inside[:, None] | near[None, :, sided])
    counts += elsewhere[:, :, None, :, None]

    middle = found.judged & found.central
    columns = [found.distances_mm.index(distance) for distance in space.rescue_distance_mm]
    shares = found.near_surface_share[middle][:, columns].T
    enough = shares[:, None] >= np.array(space.rescue_near_surface_share_central)[None, :, None] - _TOLERANCE
    rescued = near[:, None, middle] & enough
    inside = _reaches(found.lung_overlap[middle], space.min_lung_overlap_central)
    counts += _count(large[:, middle], inside[:, None, None] | rescued[None])[:, None]


def _reaches(values: Numbers, thresholds: Sequence[float]) -> NDArray[np.bool_]:
    return values >= np.array(thresholds)[:, None] - _TOLERANCE


def _count(large: NDArray[np.bool_], kept: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count the candidates, which the last axis is of, that pass a minimum volume and a place of `kept`."""
    both = np.tensordot(large.astype(np.float32), kept.astype(np.float32), axes=(1, kept.ndim - 1))
    return np.rint(both).astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningScore:
    """What settings lose and what they drop.

    Attributes:
        true: Candidates that meet a tumor.
        true_lost: Those of them that are dropped.
        false: Candidates that meet none.
        false_dropped: Those of them that are dropped.
        patients: Cases with a true candidate.
        patients_losing: Those of them that lose at least one.
    """

    true: int
    true_lost: int
    false: int
    false_dropped: int
    patients: int
    patients_losing: int

    @property
    def losing_at_most(self) -> float:
        """The share of patients that may lose a tumor, with 95 % confidence (Clopper and Pearson, one-sided)."""
        if self.patients_losing == self.patients:
            return 1.0
        ahead, behind = self.patients_losing + 1, self.patients - self.patients_losing
        return float(beta.ppf(_CONFIDENCE, ahead, behind))


def score(found: Measurements, kept: Flags) -> TuningScore:
    """Count what is lost and what is dropped where `kept` marks the candidates that stay."""
    lost = found.true & ~kept
    return TuningScore(
        true=int(found.true.sum()),
        true_lost=int(lost.sum()),
        false=int((~found.true).sum()),
        false_dropped=int((~found.true & ~kept).sum()),
        patients=len(set(found.case[found.true].tolist())),
        patients_losing=len(set(found.case[lost].tolist())),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedFold:
    """Settings found without some cases.

    Attributes:
        left_out: The cases they were not found on.
        settings: What was found.
    """

    left_out: tuple[str, ...]
    settings: AnatomySettings


def cross_validate(
    found: Measurements, left_out: Sequence[Sequence[str]], space: SearchSpace, base: AnatomySettings
) -> tuple[tuple[TunedFold, ...], Flags]:
    """Judge every case by settings that were found without it.

    Args:
        found: All candidates.
        left_out: For each fold the cases it leaves out; each case with candidates in exactly one fold.
        space: What is tried.
        base: What is not tuned.

    Returns:
        The folds, and which candidates are kept by the settings of the fold that left them out.

    Raises:
        SettingsError: A case is in no fold or in several, or a fold has no true candidate to tune on.
    """
    named = [case for fold in left_out for case in fold]
    missing = sorted(set(found.case.tolist()) - set(named))
    if missing or len(set(named)) < len(named):
        what = f"{missing[0]} in none" if missing else "a case in several"
        raise SettingsError(f"folds leave {what} out; expected each case to be left out once")
    kept = np.zeros(len(found), dtype=np.bool_)
    folds: list[TunedFold] = []
    for cases in left_out:
        out = found.of_cases(cases)
        settings = best_settings(found.rows(~out), space, base)
        kept[out] = kept_by(found.rows(out), settings)
        folds.append(TunedFold(left_out=tuple(sorted(cases)), settings=settings))
    return tuple(folds), kept
