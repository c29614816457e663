from dataclasses import replace

import numpy as np
import pytest

from nnunet_cascade.errors import GridMismatchError
from nnunet_cascade.postprocessing.anatomy import AnatomySettings, filter_candidates
from nnunet_cascade.postprocessing.lungs.result import LungMask

SMALL_LUNGS = {"min_lungs_ml": 0.0}
ALL = replace(AnatomySettings.recommended(), top_k="all", merge_radius_mm=0.0, **SMALL_LUNGS)
PAPER = replace(AnatomySettings.paper(), top_k="all", **SMALL_LUNGS)

IN_RIGHT = (slice(6, 12), slice(6, 12), slice(6, 12))
IN_LEFT = (slice(6, 12), slice(6, 12), slice(32, 39))
BESIDE_RIGHT = (slice(6, 12), slice(6, 12), slice(0, 4))
MIDDLE_TOUCHING_RIGHT = (slice(6, 14), slice(6, 14), slice(14, 26))
FAR_BEHIND = (slice(0, 24), slice(19, 20), slice(20, 25))


def rules_of(found):
    return [(candidate.verdict.rule, candidate.kept) for candidate in found.candidates]


def reason_of(found):
    return found.candidates[0].verdict.reason


def test_what_lies_in_the_lungs_is_kept_and_what_lies_far_off_is_dropped(chest):
    grid, lungs, tumor = chest(IN_LEFT, FAR_BEHIND)
    found = filter_candidates(tumor, grid, lungs, ALL)
    assert rules_of(found) == [("lung_overlap", True), ("outside_lungs", False)]
    assert found.flags == ()
    np.testing.assert_array_equal(found.kept_mask(), found.labels == 1)


def test_what_lies_wholly_outside_but_near_is_rescued(chest):
    grid, lungs, tumor = chest(BESIDE_RIGHT)
    for settings in (PAPER, ALL):
        found = filter_candidates(tumor, grid, lungs, settings)
        assert found.candidates[0].lung_overlap == 0
        assert rules_of(found) == [("rescue", True)]


def test_in_the_central_zone_only_recommended_asks_for_the_surface(chest):
    deep = (slice(6, 14), slice(6, 14), slice(14, 30))
    grid, lungs, tumor = chest(deep)
    lungs[:, :, 30:38] = False
    assert rules_of(filter_candidates(tumor, grid, lungs, PAPER)) == [("rescue", True)]
    found = filter_candidates(tumor, grid, lungs, ALL)
    assert rules_of(found) == [("outside_lungs", False)]
    # Within 5 mm of the lung that ends at x 13 lie the columns x 14 to 18: a face of 64 voxels and four rings of 28,
    # of a surface of two faces and fourteen rings.
    assert found.candidates[0].near_surface_share == pytest.approx((64 + 4 * 28) / (2 * 64 + 14 * 28))
    assert "34 % of its surface lies within 5 mm of a lung (needs 40 % in the central zone)" in reason_of(found)


def test_verdicts_do_not_depend_on_how_the_array_is_laid_out(chest, layout, tilted):
    grid, lungs, tumor = chest(IN_RIGHT, IN_LEFT, BESIDE_RIGHT, MIDDLE_TOUCHING_RIGHT, FAR_BEHIND)
    for given_grid in (grid, tilted(grid)):
        plain = filter_candidates(tumor, given_grid, lungs, ALL)
        laid = filter_candidates(layout.array(tumor), layout.grid(given_grid), layout.array(lungs), ALL)
        assert [c.verdict for c in laid.candidates] == [c.verdict for c in plain.candidates]
        np.testing.assert_array_equal(laid.labels, layout.array(plain.labels))
        for here, there in zip(plain.candidates, laid.candidates, strict=True):
            assert there.side == here.side
            assert there.centroid_mm == pytest.approx(here.centroid_mm)


@pytest.mark.parametrize(
    ("lungs_of", "flag", "words"),
    [
        (lambda *_: None, "lungs_missing", "no lung mask"),
        (lambda lungs, _: np.zeros_like(lungs), "lungs_empty", "empty"),
        (lambda lungs, _: lungs, "lungs_implausible", "6 ml"),
        (lambda lungs, _: np.ones_like(lungs), "lungs_implausible", "21 ml"),
        (lambda lungs, grid: sided(lungs, grid).with_flag("lungs_misplaced"), "lungs_misplaced", "hardly any"),
    ],
)
def test_lungs_that_cannot_be_trusted_drop_nothing_and_are_flagged(chest, lungs_of, flag, words):
    grid, lungs, tumor = chest(IN_LEFT, FAR_BEHIND, (slice(0, 1), slice(0, 1), slice(0, 1)))
    settings = replace(ALL, min_lungs_ml=0.0 if flag == "lungs_misplaced" else 10.0, max_lungs_ml=20.0)
    found = filter_candidates(tumor, grid, lungs_of(lungs, grid), settings)
    assert found.flags == (flag,)
    assert rules_of(found) == [("no_lungs", True), ("no_lungs", True), ("minimum_volume", False)]
    assert words in found.candidates[0].verdict.reason


def sided(lungs, grid, *, right=1, left=2):
    """The box lungs with their sides, some of it taken away."""
    labels = lungs.astype(np.uint8) * right
    labels[:, :, 22:][lungs[:, :, 22:]] = left
    return LungMask.of(labels, grid, source="test")


@pytest.mark.parametrize(("rows", "judged"), [(14, True), (2, True), (1, False), (0, False)])
def test_one_lung_alone_drops_nothing_and_is_flagged(chest, rows, judged):
    # The right lung keeps `rows` of its 14 rows: a tenth of the left one is 1.4 rows.
    grid, lungs, tumor = chest(IN_LEFT, FAR_BEHIND)
    lungs[:, 3 + rows : 17, 4:14] = False
    found = filter_candidates(tumor, grid, sided(lungs, grid), ALL)
    assert found.flags == (() if judged else ("one_lung_small",))
    rules = [("lung_overlap", True), ("outside_lungs", False)] if judged else [("no_lungs", True)] * 2
    assert rules_of(found) == rules


def test_one_lung_alone_can_be_taken_for_the_lungs_and_without_sides_none_is_missed(chest):
    grid, lungs, tumor = chest(IN_LEFT, FAR_BEHIND)
    lungs[:, :, 4:14] = False
    alone = sided(lungs, grid)
    found = filter_candidates(tumor, grid, alone, ALL)
    assert "one lung has 0 % of the other's volume (needs 10 %)" in reason_of(found)
    found = filter_candidates(tumor, grid, alone, replace(ALL, min_smaller_lung_share=0.0))
    assert rules_of(found) == [("lung_overlap", True), ("outside_lungs", False)]
    for given_lungs in (lungs, sided(lungs, grid, right=3, left=3)):
        assert filter_candidates(tumor, grid, given_lungs, ALL).flags == ()


def test_an_empty_mask_has_no_candidates(chest):
    grid, lungs, tumor = chest()
    found = filter_candidates(tumor, grid, lungs, ALL)
    assert (found.candidates, found.kept, found.flags) == ((), (), ())
    assert not found.kept_mask().any()


@pytest.mark.parametrize(("kind", "right", "left"), [("probability", 0.9, 0.6), ("uncertainty", 0.02, 0.1)])
def test_ranking_by_a_map_keeps_the_likeliest_or_the_surest(chest, kind, right, left):
    grid, lungs, tumor = chest(IN_RIGHT, IN_LEFT)
    values = np.zeros(grid.shape, dtype=np.float32)
    values[IN_RIGHT], values[IN_LEFT] = right, left
    settings = replace(ALL, top_k=1, rank_by=f"mean_{kind}")
    found = filter_candidates(tumor, grid, lungs, settings, **{kind: values})
    assert [candidate.side for candidate in found.kept] == ["right"]


def test_when_all_are_rejected_the_first_by_rank_can_be_kept(chest):
    small = (slice(0, 1), slice(0, 1), slice(20, 21))
    grid, lungs, tumor = chest(FAR_BEHIND, small)
    none = filter_candidates(tumor, grid, lungs, ALL)
    assert (none.kept, none.flags) == ((), ("all_rejected",))
    probability = np.where(tumor, np.float32(0.5), np.float32(0))
    probability[small] = 0.9
    settings = replace(ALL, keep_best_if_none=True, rank_by="mean_probability")
    found = filter_candidates(tumor, grid, lungs, settings, probability=probability)
    assert ([candidate.voxels for candidate in found.kept], found.flags) == ([1], ("all_rejected", "best_kept"))
    assert found.kept[0].verdict.reason == "the rules rejected all 2 and this is the first by mean probability (0.90)"


@pytest.mark.parametrize("what", ["tumor mask", "lung mask", "probability map"])
def test_arrays_of_another_shape_are_refused_by_name(chest, what):
    grid, lungs, tumor = chest(IN_LEFT)
    arrays_of = {"tumor mask": tumor, "lung mask": lungs, "probability map": np.zeros(grid.shape, dtype=np.float32)}
    arrays_of[what] = arrays_of[what][1:]
    with pytest.raises(GridMismatchError, match=what):
        filter_candidates(
            arrays_of["tumor mask"], grid, arrays_of["lung mask"], ALL, probability=arrays_of["probability map"]
        )


def test_the_filter_is_in_millimetres_not_voxels(chest):
    grid, lungs, tumor = chest((slice(6, 12), slice(6, 12), slice(0, 2)))
    assert rules_of(filter_candidates(tumor, grid, lungs, ALL)) == [("minimum_volume", False)]
    coarse = replace(grid, spacing_mm=(2.0, 2.0, 2.0))
    assert filter_candidates(tumor, coarse, lungs, ALL).candidates[0].lung_distance_mm == pytest.approx(6.0)
    assert rules_of(filter_candidates(tumor, coarse, lungs, ALL)) == [("outside_lungs", False)]
