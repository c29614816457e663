"""Which cases a reader should look at first."""

from __future__ import annotations

from dataclasses import dataclass

from nnunet_cascade.report.reading.case_row import STATUSES, CaseRow
from nnunet_cascade.uncertainty_measures import measure_info

PRIORITY_DEFINITION = (
    "Review priority (0-100): 100 if there is no usable result; otherwise 10 per flag (at most 90) plus up to 9.9 for "
    "the spread. The spread is the standard deviation of the volume over the samples divided by its mean (at most 1); "
    "without samples it is the mean uncertainty in the tumor divided by the largest value of its measure. It says "
    "where to look first, not what is wrong."
)
"""In words for pages; `docs/report.md` says the same."""
_NO_RESULT, _PER_FLAG, _OF_FLAGS, _OF_SPREAD = 100.0, 10.0, 90.0, 9.9


@dataclass(frozen=True, slots=True)
class ReviewPriority:
    """How soon a reader should look at a case.

    Attributes:
        score: 0 to 100, as `PRIORITY_DEFINITION` says.
        why: One sentence.
    """

    score: float
    why: str


def review_priority(row: CaseRow) -> ReviewPriority:
    """Return how soon a reader should look at a case, and why."""
    if row.status not in {"done", "mask only"}:
        return ReviewPriority(_NO_RESULT, f"{row.status}: {STATUSES[row.status]}")
    if row.status == "mask only" and row.volume_ml is None:
        return ReviewPriority(_NO_RESULT, "its mask cannot be read, and there is no record of it")
    spread, words = _spread(row)
    flags = len(row.flags)
    parts = [f"{flags} flag{'s' if flags > 1 else ''} ({', '.join(row.flags)})"] if flags else ["no flag"]
    score = min(_PER_FLAG * flags, _OF_FLAGS) + _OF_SPREAD * (spread or 0.0)
    return ReviewPriority(round(score, 2), "; ".join([*parts, words]))


def _spread(row: CaseRow) -> tuple[float | None, str]:
    """Return the spread of a result, 0 to 1, with a few words; None if nothing is known of it."""
    found, volume = row.uncertainty, row.volume
    if volume.sd_ml is not None and volume.mean_ml:
        spread = volume.sd_ml / volume.mean_ml
        return min(max(spread, 0.0), 1.0), f"the samples' volumes spread by {spread:.0%} of their mean"
    info = measure_info(found.measure)
    if found.mean_in_tumor is not None and info is not None:
        share = found.mean_in_tumor / info.largest
        return min(max(share, 0.0), 1.0), f"mean {found.measure} in the tumor at {share:.0%} of its largest value"
    return None, "no spread is known"
