"""A stored score: weights of what speaks for or against a candidate, and from which score on one is kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from nnunet_cascade.postprocessing.candidates import Candidate, Verdict
from nnunet_cascade.postprocessing.scoring.evidence import FEATURES, features_from, values_of
from nnunet_cascade.settings.serialization import from_json, require

BEFORE_STAGE2 = "before stage 2"
FITS: Mapping[str, tuple[str, ...]] = {
    "everything": features_from("mask", "lungs", "stage1", "stage2", "samples"),
    "no samples": features_from("mask", "lungs", "stage1", "stage2"),
    "no lungs": features_from("mask", "stage1", "stage2", "samples"),
    "stage 1 given": features_from("mask", "lungs", "stage2", "samples"),
    BEFORE_STAGE2: features_from("mask", "lungs", "stage1"),
}
"""What is fitted, from the most that can be known of a candidate to the least; the first that is possible counts."""
MIN_CANDIDATES = 10
"""Fewer true or fewer false candidates fit no score."""
_MOST_REASONS = 2
_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreFit:
    """A logistic regression: the score is 1 / (1 + exp(−(intercept + Σ coefficient · (value − mean) / spread))).

    Attributes:
        features: Names of what it weighs.
        means: Of each in the candidates that it was fitted to.
        spreads: Standard deviation of each there; 1 where all were alike.
        coefficients: Weight of each.
        intercept: Of the sum.
        operating_point: A candidate is kept from this score on.

    Raises:
        SettingsError: The lists differ in length, a feature is unknown, or a number is not finite or out of range.

    Source:
        docs/decisions/0035-candidate-score.md.

    Example:
        >>> known = {"features": ("overlap",), "means": (0.5,), "spreads": (0.2,)}
        >>> nnc.ScoreFit(**known, coefficients=(1.2,), intercept=0.3, operating_point=0.4).operating_point
        0.4
    """

    features: tuple[str, ...]
    means: tuple[float, ...]
    spreads: tuple[float, ...]
    coefficients: tuple[float, ...]
    intercept: float
    operating_point: float

    def __post_init__(self) -> None:
        unknown = [name for name in self.features if name not in FEATURES]
        require(not unknown, f"a score weighs {unknown}; known are {', '.join(FEATURES)}")
        lists = (self.means, self.spreads, self.coefficients)
        require(
            all(len(each) == len(self.features) for each in lists),
            f"a score of {len(self.features)} features has {'/'.join(str(len(each)) for each in lists)} numbers",
        )
        numbers = (*self.means, *self.spreads, *self.coefficients, self.intercept)
        require(all(math.isfinite(each) for each in numbers), "a score has numbers that are not finite")
        require(all(each > 0 for each in self.spreads), f"spreads must be positive; found {self.spreads}")
        require(0 <= self.operating_point <= 1, f"operating_point must lie in 0…1; found {self.operating_point}")

    def terms(self, candidate: Candidate) -> dict[str, float] | None:
        """Return what each feature adds to the sum, positive for a tumor; None where the candidate lacks one."""
        values = values_of(candidate, self.features)
        if values is None:
            return None
        columns = zip(self.features, values, self.means, self.spreads, self.coefficients, strict=True)
        return {name: weight * (value - mean) / spread for name, value, mean, spread, weight in columns}

    def score(self, candidate: Candidate) -> float | None:
        """Return how likely a candidate is a tumor, 0 to 1; None where it lacks a feature."""
        terms = self.terms(candidate)
        return None if terms is None else _logistic(self.intercept + math.fsum(terms.values()))


def _logistic(total: float) -> float:
    return 1 / (1 + math.exp(-total)) if total >= 0 else math.exp(total) / (1 + math.exp(total))


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateScore:
    """All fits of a score, and what they were fitted to.

    Attributes:
        fits: By name, of `FITS`.
        true_candidates: How many candidates of the fit were tumors.
        false_candidates: How many were not.
        scans: Of how many scans.
        false_positives_per_scan: How many the operating points allow, on candidates that the fit had not seen.

    Raises:
        SettingsError: A fit has an unknown name.

    Source:
        docs/decisions/0035-candidate-score.md.

    Example:
        >>> nnc.CascadeSpec().scoring is None  # a bundle without a score: the rules decide alone
        True
    """

    fits: Mapping[str, ScoreFit]
    true_candidates: int
    false_candidates: int
    scans: int
    false_positives_per_scan: float

    def __post_init__(self) -> None:
        unknown = sorted(set(self.fits) - set(FITS))
        require(not unknown, f"a score has the fits {unknown}; known are {', '.join(FITS)}")

    @classmethod
    def unfitted(cls) -> CandidateScore:
        """Return a score of no fit: stage 2 looks at what it would judge, and the rules decide."""
        return cls(fits={}, true_candidates=0, false_candidates=0, scans=0, false_positives_per_scan=0.0)

    def with_operating_point(self, score: float) -> CandidateScore:
        """Return the score that keeps a candidate from another score on, whatever is known of it."""
        return replace(self, fits={name: replace(fit, operating_point=score) for name, fit in self.fits.items()})

    def before_stage2(self, candidate: Candidate) -> float | None:
        """Return the score by what is known before stage 2; None where something of it is lacking."""
        fit = self.fits.get(BEFORE_STAGE2)
        return None if fit is None else fit.score(candidate)

    def judged(self, candidate: Candidate) -> Candidate | None:
        """Return a candidate with its score and the verdict of it; None where no fit has all it needs.

        A candidate that stage 2 drew nothing for is dropped, whatever its score would be.
        """
        if candidate.stage2 is not None and candidate.stage2.is_empty:
            nothing = Verdict(kept=False, rule="stage2_empty", reason="stage 2 looked there and found nothing")
            return replace(candidate, verdict=nothing)
        for name in FITS if candidate.stage2 is not None else (BEFORE_STAGE2,):
            fit = self.fits.get(name)
            score = None if fit is None else fit.score(candidate)
            if fit is not None and score is not None:
                kept = score >= fit.operating_point - _TOLERANCE
                verdict = Verdict(kept=kept, rule="score", reason=_reason(candidate, score, fit))
                return replace(candidate, score=score, score_fit=name, verdict=verdict)
        return None

    @classmethod
    def from_json(cls, block: Any, *, where: str) -> CandidateScore:
        """Read the score of a bundle.

        Raises:
            SettingsError: It is not one.
        """
        require(isinstance(block, Mapping), f"{where}: expected a JSON object; found {block!r:.60}")
        known: dict[str, Any] = dict(block)
        fits = known.get("fits")
        require(isinstance(fits, Mapping), f"{where}: fits must be a JSON object; found {fits!r:.60}")
        known["fits"] = {
            name: from_json(ScoreFit, fit, where=f"{where}, fit {name!r}") for name, fit in dict(fits or {}).items()
        }
        return from_json(cls, known, where=where)


def _reason(candidate: Candidate, score: float, fit: ScoreFit) -> str:
    """Say what the score is, what is needed, and what spoke most for and most against a tumor."""
    terms = fit.terms(candidate) or {}
    ordered = sorted(terms, key=lambda name: (-abs(terms[name]), name))
    sides = {"for it": [n for n in ordered if terms[n] > 0], "against it": [n for n in ordered if terms[n] < 0]}
    said = [
        f"{side}: {', '.join(FEATURES[name].told(candidate) for name in names[:_MOST_REASONS])}"
        for side, names in sides.items()
        if names
    ]
    return "; ".join([f"its score is {score:.2f} (needs {fit.operating_point:.2f})", *said])
