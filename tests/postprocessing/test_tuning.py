"""Thresholds found on tables one can check by hand."""

from dataclasses import replace
from itertools import product
from unittest.mock import patch

import numpy as np
import pytest
from builders.plain_candidates import plain_candidate
from hypothesis import given
from hypothesis import strategies as st

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.postprocessing import tuning
from nnunet_cascade.postprocessing.anatomy import filter_candidates
from nnunet_cascade.postprocessing.rules import decide
from nnunet_cascade.postprocessing.settings import AnatomySettings
from nnunet_cascade.postprocessing.tuning import (
    TUNED,
    KnownCase,
    Measurements,
    SearchSpace,
    TuningScore,
    best_settings,
    cross_validate,
    kept_by,
    kept_counts,
    measure_known,
    score,
)

BASE = replace(AnatomySettings.recommended(), top_k="all", rescue_min_volume_mm3=60.0)
TINY = SearchSpace(
    min_volume_mm3=(0.0, 50.0, 100.0),
    min_lung_overlap=(0.5, 0.8),
    min_lung_overlap_central=(0.5, 0.9),
    rescue_distance_mm=(0.0, 5.0),
    rescue_near_surface_share_central=(0.0, 0.4, 0.8),
)
DISTANCES = (0.0, 5.0)

SURE = (500.0, 1.0, 0.0, False, (1, 1))


def table(*rows, cases=None):
    """Candidates as (true, volume, overlap, distance, central, near at 0 and 5 mm); an overlap of None: no lungs."""
    true, volume, overlap, distance, central, near = zip(*rows, strict=True)
    return Measurements(
        case=np.array(cases or [f"p{number}" for number in range(len(rows))]),
        true=np.array(true, dtype=bool),
        volume_mm3=np.array(volume, dtype=float),
        judged=np.array([value is not None for value in overlap]),
        central=np.array(central, dtype=bool),
        lung_overlap=np.array([np.nan if value is None else value for value in overlap], dtype=float),
        lung_distance_mm=np.array([np.nan if value is None else value for value in distance], dtype=float),
        near_surface_share=np.array(near, dtype=float).reshape(len(rows), 2),
        distances_mm=DISTANCES,
    )


def by_the_rules(found, settings):
    """What the filter's own rules say, row by row."""
    kept = []
    for row in range(len(found)):
        judged = bool(found.judged[row])
        candidate = plain_candidate(
            volume_mm3=float(found.volume_mm3[row]),
            lung_overlap=float(found.lung_overlap[row]) if judged else None,
            lung_distance_mm=float(found.lung_distance_mm[row]) if judged else None,
            near_surface_share=float(found.near_surface_share[row, DISTANCES.index(settings.rescue_distance_mm)]),
            central=bool(found.central[row]),
        )
        kept.append(decide(candidate, settings).kept)
    return np.array(kept, dtype=bool)


def every_setting(space):
    for values in product(*(getattr(space, name) for name in TUNED)):
        if values[2] >= values[1]:
            yield replace(BASE, **dict(zip(TUNED, values, strict=True)))


SHARE = st.sampled_from([0.0, 0.4, 0.5, 0.79, 0.8, 0.9, 1.0])
ROWS = st.lists(
    st.tuples(
        st.booleans(),
        st.sampled_from([10.0, 50.0, 59.0, 60.0, 99.0, 100.0, 500.0]),
        st.one_of(st.none(), SHARE),
        st.sampled_from([0.0, 4.0, 5.0, 6.0]),
        st.booleans(),
        st.tuples(SHARE, SHARE),
    ),
    min_size=1,
    max_size=8,
)


class TestRules:
    @given(rows=ROWS)
    def test_a_row_is_kept_where_the_filters_rules_keep_its_candidate(self, rows):
        found = table(*rows)
        for settings in every_setting(TINY):
            np.testing.assert_array_equal(kept_by(found, settings), by_the_rules(found, settings))

    @given(rows=ROWS)
    def test_the_counts_of_all_combinations_are_those_of_each(self, rows):
        found = table(*rows)
        with patch.object(tuning, "_BLOCK", 3):
            counts = kept_counts(found, TINY, BASE)
        for place in np.ndindex(*TINY.shape):
            assert counts[place] == by_the_rules(found, TINY.settings(place, BASE)).sum()

    def test_a_distance_that_was_not_measured_is_refused(self):
        with pytest.raises(SettingsError, match="measured were"):
            kept_by(table((True, 500.0, 0.9, 0.0, False, (0, 0))), replace(BASE, rescue_distance_mm=7.0))


def strictness(settings):
    """How far from the setting that keeps most, step by step of each threshold."""
    total = 0.0
    for name in TUNED:
        values = getattr(TINY, name)
        steps = values.index(getattr(settings, name))
        forward = len(values) - 1 - steps if name == "rescue_distance_mm" else steps
        total += forward / (len(values) - 1)
    return round(total, 9)


class TestSearch:
    @given(rows=ROWS)
    def test_it_is_the_best_of_all_tried_one_by_one(self, rows):
        found = table((True, 70.0, 0.6, 4.0, True, (0.0, 0.5)), *rows)
        best = best_settings(found, TINY, BASE)

        def worth(settings):
            kept = by_the_rules(found, settings)
            return int((found.true & ~kept).sum()), int((~found.true & kept).sum()), strictness(settings)

        assert worth(best) == min(worth(settings) for settings in every_setting(TINY))

    def test_each_threshold_rises_just_as_far_as_a_false_candidate_asks(self):
        rows = [
            (True, 500.0, 0.9, 0.0, False, (1, 1)),
            (False, 60.0, 1.0, 0.0, False, (1, 1)),  # too small: only 100 mm³ drops it
            (False, 500.0, 0.3, 4.0, True, (0.0, 0.3)),  # in the middle: a share of 0.4 drops it
        ]
        best = best_settings(table(*rows), TINY, BASE)
        assert [getattr(best, name) for name in TUNED] == [100.0, 0.5, 0.5, 5.0, 0.4]

    def test_what_is_not_tuned_stays_the_users_and_without_a_true_candidate_it_is_refused(self):
        mine = replace(BASE, top_k=2, merge_radius_mm=1.0)
        best = best_settings(table((True, *SURE)), TINY, mine)
        assert (best.top_k, best.merge_radius_mm, best.rescue_min_volume_mm3) == (2, 1.0, 60.0)
        with pytest.raises(SettingsError, match="none of 1 candidates meets a true tumor"):
            best_settings(table((False, *SURE)), TINY, BASE)


@pytest.mark.parametrize(
    "bad",
    [
        {"min_volume_mm3": ()},
        {"min_volume_mm3": (1.0, 1.0)},
        {"min_lung_overlap": (1.2,)},
        {"rescue_distance_mm": (-1.0,)},
        {"min_lung_overlap": (0.9,), "min_lung_overlap_central": (0.5,)},
    ],
)
def test_a_space_without_a_valid_combination_is_refused(bad):
    with pytest.raises(SettingsError, match=next(iter(bad))):
        SearchSpace(**bad)


class TestScores:
    FOUND = table(
        (True, *SURE),
        (True, 40.0, 1.0, 0.0, False, (1, 1)),
        (False, 40.0, 1.0, 0.0, False, (1, 1)),
        (False, *SURE),
        cases=["a", "a", "b", "b"],
    )

    def test_candidates_and_patients_are_counted(self):
        found = score(self.FOUND, np.array([True, False, False, True]))
        assert found == TuningScore(true=2, true_lost=1, false=2, false_dropped=1, patients=1, patients_losing=1)

    @pytest.mark.parametrize(
        ("patients", "losing", "share"),
        [
            (29, 0, 1 - 0.05 ** (1 / 29)),  # none of n: 1 − 0.05^(1/n)
            (1, 0, 0.95),
            (3, 3, 1.0),
            (0, 0, 1.0),
            (10, 1, 0.3942),  # Clopper and Pearson's tables
        ],
    )
    def test_few_patients_prove_little(self, patients, losing, share):
        found = TuningScore(
            true=patients, true_lost=losing, false=0, false_dropped=0, patients=patients, patients_losing=losing
        )
        assert found.losing_at_most == pytest.approx(share, abs=1e-4)


class TestCrossValidation:
    def test_a_case_is_judged_by_settings_that_never_saw_it(self):
        large, small = SURE, (60.0, 1.0, 0.0, False, (1, 1))
        found = table((True, *large), (False, *small), (True, *large), (True, *small), cases=["a", "a", "b", "b"])
        folds, kept = cross_validate(found, [["a"], ["b"]], TINY, BASE)
        # Without b, 100 mm³ drops the false candidate of a; judged by that, b loses its small tumor.
        assert [fold.settings.min_volume_mm3 for fold in folds] == [0.0, 100.0]
        assert [fold.left_out for fold in folds] == [("a",), ("b",)]
        assert kept.tolist() == [True, True, True, False]

    @pytest.mark.parametrize(
        ("true", "left_out", "match"),
        [
            ((True, True), [["a"]], "leave b in none"),
            ((True, True), [["a", "b"], ["b"]], "a case in several"),
            ((True, False), [["a"], ["b"]], "meets a true tumor"),
        ],
    )
    def test_each_case_is_left_out_once_and_leaves_a_tumor_to_tune_on(self, true, left_out, match):
        found = table(*[(each, *SURE) for each in true], cases=["a", "b"])
        with pytest.raises(SettingsError, match=match):
            cross_validate(found, left_out, TINY, BASE)


IN_LEFT = (slice(6, 12), slice(6, 12), slice(32, 39))
BESIDE_RIGHT = (slice(6, 12), slice(6, 12), slice(0, 4))
MIDDLE_TOUCHING_RIGHT = (slice(6, 14), slice(6, 14), slice(14, 26))
FAR_BEHIND = (slice(0, 24), slice(19, 20), slice(20, 25))
SMALL_LUNGS = replace(BASE, merge_radius_mm=0.0, min_lungs_ml=0.0)


class TestMeasuring:
    @pytest.fixture
    def known(self, chest):
        grid, lungs, tumor = chest(IN_LEFT, BESIDE_RIGHT, MIDDLE_TOUCHING_RIGHT, FAR_BEHIND)
        truth = np.zeros_like(tumor)
        truth[6, 6, 32] = truth[6, 6, 14] = True  # a voxel of IN_LEFT, one of MIDDLE_TOUCHING_RIGHT
        truth[22, 1, 1] = True  # a tumor that nothing meets
        return KnownCase(name="a", tumor=tumor, truth=truth, lungs=lungs, grid=grid)

    def test_a_candidate_is_true_by_one_voxel(self, known):
        found = measure_known(known, SMALL_LUNGS, DISTANCES)
        assert sorted(found.volume_mm3[found.true]) == [6 * 6 * 7.0, 8 * 8 * 12.0]

    def test_the_table_says_what_the_filter_says_at_every_distance(self, known):
        found = measure_known(known, SMALL_LUNGS, (0.0, 2.0, 5.0, 10.0))
        for distance, share in product((0.0, 2.0, 5.0, 10.0), (0.0, 0.3, 0.6)):
            settings = replace(SMALL_LUNGS, rescue_distance_mm=distance, rescue_near_surface_share_central=share)
            filtered = filter_candidates(known.tumor, known.grid, known.lungs, settings)
            assert kept_by(found, settings).tolist() == [candidate.kept for candidate in filtered.candidates]

    def test_lungs_that_cannot_be_used_are_known_to_the_table_and_an_empty_prediction_has_no_rows(self, known):
        found = measure_known(replace(known, lungs=None), SMALL_LUNGS, DISTANCES)
        assert not found.judged.any()
        assert kept_by(found, SMALL_LUNGS).all()
        found = measure_known(replace(known, tumor=np.zeros_like(known.tumor)), SMALL_LUNGS, DISTANCES)
        assert len(found) == len(Measurements.joined([found, found])) == 0

    def test_the_same_patient_laid_out_in_another_way_is_tuned_alike(self, known, layout):
        arrays = {name: layout.array(getattr(known, name)) for name in ("tumor", "truth", "lungs")}
        laid = KnownCase(name="a", **arrays, grid=layout.grid(known.grid))
        plain, other = (measure_known(each, SMALL_LUNGS, DISTANCES) for each in (known, laid))
        assert best_settings(other, TINY, SMALL_LUNGS) == best_settings(plain, TINY, SMALL_LUNGS)
        np.testing.assert_array_equal(other.true, plain.true)
        np.testing.assert_allclose(other.near_surface_share, plain.near_surface_share)

    def test_columns_of_different_length_are_refused(self):
        found = table((True, *SURE))
        with pytest.raises(SettingsError, match="one row per candidate"):
            replace(found, volume_mm3=np.zeros(2))
