"""Findings of a scan: which components they are, their scores, and the lesions they touch."""

import numpy as np
import pytest
from builders.evaluation_strategies import mask_pairs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nnunet_cascade.errors import GridMismatchError, SettingsError
from nnunet_cascade.evaluation.findings import (
    ScoredFindings,
    findings_of,
    findings_of_probability,
    lowest_threshold,
)
from nnunet_cascade.evaluation.lesions import count_lesions

SCORES = {1: 0.1, 2: 0.9, 3: 0.5}


def drawn(digits):
    """One row of labels, one digit per voxel; `.` is 0."""
    return np.array([[[0 if mark == "." else int(mark) for mark in digits]]], dtype=np.uint16)


def summary(scan):
    """Scores of lesions and of false positives, in an order of their own."""
    return sorted(scan.lesion_scores.tolist()), sorted(scan.false_positive_scores.tolist())


@pytest.mark.parametrize(
    ("labels", "truth", "of_lesions", "of_false_positives"),
    [
        ("11...", "1....", [0.1], []),
        (".1...", "1....", [-np.inf], [0.1]),  # beside it is not on it
        ("112..", "1....", [0.9], []),  # a finding of two candidates has the larger score
        ("1.2..", "1....", [0.1], [0.9]),
        ("1.2.3", "11111", [0.9], []),  # several on one lesion find it once
        ("22222", "1.1.1", [0.9, 0.9, 0.9], []),  # one finds several
        ("1.1..", ".....", [], [0.1, 0.1]),  # two components of one candidate are two findings
        (".....", "1....", [-np.inf], []),
        (".....", ".....", [], []),
    ],
)
def test_findings_are_components_with_the_largest_score_of_their_candidates(
    labels, truth, of_lesions, of_false_positives
):
    scan = findings_of(drawn(labels), SCORES, drawn(truth) > 0)
    assert summary(scan) == (of_lesions, sorted(of_false_positives))


def test_a_probability_is_scored_by_its_mean_in_each_component():
    probability = np.array([[[0.5, 1.0, 0.2, 0.4, 0.6]]], dtype=np.float32)
    truth = drawn("1....") > 0
    assert summary(findings_of_probability(probability, 0.5, truth)) == ([0.75], [pytest.approx(0.6)])
    assert summary(findings_of_probability(probability, 0.4, truth)) == ([0.75], [pytest.approx(0.5)])
    assert summary(findings_of_probability(probability, 0.2, truth)) == ([pytest.approx(0.54)], [])


def test_the_threshold_is_the_largest_with_eight_false_positives_per_scan():
    many = np.zeros((1, 1, 40), dtype=np.float32)
    many[..., 0:32:2] = 0.25  # 16 components, in one of two scans
    none, truth = np.zeros_like(many), np.zeros(many.shape, dtype=bool)
    assert lowest_threshold(pair for pair in [(many, truth), (none, truth)]) == 0.2
    assert lowest_threshold([(many, truth), (none, truth), (none, truth)]) == 0.01  # never reached: the last
    assert lowest_threshold([(many, many > 0)]) == 0.01
    assert lowest_threshold([(many, truth)], grid=[0.26, 0.24, 0.22]) == 0.24


@st.composite
def scans(draw):
    """Proposals, the score of each candidate, and the truth; scores have ties."""
    truth, _ = draw(mask_pairs(max_side=7))
    labels = draw(hnp.arrays(np.uint16, truth.shape, elements=st.integers(0, 4), fill=st.just(0)))
    return labels, dict(enumerate(draw(st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=5, max_size=5)))), truth


@settings(deadline=None, max_examples=60)
@given(scans(), st.permutations([0, 1, 2]), st.tuples(*[st.booleans()] * 3))
def test_flipped_and_turned_arrays_have_the_same_findings(scan, axes, flipped):
    labels, scores, truth = scan
    flips = tuple(axis for axis in range(3) if flipped[axis])
    turned, turned_truth = (np.flip(each.transpose(axes), flips) for each in (labels, truth))
    assert summary(findings_of(turned, scores, turned_truth)) == summary(findings_of(labels, scores, truth))
    probability, other = labels.astype(np.float32) / 7, turned.astype(np.float32) / 7
    assert summary(findings_of_probability(other, 0.2, turned_truth)) == summary(
        findings_of_probability(probability, 0.2, truth)
    )


@settings(deadline=None, max_examples=60)
@given(scans())
def test_counts_are_those_of_lesions_and_components(scan):
    labels, scores, truth = scan
    counts, found = count_lesions(truth, labels > 0), findings_of(labels, scores, truth)
    assert (found.lesions, int(np.isfinite(found.lesion_scores).sum())) == (counts.lesions, counts.found)
    assert (found.scores.size, found.false_positive_scores.size) == (counts.predicted, counts.false_positive_components)


@pytest.mark.parametrize(
    ("scores", "touches", "lesions"),
    [
        ([np.nan], [(0, 0)], 1),
        ([0.5], [(1, 0)], 1),
        ([0.5], [(0, 1)], 1),
        ([0.5], [(-1, 0)], 1),
        ([0.5], [(0, 0, 0)], 1),
    ],
)
def test_findings_that_make_no_sense_are_refused(scores, touches, lesions):
    with pytest.raises(SettingsError, match="expected"):
        ScoredFindings(scores=np.array(scores), touches=np.array(touches), lesions=lesions)


def test_what_cannot_be_compared_is_refused():
    truth = drawn("1....") > 0
    with pytest.raises(SettingsError, match="candidate 7 has no score"):
        findings_of(drawn("7...."), SCORES, truth)
    with pytest.raises(GridMismatchError):
        findings_of(drawn("1..."), SCORES, truth)
    with pytest.raises(SettingsError, match="above 0 and at most 1"):
        findings_of_probability(drawn("1....").astype(np.float32), 0.0, truth)
    with pytest.raises(SettingsError, match="0 scans and 8 thresholds"):
        lowest_threshold([])
