"""What becomes of the paper's claims: only intervals that leave out 0 decide."""

from pathlib import Path

import numpy as np
import pytest

from nnunet_cascade.reproduction.cases import Part
from nnunet_cascade.reproduction.judging import judge
from nnunet_cascade.reproduction.prediction import Predicted
from nnunet_cascade.reproduction.report import Evidence, report_page
from nnunet_cascade.reproduction.request import ReproductionRequest
from nnunet_cascade.reproduction.tables import TABLES, chosen_tables

REQUEST = ReproductionRequest(folder=Path("out"), tables=chosen_tables(["I"]), size="tiny", resamples=500)
TABLE = TABLES["I"]
CASES = [f"c{number}" for number in range(12)]


def scores(shift, noise):
    """Dice and HD95 per row of Table I, each row shifted from the first; every other case is up, every other down."""
    base = np.random.default_rng(0).uniform(0.3, 0.5, len(CASES))
    found = {}
    for place, row in enumerate(TABLE.rows):
        if shift[place] is not None:
            moved = shift[place] + noise * (place + 1) * np.where(np.arange(len(CASES)) % 2, 1, -1)
            values = zip(CASES, base, moved, strict=True)
            found[row.system] = {
                case: {"dice": value + by, "hd95_mm": 50 - 100 * by, "false_positive_components": 9 - by}
                for case, value, by in values
            }
    return found


def judged(shift, failures=None, noise=0.005):
    found = scores(shift, noise)
    predicted = {
        row.system: Predicted(
            folder=Path("none"), failures=failures or {}, why_not="" if row.system in found else "nobody gave it"
        )
        for row in TABLE.rows
    }
    return judge(REQUEST, TABLE, predicted, found)


@pytest.mark.parametrize(
    ("shift", "outcomes"),
    [
        ((0, 0.1, 0.2, 0.2, 0), ["holds"] * 6),
        ((0.2, 0.1, 0.0, 0.0, 0.1), ["contradicted"] * 6),
        ((0, None, 0.2, None, 0), ["untested", "holds", "untested", "holds", "untested", "untested"]),
    ],
)
def test_a_clear_difference_decides(shift, outcomes):
    assert [claim.outcome for claim in judged(shift).claims] == outcomes


def test_a_difference_within_the_noise_decides_nothing():
    found = judged((0, 0.0, 0.0, 0.0, 0), noise=0.1)
    assert {claim.outcome for claim in found.claims} == {"undecided"}
    assert all(claim.interval[0] <= 0 <= claim.interval[1] for claim in found.claims)
    assert {claim.cases for claim in found.claims} == {len(CASES)}


def test_the_page_shows_paper_and_ours_and_what_was_not_run():
    part = Part(images={}, labels=dict.fromkeys(CASES, Path("x")), folds=(0, 1), held_out=True)
    page = report_page(REQUEST, [judged((0, None, 0.2, 0.2, 0.05))], Evidence(parts=[part]))
    assert "12 test cases of the same data set, held out from all training" in page
    assert "cascade, margin 16: not run: nobody gave it." in page
    assert "0.645" in page
    assert "could not be tested here" in page
    assert "computer-drawn phantoms" in page
    assert "4 holds, 0 contradicted, 0 undecided, 2 untested" in page


def test_failed_cases_are_told():
    found = judged((0, 0.1, 0.2, 0.2, 0), failures={"c3": "its CT is missing"})
    assert found.missing["full CT"] == "1 cases failed, such as c3: its CT is missing"
