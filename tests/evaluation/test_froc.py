"""FROC: operating points, sensitivities at seven rates, intervals and paired differences."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import image

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation.findings import ScoredFindings
from nnunet_cascade.evaluation.froc import NO_LESIONS, RATES, compare_froc, froc_curve, froc_of
from nnunet_cascade.evaluation.froc_figure import draw_froc
from nnunet_cascade.evaluation.method_styles import method_style
from nnunet_cascade.evaluation.statistics.bootstrap import Resampling

QUICK = Resampling(resamples=100)


def scan_of(*findings, lesions):
    """Build a scan from `(score, lesions it touches …)`, one for each finding."""
    pairs = [(number, lesion) for number, (_, *touched) in enumerate(findings) for lesion in touched]
    scores = np.array([score for score, *_ in findings], dtype=np.float64)
    return ScoredFindings(scores=scores, touches=np.array(pairs, dtype=np.int64).reshape(-1, 2), lesions=lesions)


@st.composite
def one_scan(draw, lesions=None):
    """Draw a scan with ties between scores; it may have no lesion and no finding."""
    count = draw(st.integers(0, 3)) if lesions is None else lesions
    touched = st.sets(st.integers(0, count - 1), max_size=2) if count else st.just(set())
    scores = st.sampled_from([0.1, 0.3, 0.5, 0.9])
    return scan_of(*((score, *some) for score, some in draw(st.lists(st.tuples(scores, touched)))), lesions=count)


SCANS = st.lists(one_scan(), min_size=1, max_size=5)


def by_brute_force(scans):
    """Try every threshold, count by hand, and take the best that has few enough false positives."""
    lesions = sum(scan.lesions for scan in scans)
    points = [(0.0, 0.0)]
    for threshold in {float(score) for scan in scans for score in scan.scores}:
        found = false = 0
        for scan in scans:
            counted = set(np.flatnonzero(scan.scores >= threshold).tolist())
            found += len({lesion for finding, lesion in scan.touches.tolist() if finding in counted})
            false += len(counted - {finding for finding, _ in scan.touches.tolist()})
        points.append((false / len(scans), found / lesions if lesions else math.nan))
    if not lesions:
        return [math.nan] * len(RATES)
    return [max(found for false, found in points if false <= rate) for rate in RATES]


def values(froc):
    return [figure.value for figure in froc.sensitivities]


@settings(deadline=None, max_examples=100)
@given(SCANS)
def test_sensitivities_are_the_best_of_all_thresholds_and_rise_with_the_rate(scans):
    froc = froc_of(scans, QUICK)
    assert values(froc) == pytest.approx(by_brute_force(scans), nan_ok=True)
    assert froc.mean.value == pytest.approx(np.mean(values(froc)), nan_ok=True)
    assert not (np.diff(values(froc)) < 0).any()
    assert not (np.diff(froc.curve.sensitivities) < 0).any()
    assert (np.diff(froc.curve.false_positives) >= 0).all()
    assert (np.diff(froc.curve.thresholds) < 0).all()
    if froc.lesions:
        points = zip(froc.curve.false_positives, froc.curve.sensitivities, strict=True)
        points = [(0.0, 0.0), *points]
        assert values(froc) == [max(found for false, found in points if false <= rate) for rate in RATES]


@settings(deadline=None, max_examples=50)
@given(SCANS, st.randoms(use_true_random=False))
def test_the_order_of_scans_and_findings_means_nothing(scans, random):
    shuffled = []
    for scan in random.sample(scans, len(scans)):
        order = np.array(random.sample(range(scan.scores.size), scan.scores.size), dtype=np.int64)
        places = np.argsort(order)
        touches = scan.touches.copy()
        touches[:, 0] = places[touches[:, 0]] if touches.size else touches[:, 0]
        shuffled.append(ScoredFindings(scores=scan.scores[order], touches=touches[::-1], lesions=scan.lesions))
    one, other = froc_of(scans, QUICK), froc_of(shuffled, QUICK)
    assert values(one) == pytest.approx(values(other), abs=0, nan_ok=True)
    np.testing.assert_array_equal(one.curve.sensitivities, other.curve.sensitivities)
    np.testing.assert_array_equal(one.curve.false_positives, other.curve.false_positives)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=5).filter(any), st.sampled_from([0.0, 0.5]))
def test_a_perfect_system_has_1_everywhere(lesions, score):
    froc = froc_of([scan_of(*((score, each) for each in range(count)), lesions=count) for count in lesions], QUICK)
    assert values(froc) == [1.0] * len(RATES)
    assert (froc.mean.value, froc.mean.percentile) == (1.0, None)
    assert froc.curve.false_positives.tolist() == [0.0]


def test_a_curve_counted_by_hand():
    """Two lesions in two scans; false positives at 0.8 and 0.3; a lesion at 0.9, the other at 0.3."""
    scans = [scan_of((0.9, 0), (0.8,), lesions=1), scan_of((0.3, 0), (0.3,), lesions=1)]
    froc = froc_of(scans, QUICK)
    assert froc.curve.thresholds.tolist() == [0.9, 0.8, 0.3]
    assert froc.curve.false_positives.tolist() == [0.0, 0.5, 1.0]
    assert froc.curve.sensitivities.tolist() == [0.5, 0.5, 1.0]
    assert values(froc) == [0.5, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0]
    assert froc.mean.value == pytest.approx(5.5 / 7)
    counts = (froc.scans, froc.lesions, froc.lesions_found, froc.findings, froc.false_positives)
    assert counts == (2, 2, 2, 4, 2)


class TestEmptyScans:
    def test_scans_without_lesions_count_as_scans(self):
        with_one = scan_of((0.9,), (0.5, 0), lesions=1)
        assert values(froc_of([with_one], QUICK))[:3] == [0.0, 0.0, 0.0]
        assert values(froc_of([with_one, scan_of(lesions=0)], QUICK))[:3] == [0.0, 0.0, 1.0]

    def test_without_lesions_sensitivity_is_undefined_and_without_findings_0(self):
        froc = froc_of([scan_of((0.5,), lesions=0)] * 5, QUICK)
        assert all(map(math.isnan, [*values(froc), froc.mean.value, *froc.curve.sensitivities]))
        assert (froc.mean.note, froc.mean.percentile) == (NO_LESIONS, None)
        froc = froc_of([scan_of(lesions=2)] * 5, QUICK)
        assert [*values(froc), froc.mean.value] == [0.0] * 8
        assert froc.curve.thresholds.size == 0

    def test_no_scan_at_all_is_refused(self):
        for call in (froc_of, froc_curve):
            with pytest.raises(SettingsError, match="at least one"):
                call([])


@pytest.fixture(scope="module")
def systems():
    """Two systems on the same 12 scans, the first the surer one."""
    rng = np.random.default_rng(7)
    lesions = [0, 1, 2, 1, 0, 3, 1, 1, 2, 1, 0, 1]

    def system(skill):
        return [
            scan_of(
                *((round(float(rng.uniform(skill, 1)), 1), each) for each in range(count) if rng.random() < 0.9),
                *((round(float(rng.uniform(0, 0.9)), 1),) for _ in range(rng.integers(0, 5))),
                lesions=count,
            )
            for count in lesions
        ]

    return system(0.6), system(0.1)


def redrawn(systems, resampling):
    """Sensitivities and their mean (systems, resamples, 8) of scans that are drawn one by one."""
    count = len(systems[0])
    draws = np.random.default_rng(resampling.seed).integers(0, count, (resampling.resamples, count))
    found = [[by_brute_force([system[at] for at in draw]) for draw in draws.tolist()] for system in systems]
    return np.concatenate([found, np.mean(found, axis=-1, keepdims=True)], axis=-1)


def test_intervals_are_percentiles_of_scans_drawn_again(systems):
    drawn = redrawn(systems[:1], QUICK)[0]
    froc = froc_of(systems[0], QUICK)
    for figure, column in zip([*froc.sensitivities, froc.mean], drawn.T, strict=True):
        if np.ptp(column) > 0:
            ends = (figure.percentile.low, figure.percentile.high)
            assert ends == pytest.approx(np.percentile(column, [2.5, 97.5]))
        else:
            assert figure.percentile is None
    assert froc.mean.note == "n = 9: few cases, the interval is too narrow"


def test_differences_are_paired_by_the_scans_of_each_draw(systems):
    one, other = redrawn(systems, QUICK)
    found = compare_froc(*systems, QUICK)
    apart = [froc_of(system, QUICK) for system in systems]
    assert found.mean.value == pytest.approx(apart[0].mean.value - apart[1].mean.value)
    ends = (found.mean.percentile.low, found.mean.percentile.high)
    assert ends == pytest.approx(np.percentile(one[:, -1] - other[:, -1], [2.5, 97.5]))
    itself = compare_froc(systems[0], systems[0], QUICK)
    assert (itself.mean.value, itself.mean.percentile) == (0.0, None)
    assert compare_froc(*systems[::-1], QUICK).mean.value == -found.mean.value


def test_other_scans_cannot_be_compared(systems):
    with pytest.raises(SettingsError, match="the same scans in one order"):
        compare_froc(systems[0], systems[1][::-1], QUICK)
    with pytest.raises(SettingsError, match="found 12 and 11 scans"):
        compare_froc(systems[0], systems[1][1:], QUICK)


def test_few_scans_with_lesions_have_no_interval_and_draws_without_one_are_counted():
    scans = [scan_of((0.9, 0), (0.5,), lesions=1), scan_of((0.2, 0), (0.5,), lesions=1), *[scan_of(lesions=0)] * 8]
    froc = froc_of(scans, Resampling(resamples=1000))
    assert froc.sensitivities[0].percentile is None
    assert froc.sensitivities[0].note.startswith("n = 2: no interval below 3 cases; no lesion in ")
    assert 50 < froc.sensitivities[0].undefined_resamples < 170  # (8 / 10)^10 of 1000 are 107


def test_the_picture_is_grey_and_tells_methods_apart(systems, tmp_path):
    frocs = {f"method {number}": froc_of(systems[number % 2], QUICK) for number in range(6)}
    path = tmp_path / "froc.png"
    draw_froc(frocs, path, title="synthetic, n = 12")
    pixels = image.imread(path)[..., :3]
    assert pixels.std() > 0.05
    assert np.ptp(pixels, axis=-1).max() < 0.02
    assert [each.name for each in tmp_path.iterdir()] == ["froc.png"]
    assert len({str(method_style(number)) for number in range(25)}) == 25


@pytest.mark.parametrize("scan", [scan_of(lesions=0), scan_of(lesions=1), scan_of((0.5,), lesions=0)])
def test_a_picture_without_lesions_or_findings_can_be_drawn(scan, tmp_path):
    draw_froc({"none": froc_of([scan], QUICK)}, tmp_path / "froc.png", title="nothing")
    assert (tmp_path / "froc.png").stat().st_size > 0
    with pytest.raises(SettingsError, match="at least one"):
        draw_froc({}, tmp_path / "froc.png", title="nothing")
