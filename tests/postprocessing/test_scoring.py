"""The score of a candidate: what it weighs, how it is fitted, where it is cut, and what it says."""

import json
from dataclasses import replace

import numpy as np
import pytest
from builders.plain_candidates import plain_candidate
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.postprocessing.candidates import Stage2Finding, Verdict
from nnunet_cascade.postprocessing.scoring.evidence import FEATURES, values_of
from nnunet_cascade.postprocessing.scoring.fitting import Example, FittedScore, fit_score
from nnunet_cascade.postprocessing.scoring.score import BEFORE_STAGE2, FITS, CandidateScore, ScoreFit
from nnunet_cascade.settings.serialization import to_json

KEPT = Verdict(kept=True, rule="lung_overlap", reason="-")


def candidate(stage2_mean=0.7, **changes):
    finding = Stage2Finding(
        volume_mm3=900.0,
        mean_probability=stage2_mean,
        max_probability=0.9,
        overlap=0.5,
        mean_uncertainty=0.02,
        agreement=0.8,
    )
    known = {"mean_probability": 0.4, "max_probability": 0.8, "stage2": finding, "verdict": KEPT}
    return plain_candidate(**{**known, **changes})


def drawn(seed, scans=20, of_each=3):
    """Candidates of which stage 2's mean probability tells most tumors."""
    rng = np.random.default_rng(seed)
    for scan in range(scans):
        for _ in range(of_each):
            tumor = bool(rng.random() < 0.5)
            mean = float(np.clip(rng.normal(0.75 if tumor else 0.45, 0.12), 0.01, 0.99))
            noise = {"lung_overlap": float(rng.random()), "mean_probability": float(rng.random())}
            yield Example(
                scan=f"s{scan:02d}",
                candidate=candidate(mean, **noise),
                candidate_is_tumor=tumor,
                finding_is_tumor=tumor,
            )


SCANS = [f"s{scan:02d}" for scan in range(20)]


def fitted(examples, allowed=0.25):
    found = fit_score(list(examples), SCANS, false_positives_per_scan=allowed)
    assert isinstance(found, FittedScore), found
    return found


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 50), allowed=st.sampled_from([0.1, 0.25, 0.5]))
def test_no_more_false_candidates_pass_than_are_allowed_on_scans_that_the_fit_had_not_seen(seed, allowed):
    examples = list(drawn(seed))
    found = fitted(examples, allowed)
    judged = [(each, found.held_out[each.scan].judged(each.candidate)) for each in examples]
    passed = sum(each.kept for example, each in judged if not example.finding_is_tumor)
    false = sum(not example.finding_is_tumor for example in examples)
    assert passed <= allowed * len(SCANS)
    assert passed == min(int(allowed * len(SCANS)), false)  # nor fewer: the drawn scores have no ties
    assert found.score.fits["everything"].coefficients[list(FITS["everything"]).index("stage2_mean")] > 0


def test_a_scan_is_judged_by_a_fit_that_knows_nothing_of_it():
    examples = list(drawn(3))
    other = [replace(e, candidate=candidate(0.5)) if e.scan == "s04" else e for e in examples]
    one, two = (fitted(each).held_out["s04"].fits["everything"] for each in (examples, other))
    assert (one.coefficients, one.means, one.intercept) == (two.coefficients, two.means, two.intercept)
    assert fitted(examples).score.fits["everything"] != fitted(other).score.fits["everything"]


@pytest.mark.parametrize(
    ("examples", "said"),
    [
        ([], "0 true and 0 false candidates"),
        ([replace(e, finding_is_tumor=True) for e in drawn(0)], "60 true and 0 false"),
        ([replace(e, scan="s00") for e in drawn(0)], "lie in too few scans"),
    ],
)
def test_too_few_candidates_give_the_reason_in_place_of_a_score(examples, said):
    assert said in fit_score(examples, SCANS, false_positives_per_scan=0.25)


@pytest.mark.parametrize(
    ("lacking", "fit"),
    [
        ({}, "everything"),
        ({"stage2": replace(candidate().stage2, mean_uncertainty=None, agreement=None)}, "no samples"),
        ({"lung_overlap": None, "lung_distance_mm": None, "near_surface_share": None}, "no lungs"),
        ({"mean_probability": None, "max_probability": None}, "stage 1 given"),
        ({"stage2": None}, BEFORE_STAGE2),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_candidate_is_judged_by_the_fit_that_needs_no_more_than_is_known(lacking, fit):
    score = fitted(drawn(1)).score
    judged = score.judged(candidate(**lacking))
    assert (judged.score_fit, judged.verdict.rule) == (fit, "score")
    assert judged.score == score.fits[fit].score(candidate(**lacking))
    assert score.with_operating_point(1.0).judged(candidate(**lacking)).kept is False
    assert score.with_operating_point(0.0).judged(candidate(**lacking)).kept is True


def test_where_no_fit_is_possible_nothing_is_judged_and_an_empty_finding_is_dropped():
    score = fitted(drawn(1)).score
    assert score.judged(candidate(lung_overlap=None, mean_probability=None)) is None
    assert CandidateScore.unfitted().judged(candidate()) is None
    empty = Stage2Finding(volume_mm3=0, mean_probability=0, max_probability=0, overlap=0)
    judged = CandidateScore.unfitted().judged(candidate(stage2=empty))
    assert (judged.kept, judged.verdict.rule) == (False, "stage2_empty")


def test_the_reason_names_what_spoke_for_and_against_with_its_numbers():
    names = ("stage2_mean", "lung_distance")
    fit = ScoreFit(
        features=names, means=(0.5, 0.0), spreads=(0.1, 1.0), coefficients=(1.0, -1.0), intercept=0, operating_point=0.4
    )
    score = CandidateScore(
        fits={"everything": fit}, true_candidates=9, false_candidates=9, scans=9, false_positives_per_scan=0.25
    )
    judged = score.judged(candidate(0.6, lung_distance_mm=9.0))
    assert judged.score == pytest.approx(0.5)  # 1 for it, log10(1 + 9) = 1 against it
    assert judged.verdict.reason == (
        "its score is 0.50 (needs 0.40); for it: stage 2's mean probability is 0.60; "
        "against it: it lies 9.0 mm from the nearest lung"
    )


@given(values=st.lists(st.floats(-50, 50), min_size=4, max_size=4))
def test_a_score_is_the_logistic_of_its_terms_and_grows_with_them(values):
    mean, spread, weight, intercept = values[0], 1 + abs(values[1]), values[2], values[3]
    fit = ScoreFit(
        features=("stage2_mean",),
        means=(mean,),
        spreads=(spread,),
        coefficients=(weight,),
        intercept=intercept,
        operating_point=0.5,
    )
    low, high = fit.score(candidate(0.2)), fit.score(candidate(0.8))
    assert min(low, high) >= 0
    assert max(low, high) <= 1
    assert (high - low) * weight >= 0
    total = intercept + weight * (0.2 - mean) / spread
    assert low == pytest.approx(1 / (1 + np.exp(-np.clip(total, -700, 700))), rel=1e-9)


def test_a_score_survives_json_and_refuses_what_is_none():
    score = fitted(drawn(2)).score
    plain = json.loads(json.dumps(to_json(score)))
    assert CandidateScore.from_json(plain, where="here") == score
    fit = plain["fits"]["everything"]
    for wrong, said in (
        ({"features": ["volume", "taste"]}, "taste"),
        ({"means": [0.0]}, "numbers"),
        ({"intercept": float("nan")}, "not finite"),
        ({"spreads": [0.0] * len(fit["spreads"])}, "positive"),
        ({"operating_point": 2}, "0…1"),
        ({"coefficients": ["a"] * len(fit["spreads"])}, "here"),
    ):
        with pytest.raises(SettingsError, match=said):
            CandidateScore.from_json({**plain, "fits": {"everything": {**fit, **wrong}}}, where="here")
    for wrong in (None, [], {**plain, "fits": [1]}, {**plain, "fits": {"by taste": fit}}, {**plain, "more": 1}):
        with pytest.raises(SettingsError):
            CandidateScore.from_json(wrong, where="here")


def test_every_feature_says_what_it_measured_and_lacks_what_it_is_not_given():
    whole = candidate()
    assert all(feature.told(whole) for feature in FEATURES.values())
    assert len(values_of(whole, tuple(FEATURES))) == len(FEATURES)
    assert values_of(replace(whole, stage2=None), ("volume", "overlap")) is None
