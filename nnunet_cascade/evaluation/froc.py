"""FROC: the share of lesions found against the false positives per scan, over all thresholds of a score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation.findings import ScoredFindings
from nnunet_cascade.evaluation.statistics.bootstrap import Estimate, Resampling
from nnunet_cascade.evaluation.statistics.replicates import Values, case_weights, percentile_interval
from nnunet_cascade.evaluation.statistics.samples import few_cases_note, is_constant

RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per scan at which the sensitivity is read, as in LUNA16."""
RATE_NAMES = ("1/8", "1/4", "1/2", "1", "2", "4", "8")
FROC_DEFINITION = (
    "sensitivity at a rate: the highest share of all lesions that are found at a threshold with at most so many false "
    "positives per scan, without interpolation; scans without lesions count as scans; mean: over the seven rates, as "
    "in LUNA16 (Setio et al. 2017, https://doi.org/10.1016/j.media.2017.06.015)"
)
FINDING_DEFINITION = (
    "a finding is a 26-connected component of the proposals with the largest score of its candidates; a lesion, a "
    "26-connected component of the ground truth, is found if a finding shares a voxel with it; a finding that touches "
    "no lesion is a false positive; several findings on one lesion count once"
)
NO_LESIONS = "no scan has a lesion: the sensitivity is undefined"
_ALL_ALIKE = "all resamples are the same: no interval"
_NUMBERS_AT_A_TIME = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrocCurve:
    """All operating points, m of them, one for each different score, the largest first.

    Attributes:
        thresholds: (m,), findings with this score or a larger one count.
        false_positives: (m,), per scan; they rise.
        sensitivities: (m,), share of the lesions; they rise. NaN without lesions.
    """

    thresholds: Values
    false_positives: Values
    sensitivities: Values


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Froc:
    """The FROC of one system on some scans.

    Attributes:
        scans: How many, those without lesions included.
        scans_with_lesions: Of these.
        lesions: In all scans.
        lesions_found: By any finding, whatever its score.
        findings: In all scans.
        false_positives: Those of them that touch no lesion.
        sensitivities: At each of `RATES`; NaN without lesions. `n` counts the scans with lesions.
        mean: Of these seven.
        curve: All operating points.
    """

    scans: int
    scans_with_lesions: int
    lesions: int
    lesions_found: int
    findings: int
    false_positives: int
    sensitivities: tuple[Estimate, ...]
    mean: Estimate
    curve: FrocCurve

    @property
    def rates(self) -> tuple[float, ...]:
        """False positives per scan of `sensitivities`."""
        return RATES


@dataclass(frozen=True, slots=True, kw_only=True)
class FrocDifference:
    """One system's sensitivities less another's on the same scans.

    Attributes:
        sensitivities: Differences at each of `RATES`; NaN without lesions.
        mean: Difference of the means.
    """

    sensitivities: tuple[Estimate, ...]
    mean: Estimate


def froc_curve(scans: Sequence[ScoredFindings]) -> FrocCurve:
    """Return all operating points of some scans. Findings with the same score count together.

    Args:
        scans: At least one. Without findings there is no point.

    Raises:
        SettingsError: There is no scan.
    """
    pooled = _pool(scans)
    thresholds = np.unique(np.concatenate([scan.scores for scan in scans]))[::-1]
    sensitivities = _counted_from(pooled.lesion_scores, thresholds) / (pooled.lesion_scores.size or math.nan)
    false_positives = _counted_from(pooled.false_scores, thresholds) / len(scans)
    return FrocCurve(thresholds=thresholds, false_positives=false_positives, sensitivities=sensitivities)


def froc_of(scans: Sequence[ScoredFindings], resampling: Resampling | None = None) -> Froc:
    """Return the sensitivities at seven rates of false positives and their mean, with bootstrap intervals.

    The sensitivity at a rate is the highest of all operating points with at most this many
    false positives per scan; nothing is interpolated, so it is 0 if the first finding is one too many.

    Args:
        scans: At least one; those without lesions or findings count as scans.
        resampling: How scans are drawn for the intervals, which are percentile intervals; None draws as `Resampling()`.

    Returns:
        The FROC. A sensitivity is NaN without lesions, and 0 without findings. There is no interval below 3 scans
        with lesions and where all draws are the same. Draws without a lesion are left out and counted.

    Raises:
        SettingsError: There is no scan.

    Source:
        Setio et al., Validation, comparison, and combination of algorithms for automatic
        detection of pulmonary nodules in computed tomography images: The LUNA16 challenge,
        Med Image Anal 42, 2017, https://doi.org/10.1016/j.media.2017.06.015.
    """
    resampling = resampling or Resampling()
    pooled = _pool(scans)
    figures = _estimates(_figures(pooled, _each_once(pooled)), _replicates(pooled, resampling), pooled, resampling)
    return Froc(
        scans=pooled.scans,
        scans_with_lesions=pooled.scans_with_lesions,
        lesions=pooled.lesion_scores.size,
        lesions_found=int(pooled.reached[-1]),
        findings=sum(scan.scores.size for scan in scans),
        false_positives=pooled.false_scores.size,
        sensitivities=figures[:-1],
        mean=figures[-1],
        curve=froc_curve(scans),
    )


def compare_froc(
    first: Sequence[ScoredFindings], second: Sequence[ScoredFindings], resampling: Resampling | None = None
) -> FrocDifference:
    """Return how much higher the sensitivities of one system are than those of another on the same scans.

    Args:
        first: At least one scan.
        second: The same scans in the same order.
        resampling: As for `froc_of`; each draw takes the same scans of both.

    Returns:
        First less second; undefined and without intervals as `froc_of`.

    Raises:
        SettingsError: There is no scan, or the numbers of scans, or of lesions in a scan, differ.
    """
    resampling = resampling or Resampling()
    if [scan.lesions for scan in first] != [scan.lesions for scan in second]:
        raise SettingsError(
            f"found {len(first)} and {len(second)} scans with lesions that differ; expected the same scans in one order"
        )
    one, other = _pool(first), _pool(second)
    value = _figures(one, _each_once(one)) - _figures(other, _each_once(other))
    drawn = _replicates(one, resampling) - _replicates(other, resampling)
    figures = _estimates(value, drawn, one, resampling)
    return FrocDifference(sensitivities=figures[:-1], mean=figures[-1])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pooled:
    """Lesions and false positives of all scans, each sorted by score, the largest first.

    Attributes:
        scans: How many.
        scans_with_lesions: Of these.
        lesion_scores: (l,), as `ScoredFindings.lesion_scores`.
        lesion_scans: (l,), the scan of each.
        false_scores: (f,), of false positives.
        false_scans: (f,), the scan of each.
        reached: (f + 1,), how many lesions have a larger score than each false positive, and have a finding at all.
    """

    scans: int
    scans_with_lesions: int
    lesion_scores: Values
    lesion_scans: NDArray[np.int64]
    false_scores: Values
    false_scans: NDArray[np.int64]
    reached: NDArray[np.int64]


def _pool(scans: Sequence[ScoredFindings]) -> _Pooled:
    if not scans:
        raise SettingsError("found no scan; a FROC needs at least one")
    lesion_scores, lesion_scans = _sorted([scan.lesion_scores for scan in scans])
    false_scores, false_scans = _sorted([scan.false_positive_scores for scan in scans])
    limits = np.append(false_scores, -np.inf)
    return _Pooled(
        scans=len(scans),
        scans_with_lesions=sum(scan.lesions > 0 for scan in scans),
        lesion_scores=lesion_scores,
        lesion_scans=lesion_scans,
        false_scores=false_scores,
        false_scans=false_scans,
        reached=lesion_scores.size - np.searchsorted(lesion_scores[::-1], limits, side="right"),
    )


def _sorted(by_scan: Sequence[Values]) -> tuple[Values, NDArray[np.int64]]:
    """Return the numbers of all scans, the largest first, and the scan of each."""
    values = np.concatenate(by_scan)
    scans = np.repeat(np.arange(len(by_scan)), [each.size for each in by_scan])
    order = np.argsort(-values, kind="stable")
    return values[order], scans[order]


def _counted_from(descending: Values, thresholds: Values) -> Values:
    """Return how many numbers are at least as large as each threshold."""
    return (descending.size - np.searchsorted(descending[::-1], thresholds, side="left")).astype(np.float64)


def _each_once(pooled: _Pooled) -> Values:
    return np.ones((1, pooled.scans))


def _figures(pooled: _Pooled, weights: Values) -> Values:
    """Return (draws, 8), the sensitivities and their mean, from how often each draw has each scan (draws, scans).

    A threshold is as low as it may be where the next false positive is one too many: it
    finds the lesions with a larger score than this one, whose weights are in the order of scores.
    """
    false = weights[:, pooled.false_scans].cumsum(axis=1)
    within = np.stack([np.count_nonzero(false <= rate * pooled.scans, axis=1) for rate in RATES], axis=1)
    lesions = np.pad(weights[:, pooled.lesion_scans].cumsum(axis=1), ((0, 0), (1, 0)))
    with np.errstate(invalid="ignore"):  # a draw without lesions is undefined
        found = np.take_along_axis(lesions, pooled.reached[within], axis=1) / lesions[:, -1:]
    return np.concatenate([found, found.mean(axis=1, keepdims=True)], axis=1)


def _replicates(pooled: _Pooled, resampling: Resampling) -> Values:
    """Return the figures (resamples, 8) of every draw of scans."""
    weights = case_weights(pooled.scans, resampling)
    at_a_time = max(1, _NUMBERS_AT_A_TIME // (pooled.false_scores.size + pooled.lesion_scores.size + 1))
    parts = [_figures(pooled, weights[start : start + at_a_time]) for start in range(0, len(weights), at_a_time)]
    return np.concatenate(parts)


def _estimates(figures: Values, replicates: Values, pooled: _Pooled, resampling: Resampling) -> tuple[Estimate, ...]:
    return tuple(
        _estimate(float(value), drawn, pooled.scans_with_lesions, resampling)
        for value, drawn in zip(figures[0], replicates.T, strict=True)
    )


def _estimate(value: float, drawn: Values, cases: int, resampling: Resampling) -> Estimate:
    if math.isnan(value):
        return Estimate(value=value, n=cases, note=NO_LESIONS)
    defined = drawn[~np.isnan(drawn)]
    undefined = drawn.size - defined.size
    if is_constant(defined):
        return Estimate(value=value, n=cases, undefined_resamples=undefined, note=_ALL_ALIKE)
    notes = [few_cases_note(cases)]
    notes += [f"no lesion in {undefined} of {drawn.size} resamples, which are left out"] if undefined else []
    return Estimate(
        value=value,
        n=cases,
        percentile=percentile_interval(defined, cases=cases, resampling=resampling),
        undefined_resamples=undefined,
        note="; ".join(note for note in notes if note),
    )
