"""What speaks for or against a candidate, as numbers that a score can weigh."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from nnunet_cascade.postprocessing.candidates import Candidate, Stage2Finding

Source = Literal["mask", "lungs", "stage1", "stage2", "samples"]
"""What a number is taken from: stage 1's mask, the lungs, stage 1's probability, stage 2, or samples of stage 2."""


@dataclass(frozen=True, slots=True)
class Feature:
    """A number that a score weighs.

    Attributes:
        source: What it is taken from.
        words: Names it in a reason; `{}` stands for its value.
        measure: The value of a candidate; None where the candidate lacks it.
        scale: What the score weighs in place of the value: amounts that span orders of magnitude are made even.
    """

    source: Source
    words: str
    measure: Callable[[Candidate], float | None]
    scale: Callable[[float], float] = float

    def of(self, candidate: Candidate) -> float | None:
        """Return what the score weighs; None where the candidate lacks it."""
        value = self.measure(candidate)
        return None if value is None else self.scale(value)

    def told(self, candidate: Candidate) -> str:
        """Return the value in words."""
        return self.words.format(self.measure(candidate))


def _of_stage2(read: Callable[[Stage2Finding], float | None]) -> Callable[[Candidate], float | None]:
    return lambda candidate: None if candidate.stage2 is None else read(candidate.stage2)


def _log10_of_one_more(amount: float) -> float:
    return math.log10(1 + amount)


FEATURES: Mapping[str, Feature] = {
    "volume": Feature("mask", "stage 1 drew {:.0f} mm³", lambda c: c.volume_mm3, _log10_of_one_more),
    "lung_overlap": Feature("lungs", "a share of {:.2f} of it lies in the lungs", lambda c: c.lung_overlap),
    "lung_distance": Feature(
        "lungs", "it lies {:.1f} mm from the nearest lung", lambda c: c.lung_distance_mm, _log10_of_one_more
    ),
    "near_surface_share": Feature(
        "lungs", "a share of {:.2f} of its surface is near a lung", lambda c: c.near_surface_share
    ),
    "stage1_mean": Feature("stage1", "stage 1's mean probability is {:.2f}", lambda c: c.mean_probability),
    "stage1_highest": Feature("stage1", "stage 1's highest probability is {:.2f}", lambda c: c.max_probability),
    "stage2_volume": Feature(
        "stage2", "stage 2 drew {:.0f} mm³", _of_stage2(lambda f: f.volume_mm3), _log10_of_one_more
    ),
    "stage2_mean": Feature("stage2", "stage 2's mean probability is {:.2f}", _of_stage2(lambda f: f.mean_probability)),
    "stage2_highest": Feature(
        "stage2", "stage 2's highest probability is {:.2f}", _of_stage2(lambda f: f.max_probability)
    ),
    "overlap": Feature("stage2", "both stages agree with a Dice of {:.2f}", _of_stage2(lambda f: f.overlap)),
    "uncertainty": Feature("samples", "its mean uncertainty is {:.3g}", _of_stage2(lambda f: f.mean_uncertainty)),
    "agreement": Feature("samples", "samples call a share of {:.2f} of it tumor", _of_stage2(lambda f: f.agreement)),
}
"""All features, by the names that a stored score knows them by."""


def features_from(*sources: Source) -> tuple[str, ...]:
    """Name the features that are taken from some sources, in their order."""
    return tuple(name for name, feature in FEATURES.items() if feature.source in sources)


def values_of(candidate: Candidate, names: tuple[str, ...]) -> tuple[float, ...] | None:
    """Return what a score weighs of a candidate, in the order of the names; None where something is lacking."""
    values = [FEATURES[name].of(candidate) for name in names]
    known = [value for value in values if value is not None]
    return tuple(known) if len(known) == len(values) else None
