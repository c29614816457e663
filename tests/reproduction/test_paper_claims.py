"""What becomes of the paper's claims: only intervals that leave out 0 decide."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nnunet_cascade.evaluation.calibration.counts import count_voxels
from nnunet_cascade.evaluation.statistics.bootstrap import Resampling
from nnunet_cascade.reproduction.cases import EvaluationSplit
from nnunet_cascade.reproduction.claims import FEWEST_CASES, Evidence, corrected, evaluate_claim
from nnunet_cascade.reproduction.evaluation import TableResult
from nnunet_cascade.reproduction.report import RunDescription, report_page
from nnunet_cascade.reproduction.request import ReproductionRequest
from nnunet_cascade.reproduction.tables import TABLES, Claim, chosen_tables
from nnunet_cascade.reproduction.tiny_plans import COARSE_STEPS, EPOCHS

REQUEST = ReproductionRequest(folder=Path("out"), tables=chosen_tables(["I"]), size="tiny", folds=2, resamples=500)
RESAMPLING = Resampling(resamples=500, seed=0)
CASES = [f"c{number}" for number in range(12)]
DICE = Claim(text="A beats B", metric="dice", first="A", second="B", expected="higher")


def values(shift, noise=0.02, cases=CASES, metric="dice"):
    """A figure per case: every other one up by the noise, every other down."""
    base = np.random.default_rng(0).uniform(0.3, 0.5, len(cases))
    up = noise * np.where(np.arange(len(cases)) % 2, 1, -1) * np.linspace(0.5, 1.5, len(cases))
    return {case: {metric: value} for case, value in zip(cases, base + shift + up, strict=True)}


def judged(claim, a, b):
    return evaluate_claim(claim, Evidence(scores={"A": a, "B": b}, boundary={}, resampling=RESAMPLING))


@pytest.mark.parametrize(
    ("expected", "shift", "outcome"),
    [
        ("higher", 0.1, "holds"),
        ("higher", -0.1, "contradicted"),
        ("higher", 0.0, "undecided"),
        ("lower", -0.1, "holds"),
        ("lower", 0.1, "contradicted"),
        ("not higher", -0.1, "holds"),
        ("not higher", 0.0, "undecided"),
        ("not higher", 0.1, "contradicted"),
        ("equal", 0.1, "contradicted"),
        ("equal", -0.1, "contradicted"),
        ("equal", 0.002, "holds"),
        ("equal", 0.021, "undecided"),
    ],
)
def test_an_interval_that_leaves_out_zero_decides(expected, shift, outcome):
    found = judged(replace(DICE, expected=expected), values(shift), values(0.0, noise=0.0))
    assert found.outcome == outcome
    assert found.difference == pytest.approx(shift, abs=0.003)
    assert found.interval[0] < found.difference < found.interval[1]
    assert found.cases == len(CASES)
    assert 0 < found.p <= 1


def test_where_small_noise_is_within_the_margin_no_difference_is_found():
    assert (
        judged(replace(DICE, expected="equal"), values(0.0, noise=0.1), values(0.0, noise=0.0)).outcome == "undecided"
    )


def test_few_cases_or_one_and_the_same_difference_decide_nothing():
    few = CASES[: FEWEST_CASES - 1]
    assert judged(DICE, values(0.3, cases=few), values(0.0, cases=few, noise=0.0)).outcome == "too_few"
    alike = judged(DICE, {c: {"dice": 0.75} for c in CASES}, {c: {"dice": 0.5} for c in CASES})
    assert (alike.outcome, alike.interval) == ("too_few", None)
    same = {c: {"dice": 0.5} for c in CASES}
    assert judged(replace(DICE, expected="equal"), same, same).outcome == "holds"
    assert judged(replace(DICE, expected="equal"), {c: {"dice": 0.75} for c in CASES}, same).outcome == "too_few"


@pytest.mark.parametrize(("a", "b"), [({}, values(0.0)), (values(0.1), values(0.0, metric="hd95_mm"))])
def test_a_row_or_a_figure_that_is_missing_is_untested(a, b):
    found = judged(DICE, a, b)
    assert found.outcome == "untested"
    assert math.isnan(found.difference)


def test_a_drop_in_components_is_correlated_with_the_gain():
    rng = np.random.default_rng(1)
    dropped = rng.integers(0, 5, len(CASES))
    before = {c: {"dice": 0.4, "predicted_components": 6.0} for c in CASES}
    after = {
        c: {"dice": 0.4 + 0.05 * d + rng.normal(0, 0.01), "predicted_components": 6.0 - d}
        for c, d in zip(CASES, dropped, strict=True)
    }
    claim = Claim(text="Fewer", metric="gain in dice", first="A", second="B", expected="higher", of_correlation=True)
    assert judged(claim, after, before).outcome == "holds"
    assert judged(claim, after, before).difference > 0.9
    assert judged(replace(claim, expected="lower"), after, before).outcome == "contradicted"
    assert judged(replace(claim, metric="drop in mean_variance_in_tumor"), after, before).outcome == "untested"


@pytest.mark.parametrize(("first", "outcome"), [("sure", "contradicted"), ("modest", "holds")])
def test_calibration_at_the_boundary_has_the_sign_of_first_less_second(first, outcome):
    """Half of the voxels are tumor whatever is promised: 0.6 is better calibrated than 0.95."""
    rng = np.random.default_rng(0)
    truths = {case: rng.uniform(size=400) < rng.uniform(0.4, 0.6) for case in CASES}
    boundary = {
        name: {case: count_voxels(np.full(400, p), truth) for case, truth in truths.items()}
        for name, p in (("sure", 0.95), ("modest", 0.6))
    }
    other = {"sure": "modest", "modest": "sure"}[first]
    claim = Claim(text="Better", metric="boundary_ece", first=first, second=other, expected="lower")
    for order in (list(boundary), list(boundary)[::-1]):
        evidence = Evidence(scores={}, boundary={name: boundary[name] for name in order}, resampling=RESAMPLING)
        assert evaluate_claim(claim, evidence).outcome == outcome


def test_p_is_corrected_over_the_claims_of_the_page_that_have_one():
    found = corrected(
        [judged(DICE, values(0.1), values(0.0)), judged(DICE, {}, {}), judged(DICE, values(0.1), values(0.0))]
    )
    assert math.isnan(found[1].p_holm)
    assert found[0].p_holm == pytest.approx(2 * found[0].p)


def test_the_page_shows_paper_and_ours_and_what_was_not_run():
    table = TABLES["I"]
    scores = {row.label: values(0.1 * place) for place, row in enumerate(table.rows) if "16" not in row.label}
    evidence = Evidence(scores=scores, boundary={}, resampling=RESAMPLING)
    claims = tuple(evaluate_claim(claim, evidence) for claim in table.claims)
    whole = TableResult(
        table=table, comparison=None, component_reduction=None, calibration={}, reliability={}, claims=claims,
        missing={"cascade, margin 16": "not run: nobody gave it"},
    )  # fmt: skip
    part = EvaluationSplit(images={}, labels=dict.fromkeys(CASES, Path("x")), folds=(0, 1), held_out=True)
    page = report_page(REQUEST, [whole], RunDescription(parts=[part], worth="there was no time"))
    assert "12 test cases of the same data set, held out from all training" in page
    assert "cascade, margin 16: not run: nobody gave it." in page
    assert "could not be tested here" in page
    assert "computer-drawn phantoms" in page
    assert f"stage 1, UNet: 2 × {EPOCHS * COARSE_STEPS} steps" in page
    assert "was not measured: there was no time" in page
