"""What stage 2 found belongs to candidates, a score judges them, and a case sends no more of them than allowed."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from nnunet_cascade.flags import Flag
from nnunet_cascade.geometry import AxisTurn, Box, Grid
from nnunet_cascade.morphology import label_components
from nnunet_cascade.postprocessing.anatomy import filter_candidates
from nnunet_cascade.postprocessing.scoring.score import CandidateScore, ScoreFit
from nnunet_cascade.postprocessing.settings import AnatomySettings
from nnunet_cascade.prediction.findings import find_components
from nnunet_cascade.prediction.judgement import judge_by_score, limit_candidates
from nnunet_cascade.prediction.refinement import Refinement
from nnunet_cascade.prediction.result import AnatomyResult, LungsOrReason, RefinedCase, assemble_result
from nnunet_cascade.prediction.roi import plan_rois
from nnunet_cascade.prediction.spec import CascadeSpec, RoiSettings
from nnunet_cascade.prediction.stage_model import CoarsePrediction

SHAPE = (12, 14, 16)
RULES = AnatomySettings(min_volume_mm3=0, merge_radius_mm=0)
PLACES = st.tuples(*(st.integers(0, size - 3) for size in SHAPE))
BLOCKS = st.lists(PLACES, max_size=4)


def drawn(places, size=2):
    mask = np.zeros(SHAPE, bool)
    for place in places:
        mask[tuple(slice(at, at + size) for at in place)] = True
    return mask


def asked(mask, grid):
    return filter_candidates(mask, grid, None, RULES, ask_stage2=True)


def scored(weight, operating_point=0.5):
    """A score of stage 2's mean probability alone."""
    fit = ScoreFit(
        features=("stage2_mean",),
        means=(0.7,),
        spreads=(0.1,),
        coefficients=(weight,),
        intercept=0.0,
        operating_point=operating_point,
    )
    return CandidateScore(
        fits={"everything": fit}, true_candidates=10, false_candidates=10, scans=9, false_positives_per_scan=0.25
    )


@settings(max_examples=25, deadline=None)
@given(
    stage1=BLOCKS,
    stage2=BLOCKS,
    spacing_mm=st.sampled_from([(1.0, 1.0, 1.0), (3.0, 1.0, 1.5)]),
    reach_mm=st.sampled_from([0.0, 1.0, 3.0]),
    order=st.permutations(range(3)),
    flips=st.tuples(*[st.booleans()] * 3),
)
def test_components_belong_to_the_candidates_within_reach_in_any_layout(
    stage1, stage2, spacing_mm, reach_mm, order, flips
):
    turn = AxisTurn(tuple(order), flips)
    mask, found = turn.apply(drawn(stage1)), turn.apply(drawn(stage2))
    grid = Grid(shape=mask.shape, spacing_mm=turn.spacing(spacing_mm))
    filtered = asked(mask, grid)
    findings = find_components(found, filtered, reach_mm, grid)
    components = label_components(found)
    inside = components[findings.box.slices] if found.any() else np.zeros((1, 1, 1))
    np.testing.assert_array_equal(findings.components > 0, inside > 0)
    for candidate in filtered.candidates:
        voxels = np.argwhere(filtered.labels == candidate.id) * grid.spacing_mm
        near = [
            number
            for number in range(1, components.max() + 1)
            if cdist(voxels, np.argwhere(components == number) * grid.spacing_mm).min() <= reach_mm + 1e-6
        ]
        expected = np.isin(components, near)
        here = np.zeros(found.shape, bool)
        drawn_for = findings.drawn_for(candidate.id)
        if drawn_for is not None:
            box, part = drawn_for
            here[box.slices] = part
            assert Box.around(here) == box
        np.testing.assert_array_equal(here, expected)


def refined(stage1, probability, grid, spec):
    filtered = asked(stage1, grid)
    rois = plan_rois(filtered.kept, grid, spec.roi)
    judgement = AnatomyResult(
        coarse=CoarsePrediction(stage1, None),
        lungs=LungsOrReason(None),
        filtered=filtered,
        rois=rois,
        stage1_given=True,
    )
    refinement = Refinement(probability=probability, uncertainty=None, sample_masks={}, moved_results=False)
    return RefinedCase(grid=grid, judgement=judgement, refinement=refinement, sampling=None)


def test_what_a_rejected_candidate_alone_owns_leaves_the_mask_and_stays_among_the_proposals():
    grid = Grid(shape=SHAPE, spacing_mm=(1.0, 1.0, 1.0))
    sure, unsure, empty = (1, 1, 1), (1, 1, 9), (8, 9, 1)
    probability = np.where(drawn([sure]), 0.9, np.where(drawn([unsure]), 0.6, 0)).astype(np.float32)
    fit = scored(1.0).fits["everything"]
    score = replace(scored(1.0), fits=dict.fromkeys(("no samples", "no lungs", "stage 1 given"), fit))
    spec = CascadeSpec(scoring=score, anatomy=RULES, roi=RoiSettings(margin_mm=1.0))
    result = assemble_result(refined(drawn([sure, unsure, empty]), probability, grid, spec), spec)
    np.testing.assert_array_equal(result.tumor, drawn([sure]))
    np.testing.assert_array_equal(result.proposals > 0, drawn([sure, unsure]))
    rules = {each.id: (each.verdict.rule, each.kept, each.score) for each in result.filtered.candidates}
    by_place = {result.filtered.labels[place]: place for place in (sure, unsure, empty)}
    verdicts = {by_place[number]: rule for number, rule in rules.items()}
    assert verdicts[sure][:2] == ("score", True)
    assert verdicts[unsure][:2] == ("score", False)
    assert verdicts[empty] == ("stage2_empty", False, None)
    assert not {Flag.ISLANDS_DROPPED, Flag.ROI_WITHOUT_TUMOR} & set(result.flags)
    strict = replace(spec, scoring=score.with_operating_point(1.0))
    nothing = assemble_result(refined(drawn([sure]), probability, grid, strict), strict)
    assert not nothing.tumor.any()
    assert {Flag.ALL_REJECTED, Flag.EMPTY_RESULT} <= set(nothing.flags)


@pytest.mark.parametrize("keeps", [False, True])
def test_where_the_score_rejects_all_the_best_is_kept_on_request_and_flagged_once(keeps):
    grid = Grid(shape=SHAPE, spacing_mm=(1.0, 1.0, 1.0))
    filtered = asked(drawn([(1, 1, 1), (8, 9, 9)]), grid)
    filtered = replace(filtered, flags=(Flag.ALL_REJECTED,))
    strict = replace(
        scored(1.0), fits={"before stage 2": replace(scored(1.0).fits["everything"], features=("volume",))}
    )
    judged = judge_by_score(filtered, strict.with_operating_point(1.0), replace(RULES, keep_best_if_none=keeps))
    assert judged.flags == (Flag.ALL_REJECTED, *([Flag.BEST_KEPT] if keeps else []))
    assert [each.verdict.rule for each in judged.kept] == (["best_kept"] if keeps else [])


def test_a_temperature_moves_the_probability_but_not_the_score():
    grid = Grid(shape=SHAPE, spacing_mm=(1.0, 1.0, 1.0))
    probability = np.where(drawn([(1, 1, 1)]), 0.9, 0).astype(np.float32)
    fit = scored(1.0).fits["everything"]
    spec = CascadeSpec(scoring=replace(scored(1.0), fits={"no lungs": fit}), anatomy=RULES)
    found = []
    for temperature in (1.0, 3.0):
        warm = replace(spec, stage2=replace(spec.stage2, temperature=temperature))
        case = refined(drawn([(1, 1, 1)]), probability.copy(), grid, warm)
        result = assemble_result(case, warm)
        np.testing.assert_array_equal(case.refinement.probability, probability)
        found.append((result.filtered.candidates[0].score, float(result.probability.max())))
    (score, raw), (same, scaled) = found
    assert score == same
    assert raw == pytest.approx(0.9)
    assert scaled == pytest.approx(1 / (1 + np.exp(-np.log(9) / 3)), rel=1e-5)


def test_without_a_score_what_stage_2_found_stays_and_nothing_is_proposed():
    grid = Grid(shape=SHAPE, spacing_mm=(1.0, 1.0, 1.0))
    probability = drawn([(1, 1, 1)]).astype(np.float32)
    spec = CascadeSpec(anatomy=RULES)
    result = assemble_result(refined(drawn([(1, 1, 1)]), probability, grid, spec), spec)
    assert result.proposals is None
    np.testing.assert_array_equal(result.tumor, drawn([(1, 1, 1)]))


@pytest.mark.parametrize(("most", "left"), [(1, [(1, 1, 1)]), (2, [(1, 1, 1), (8, 9, 9)]), (None, None), (9, None)])
def test_no_more_candidates_than_allowed_go_to_stage_2(most, left):
    places = {(1, 1, 1): 3, (8, 9, 9): 2, (1, 9, 1): 1}
    mask = np.any([drawn([place], size) for place, size in places.items()], axis=0)
    filtered = asked(mask, Grid(shape=SHAPE, spacing_mm=(1.0, 1.0, 1.0)))
    limited = limit_candidates(filtered, CascadeSpec(roi=RoiSettings(max_candidates=most), anatomy=RULES))
    kept = [place for place in places if limited.kept_mask()[place]]
    assert kept == (left or list(places))
    assert (Flag.CANDIDATES_LEFT_OUT in limited.flags) is (left is not None)
    reasons = [each.verdict.reason for each in limited.candidates if not each.kept]
    assert (
        reasons
        == [f"it comes {rank}. and only the first {most} candidates go to stage 2" for rank in (2, 3)][
            (most or 9) - 1 :
        ]
    )


def test_the_rules_decide_where_no_fit_is_possible():
    grid = Grid(shape=SHAPE, spacing_mm=(1.0, 1.0, 1.0))
    lungs = drawn([(0, 0, 0)], 3)
    rules = replace(RULES, min_lungs_ml=0.0, rescue_distance_mm=1.0)
    filtered = filter_candidates(drawn([(8, 9, 9), (0, 0, 0)]), grid, lungs, rules, ask_stage2=True)
    assert {each.verdict.rule for each in filtered.kept} == {"undecided", "lung_overlap"}
    judged = judge_by_score(filtered, CandidateScore.unfitted(), rules)
    assert {each.verdict.rule: each.kept for each in judged.candidates} == {
        "lung_overlap": True,
        "outside_lungs": False,
    }
    alone = filter_candidates(drawn([(8, 9, 9), (0, 0, 0)]), grid, lungs, rules)
    assert [each.verdict for each in judged.candidates] == [each.verdict for each in alone.candidates]
    far = filter_candidates(drawn([(8, 9, 9)]), grid, lungs, replace(rules, undecided_distance_mm=2.0), ask_stage2=True)
    assert [each.verdict.rule for each in far.candidates] == ["outside_lungs"]
