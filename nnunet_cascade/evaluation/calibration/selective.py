"""Whether the cases that look uncertain are the bad ones: risk against coverage, and review of a part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation.statistics.bootstrap import Interval, Resampling
from nnunet_cascade.evaluation.statistics.replicates import RESAMPLING, Values, percentile_interval

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
        fraction: caught / worst.
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


def aurc(risks: Values, uncertainties: Values) -> float:
    """Measure the area under the risk–coverage curve.

    Cases are kept from the least uncertain on; for each number kept, from 1 to n,
    the mean risk of those kept is taken; the mean of these is the area. Cases that tie stand
    in random order, and the area is its expectation: each counts with the mean risk
    of those it ties with.

    Args:
        risks: Of each case, finite, such as 1 − Dice.
        uncertainties: Of the same cases; infinite is allowed, NaN is not.

    Returns:
        The risk itself for one case.

    Source:
        Geifman, Uziel and El-Yaniv, ICLR 2019, arXiv:1805.08206, with confidence −uncertainty.
    """
    kept = np.arange(1, risks.size + 1)
    return float(np.mean(np.cumsum(_expected(risks, uncertainties)) / kept))


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
    dices: Sequence[float], uncertainties: Sequence[float], *, resampling: Resampling = RESAMPLING
) -> tuple[ReviewPoint, ...]:
    """Tell which fraction of the worst cases is caught when the x % most uncertain are reviewed.

    The worst cases are the quarter with the lowest Dice, rounded up, and what ties with its best.

    Args:
        dices: Of each case; NaN if both masks are empty: left out.
        uncertainties: A summary per case; NaN is the most uncertain.
        resampling: How intervals are drawn.

    Returns:
        One point for each of `REVIEWED_SHARES`; none if no case has a Dice.

    Raises:
        SettingsError: The lengths differ.
    """
    risks, found, _ = _prepared(dices, uncertainties)
    if risks.size == 0:
        return ()
    counts = [math.ceil(share * risks.size - _TOLERANCE) for share in REVIEWED_SHARES]
    worst = _worst(risks)
    caught = _caught(worst, found, counts)
    total = int(worst.sum())
    replicates = np.array(
        [_fractions(_worst(risks[drawn]), found[drawn], counts) for drawn in _drawn(risks.size, resampling)]
    )
    return tuple(
        ReviewPoint(
            share=share,
            reviewed=count,
            caught=float(caught[at]),
            worst=total,
            fraction=float(caught[at]) / total,
            random_fraction=count / risks.size,
            best_fraction=min(1.0, count / total),
            interval=percentile_interval(replicates[:, at], cases=risks.size, resampling=resampling),
        )
        for at, (share, count) in enumerate(zip(REVIEWED_SHARES, counts, strict=True))
    )


def _prepared(dices: Sequence[float], uncertainties: Sequence[float]) -> tuple[Values, Values, int]:
    """Return risks and uncertainties of the cases with a Dice, and how many of them had no uncertainty."""
    if len(dices) != len(uncertainties):
        raise SettingsError(f"{len(dices)} Dices for {len(uncertainties)} uncertainties; expected one of each per case")
    found, doubt = np.asarray(dices, dtype=np.float64), np.asarray(uncertainties, dtype=np.float64)
    known = ~np.isnan(found)
    doubt = doubt[known]
    return 1 - found[known], np.where(np.isnan(doubt), np.inf, doubt), int(np.isnan(doubt).sum())


def _expected(values: Values, keys: Values) -> Values:
    """Return values in rising order of keys, each the mean of those it ties with."""
    _, group, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    means = np.bincount(group, values) / sizes
    return np.repeat(means, sizes)


def _drawn(cases: int, resampling: Resampling) -> NDArray[np.intp]:
    return np.random.default_rng(resampling.seed).integers(0, cases, (resampling.resamples, cases))


def _worst(risks: Values) -> Values:
    count = math.ceil(_WORST_SHARE * risks.size)
    return (risks >= np.sort(risks)[-count]).astype(np.float64)


def _caught(worst: Values, doubt: Values, counts: Sequence[int]) -> Values:
    found = np.concatenate([[0.0], np.cumsum(_expected(worst, -doubt))])
    return found[list(counts)]


def _fractions(worst: Values, doubt: Values, counts: Sequence[int]) -> Values:
    return _caught(worst, doubt, counts) / worst.sum()
