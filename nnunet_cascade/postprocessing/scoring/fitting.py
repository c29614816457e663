"""Fit a score to candidates of scans that the networks had not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from nnunet_cascade.postprocessing.candidates import Candidate
from nnunet_cascade.postprocessing.scoring.evidence import values_of
from nnunet_cascade.postprocessing.scoring.score import BEFORE_STAGE2, FITS, MIN_CANDIDATES, CandidateScore, ScoreFit

FEWEST_SCANS = _PARTS = 5
"""Each of the five parts has one at least."""
_INVERSE_PENALTY = 1.0
_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A candidate with the truth about it.

    Attributes:
        scan: Name of its scan.
        candidate: As the rules and stage 2 measured it.
        candidate_is_tumor: Whether what stage 1 drew shares a voxel with a true lesion.
        finding_is_tumor: Whether what stage 2 drew for it does.
    """

    scan: str
    candidate: Candidate
    candidate_is_tumor: bool
    finding_is_tumor: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedScore:
    """A score, and for each scan the one that was fitted without it.

    Attributes:
        score: Fitted to all candidates.
        held_out: By scan: fitted to those of other scans, with the same operating points.
    """

    score: CandidateScore
    held_out: Mapping[str, CandidateScore]


def fit_score(
    examples: Sequence[Example], scans: Sequence[str], *, false_positives_per_scan: float
) -> FittedScore | str:
    """Fit a score, and choose where to cut it on scores of scans that each fit had not seen.

    The scans are parted into five; each part is scored by a fit to the others. The operating point is the lowest
    score at which these scores let through no more false findings than allowed.

    Args:
        examples: Candidates of predictions out of fold.
        scans: All scans, also those without candidates.
        false_positives_per_scan: Allowed in the mean.

    Returns:
        The score; or, where there are too few candidates, why there is none, in words.

    Source:
        docs/decisions/0035-candidate-score.md.
    """
    found = [each for each in examples if _has_finding(each)]
    true, false = (sum(each.finding_is_tumor is wanted for each in found) for wanted in (True, False))
    if min(true, false) < MIN_CANDIDATES:
        return (
            f"{true} true and {false} false candidates were found out of fold; a score needs {MIN_CANDIDATES} of each"
        )
    parts = _parts(found, scans)
    if parts is None:
        return f"{true} true and {false} false candidates lie in too few scans to leave some of them out"
    allowed = int(false_positives_per_scan * len(scans) + 1e-9)
    made = partial(
        CandidateScore,
        true_candidates=true,
        false_candidates=false,
        scans=len(scans),
        false_positives_per_scan=false_positives_per_scan,
    )
    whole: dict[str, ScoreFit] = {}
    without: dict[int, dict[str, ScoreFit]] = {part: {} for part in sorted(set(parts.values()))}
    for name in FITS:
        usable = _usable(name, examples)
        fits = {part: _fitted(name, [e for e in usable if parts[e.scan] != part]) for part in without}
        of_all = _fitted(name, usable)
        known = {part: fit for part, fit in fits.items() if fit is not None}
        if of_all is None or len(known) < len(without):
            continue
        cut = _operating_point([(known[parts[e.scan]], e) for e in usable], name, allowed)
        whole[name] = replace(of_all, operating_point=cut)
        for part, fit in known.items():
            without[part][name] = replace(fit, operating_point=cut)
    return FittedScore(
        score=made(fits=whole),
        held_out={scan: made(fits=without[parts[scan]]) for scan in scans},
    )


def _has_finding(example: Example) -> bool:
    finding = example.candidate.stage2
    return finding is not None and not finding.is_empty


def _is_tumor(name: str, example: Example) -> bool:
    return example.candidate_is_tumor if name == BEFORE_STAGE2 else example.finding_is_tumor


def _usable(name: str, examples: Sequence[Example]) -> list[Example]:
    """Return the examples that have all that a fit weighs; after stage 2, those that it drew something for."""
    after = name != BEFORE_STAGE2
    return [
        each
        for each in examples
        if values_of(each.candidate, FITS[name]) is not None and (_has_finding(each) or not after)
    ]


def _parts(found: Sequence[Example], scans: Sequence[str]) -> dict[str, int] | None:
    """Part the scans so that true and false candidates are spread; None where some part would leave one kind alone."""
    labels = np.array([each.finding_is_tumor for each in found])
    groups = np.array([each.scan for each in found])
    if len(set(groups.tolist())) < _PARTS:
        return None
    splitter = StratifiedGroupKFold(n_splits=_PARTS, shuffle=True, random_state=_SEED)
    parts = {scan: number % _PARTS for number, scan in enumerate(sorted(scans))}  # of those without a finding
    for number, (rest, left_out) in enumerate(splitter.split(labels, labels, groups)):
        if len(set(labels[rest].tolist())) < 2:
            return None
        parts |= dict.fromkeys(groups[left_out].tolist(), number)
    return parts


def _fitted(name: str, examples: Sequence[Example]) -> ScoreFit | None:
    """Fit one regression; None where all examples are of one kind, or there is none."""
    labels = np.array([_is_tumor(name, each) for each in examples])
    if len(set(labels.tolist())) < 2:
        return None
    values: NDArray[np.float64] = np.array([values_of(each.candidate, FITS[name]) for each in examples])
    means, spreads = values.mean(axis=0), values.std(axis=0)
    spreads = np.where(spreads > 1e-9, spreads, 1.0)
    model: Any = LogisticRegression(C=_INVERSE_PENALTY, max_iter=1000)
    model.fit((values - means) / spreads, labels)
    return ScoreFit(
        features=FITS[name],
        means=tuple(means.tolist()),
        spreads=tuple(spreads.tolist()),
        coefficients=tuple(model.coef_[0].tolist()),
        intercept=float(model.intercept_[0]),
        operating_point=0.5,
    )


def _operating_point(scored: Sequence[tuple[ScoreFit, Example]], name: str, allowed: int) -> float:
    """Return the lowest score at which no more false candidates than allowed pass; ties are let through together.

    It lies half-way between the score that must not pass and the next one above it.
    """
    scores = [(fit.score(example.candidate) or 0.0, _is_tumor(name, example)) for fit, example in scored]
    false = sorted((score for score, is_tumor in scores if not is_tumor), reverse=True)
    if len(false) <= allowed:
        return 0.0
    barred = false[allowed]
    above = min((score for score, _ in scores if score > barred), default=1.0)
    return (barred + above) / 2
