"""Which candidates go to stage 2, and which stay after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nnunet_cascade.flags import Flag
from nnunet_cascade.postprocessing.anatomy import FilteredCandidates, flagged_if_none_is_kept
from nnunet_cascade.postprocessing.candidates import Candidate, Verdict
from nnunet_cascade.postprocessing.rules import best_first, keep_top, without_stage2
from nnunet_cascade.postprocessing.scoring.score import CandidateScore
from nnunet_cascade.postprocessing.settings import AnatomySettings
from nnunet_cascade.prediction.spec import CascadeSpec


def limit_candidates(filtered: FilteredCandidates, spec: CascadeSpec) -> FilteredCandidates:
    """Leave out all but the first candidates of those that would go to stage 2, where there are too many.

    The first are those with the best score before stage 2; where that is not known of all, the first by `rank_by`.
    """
    most, kept = spec.roi.max_candidates, filtered.kept
    if most is None or len(kept) <= most:
        return filtered
    left = f"and only the first {most} candidates go to stage 2"
    beyond = {
        each.id: replace(each, verdict=Verdict(kept=False, rule="max_candidates", reason=f"it comes {rank}. {left}"))
        for rank, each in enumerate(_first_to_last(kept, spec)[most:], start=most + 1)
    }
    candidates = tuple(beyond.get(each.id, each) for each in filtered.candidates)
    return replace(filtered, candidates=candidates, flags=(*filtered.flags, Flag.CANDIDATES_LEFT_OUT))


def _first_to_last(candidates: Sequence[Candidate], spec: CascadeSpec) -> tuple[Candidate, ...]:
    scores = {each.id: None if spec.scoring is None else spec.scoring.before_stage2(each) for each in candidates}
    if any(score is None for score in scores.values()):
        return best_first(candidates, by=spec.anatomy.rank_by)
    return tuple(sorted(candidates, key=lambda each: (-(scores[each.id] or 0.0), each.id)))


def judge_by_score(
    filtered: FilteredCandidates, score: CandidateScore, settings: AnatomySettings
) -> FilteredCandidates:
    """Judge the candidates that stage 2 looked at, or would have looked at, by their scores.

    Where no fit of the score has all it needs of a candidate, the rules decide. `top_k` and `keep_best_if_none` hold
    for what is kept then.

    Args:
        filtered: Candidates with the rules' verdicts, the undecided among those that are kept.
        score: Of the bundle.
        settings: Of the rules.
    """
    judged = [(score.judged(each) or without_stage2(each)) if each.kept else each for each in filtered.candidates]
    chosen = keep_top(judged, settings.top_k, by=settings.rank_by)
    return flagged_if_none_is_kept(replace(filtered, candidates=chosen), settings)
