"""Whether the cases that look uncertain are the bad ones: risk against coverage, and review of a part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation.calibration.replicates import RESAMPLING, Values, percentile_interval
from nnunet_cascade.evaluation.statistics.bootstrap import Interval, Resampling

REVIEWED_SHARES = (0.1, 0.2, 0.3)
_WORST_SHARE = 0.25
_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskCoverage:
    """How well uncertainty orders cases by risk, 1 − Dice.

    Attributes:
        cases: With a defined Dice.
        undefined_dice: Cases left out, both of whose masks are empty.
        undefined_uncertainty: Cases counted as the most uncertain, for they have none.
        aurc: Mean, over how many of the least uncertain cases are kept, of their mean risk.
        best_aurc: That of the order by risk itself.
        random_aurc: Expected of a random order, the mean risk.
        eaurc: aurc − best_aurc, at least 0.
        gain: random_aurc − aurc; above 0 uncertainty is worth something.
        aurc_interval: Over cases; None for fewer than 3.
        eaurc_interval: Over cases; None for fewer than 3.
        gain_interval: Over cases; None for fewer than 3.
    """

    cases: int
    undefined_dice: int
    undefined_uncertainty: int
    aurc: float
    best_aurc: float
    random_aurc: float
    eaurc: float
    gain: float
    aurc_interval: Interval | None
    eaurc_interval: Interval | None
    gain_interval: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewPoint:
    """What is caught when the most uncertain cases are looked at.

    Attributes:
        share: Of the cases that is reviewed.
        reviewed: Cases, the share of n rounded up.
        caught: Worst cases among them; not whole where cases tie, then expected over orders of the tied.
        worst: Worst cases in all.
        fraction: caught / worst; NaN if there is no worst case.
        random_fraction: Expected of cases drawn at random, reviewed / n.
        best_fraction: The most that this number of reviews can catch.
        interval: Of `fraction`, over cases, the worst of each draw found anew; None for fewer than 3.
    """

    share: float
    reviewed: int
    caught: float
    worst: int
    fraction: float
    random_fraction: float
    best_fraction: float
    interval: Interval | None


def aurc(risks: Sequence[float] | Values, uncertainties: Sequence[float] | Values) -> float:
    """Measure the area under the risk–coverage curve.

    Cases are kept from the least uncertain on; for each number kept, from 1 to n,
    the mean risk of those kept is taken; the mean of these is the area. Cases that tie stand
    in random order, and the area is its expectation: each counts with the mean risk
    of those it ties with.

    Args:
        risks: Of each case, finite, such as 1 − Dice.
        uncertainties: Of the same cases; infinite is allowed, NaN is not.

    Returns:
        The risk itself for one case; NaN for none.

    Raises:
        SettingsError: The lengths differ, or a value is NaN.

    Source:
        Geifman, Uziel and El-Yaniv, ICLR 2019, arXiv:1805.08206, with confidence −uncertainty.
    """
    found, order = _checked(risks, uncertainties)
    if found.size == 0:
        return math.nan
    kept = np.arange(1, found.size + 1)
    return float(np.mean(np.cumsum(_expected(found, order)) / kept))


def risk_coverage(
    dices: Sequence[float], uncertainties: Sequence[float], resampling: Resampling = RESAMPLING
) -> RiskCoverage:
    """Measure AURC and E-AURC of cases, next to the best and a random order.

    Args:
        dices: Of each case; NaN if both masks are empty: left out and counted.
        uncertainties: A summary per case; NaN if there is none, as of an empty result,
            which nobody would trust: the most uncertain, counted.
        resampling: How intervals are drawn.

    Raises:
        SettingsError: The lengths differ.
    """
    risks, found, undefined = _prepared(dices, uncertainties)

    def areas(kept: NDArray[np.intp] | slice) -> tuple[float, float, float]:
        own, best = aurc(risks[kept], found[kept]), aurc(risks[kept], risks[kept])
        return own, own - best, float(risks[kept].mean()) - own

    if risks.size == 0:
        own, excess, gain, replicates = math.nan, math.nan, math.nan, np.full((1, 3), math.nan)
    else:
        own, excess, gain = areas(slice(None))
        replicates = np.array([areas(drawn) for drawn in _drawn(risks.size, resampling)])
    ends = [percentile_interval(column, cases=risks.size, resampling=resampling) for column in replicates.T]
    return RiskCoverage(
        cases=risks.size,
        undefined_dice=len(dices) - risks.size,
        undefined_uncertainty=undefined,
        aurc=own,
        best_aurc=own - excess,
        random_aurc=own + gain,
        eaurc=excess,
        gain=gain,
        aurc_interval=ends[0],
        eaurc_interval=ends[1],
        gain_interval=ends[2],
    )


def review_curve(
    dices: Sequence[float],
    uncertainties: Sequence[float],
    *,
    shares: Sequence[float] = REVIEWED_SHARES,
    worst_below: float | None = None,
    resampling: Resampling = RESAMPLING,
) -> tuple[ReviewPoint, ...]:
    """Tell which fraction of the worst cases is caught when the x % most uncertain are reviewed.

    Args:
        dices: Of each case; NaN if both masks are empty: left out.
        uncertainties: A summary per case; NaN is the most uncertain.
        shares: Of the cases, each reviewed, 0 … 1.
        worst_below: Cases with a smaller Dice are the worst; None takes the lowest quarter,
            a quarter of n rounded up, and what ties with its best.
        resampling: How intervals are drawn.

    Returns:
        One point per share; none if no case has a Dice.

    Raises:
        SettingsError: The lengths differ, or a share is out of range.
    """
    bad = [share for share in shares if not 0 <= share <= 1]
    if bad:
        raise SettingsError(f"a share of {bad[0]} of the cases to review; expected 0 … 1")
    risks, found, _ = _prepared(dices, uncertainties)
    if risks.size == 0:
        return ()
    counts = [math.ceil(share * risks.size - _TOLERANCE) for share in shares]
    worst = _worst(risks, worst_below)
    caught = _caught(worst, found, counts)
    replicates = np.array(
        [
            _fractions(_worst(risks[drawn], worst_below), found[drawn], counts)
            for drawn in _drawn(risks.size, resampling)
        ]
    )
    total = int(worst.sum())
    return tuple(
        ReviewPoint(
            share=share,
            reviewed=count,
            caught=float(caught[at]),
            worst=total,
            fraction=float(caught[at]) / total if total else math.nan,
            random_fraction=count / risks.size,
            best_fraction=min(1.0, count / total) if total else math.nan,
            interval=percentile_interval(replicates[:, at], cases=risks.size, resampling=resampling),
        )
        for at, (share, count) in enumerate(zip(shares, counts, strict=True))
    )


def _prepared(dices: Sequence[float], uncertainties: Sequence[float]) -> tuple[Values, Values, int]:
    """Return risks and uncertainties of the cases with a Dice, and how many of them had no uncertainty."""
    if len(dices) != len(uncertainties):
        raise SettingsError(f"{len(dices)} Dices for {len(uncertainties)} uncertainties; expected one of each per case")
    found, doubt = np.asarray(dices, dtype=np.float64), np.asarray(uncertainties, dtype=np.float64)
    known = ~np.isnan(found)
    doubt = doubt[known]
    return 1 - found[known], np.where(np.isnan(doubt), np.inf, doubt), int(np.isnan(doubt).sum())


def _checked(risks: Sequence[float] | Values, uncertainties: Sequence[float] | Values) -> tuple[Values, Values]:
    found, doubt = np.asarray(risks, dtype=np.float64), np.asarray(uncertainties, dtype=np.float64)
    if found.shape != doubt.shape or found.ndim != 1 or np.isnan(found).any() or np.isnan(doubt).any():
        raise SettingsError(
            f"found risks of shape {found.shape} and uncertainties of shape {doubt.shape}; "
            "expected as many of each, none of them NaN: leave out what has no risk"
        )
    return found, doubt


def _expected(values: Values, keys: Values) -> Values:
    """Return values in rising order of keys, each the mean of those it ties with."""
    _, group, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    means = np.bincount(group, values) / sizes
    return np.repeat(means, sizes)


def _drawn(cases: int, resampling: Resampling) -> NDArray[np.intp]:
    return np.random.default_rng(resampling.seed).integers(0, cases, (resampling.resamples, cases))


def _worst(risks: Values, worst_below: float | None) -> Values:
    if worst_below is not None:
        return (risks > 1 - worst_below).astype(np.float64)
    count = math.ceil(_WORST_SHARE * risks.size)
    return (risks >= np.sort(risks)[-count]).astype(np.float64)


def _caught(worst: Values, doubt: Values, counts: Sequence[int]) -> Values:
    found = np.concatenate([[0.0], np.cumsum(_expected(worst, -doubt))])
    return found[list(counts)]


def _fractions(worst: Values, doubt: Values, counts: Sequence[int]) -> Values:
    total = worst.sum()
    return _caught(worst, doubt, counts) / total if total else np.full(len(counts), math.nan)
