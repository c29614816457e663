from dataclasses import replace

import pytest
from builders.plain_candidates import plain_candidate as candidate

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.postprocessing.candidates import Verdict
from nnunet_cascade.postprocessing.rules import KeepWithoutLungs, LungOverlap, MinimumVolume, Rescue, decide, keep_top

KEPT = Verdict(kept=True, rule="lung_overlap", reason="")
SIZE = MinimumVolume(min_volume_mm3=100.0)
OVERLAP = LungOverlap(min_share=0.8, min_share_central=0.9)
BOTH_CENTRAL_SHORTFALLS = (
    "50 % of it lies in the lungs (needs 90 % in the central zone), and "
    "20 % of its surface lies within 5 mm of a lung (needs 40 % in the central zone)"
)
RESCUE = Rescue(max_distance_mm=5.0, min_volume_mm3=50.0, min_near_surface_central=0.4)


@pytest.mark.parametrize(("volume_mm3", "say"), [(99.9, "drop"), (100.0, "pass"), (5000.0, "pass")])
def test_too_small_is_dropped(volume_mm3, say):
    assert SIZE.judge(candidate(volume_mm3=volume_mm3)).say == say


@pytest.mark.parametrize(
    ("overlap", "central", "say"),
    [(0.8, False, "keep"), (0.79, False, "pass"), (0.85, True, "pass"), (0.9, True, "keep"), (None, False, "pass")],
)
def test_enough_overlap_keeps_and_the_central_zone_asks_for_more(overlap, central, say):
    assert OVERLAP.judge(candidate(lung_overlap=overlap, central=central)).say == say


@pytest.mark.parametrize(
    ("changes", "say"),
    [
        ({"lung_distance_mm": 5.0}, "keep"),
        ({"lung_distance_mm": 5.1}, "pass"),
        ({"volume_mm3": 49.0}, "pass"),
        ({"volume_mm3": 50.0}, "keep"),
        ({"central": True, "near_surface_share": 0.4}, "keep"),
        ({"central": True, "near_surface_share": 0.39}, "pass"),
        ({"central": False, "near_surface_share": 0.0}, "keep"),
        ({"lung_distance_mm": None}, "pass"),
    ],
)
def test_near_and_large_enough_is_rescued(changes, say):
    assert RESCUE.judge(candidate(**changes)).say == say


def test_the_first_rule_that_does_not_pass_decides():
    rules = (SIZE, OVERLAP, RESCUE)
    assert decide(candidate(volume_mm3=60.0, lung_overlap=1.0), rules).verdict.rule == "minimum_volume"
    assert decide(candidate(lung_overlap=0.9), rules).verdict.rule == "lung_overlap"
    assert decide(candidate(), rules).verdict.rule == "rescue"
    assert decide(candidate(lung_distance_mm=9.0), rules).verdict.rule == "outside_lungs"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"volume_mm3": 60.0}, "its volume is 60 mm³ (needs 100 mm³)"),
        ({"lung_overlap": 0.91}, "91 % of it lies in the lungs (needs 80 %)"),
        ({"lung_distance_mm": 2.0}, "it lies 2.0 mm from the nearest lung (may lie 5 mm) and its volume is 1000 mm³"),
        (
            {"lung_overlap": 0.12, "lung_distance_mm": 14.2},
            "12 % of it lies in the lungs (needs 80 %), and it lies 14.2 mm from the nearest lung (may lie 5 mm)",
        ),
        ({"central": True, "near_surface_share": 0.2}, BOTH_CENTRAL_SHORTFALLS),
    ],
)
def test_reasons_give_the_numbers(changes, reason):
    assert decide(candidate(**changes), (SIZE, OVERLAP, RESCUE)).verdict.reason == reason


def test_a_candidate_that_no_rule_judges_is_dropped():
    assert decide(candidate(), ()).verdict == Verdict(kept=False, rule="outside_lungs", reason="no rule kept it")


def test_without_lungs_everything_is_kept():
    verdict = decide(candidate(lung_overlap=None), (KeepWithoutLungs(why="the lung mask is empty"),)).verdict
    assert verdict.kept
    assert "the lung mask is empty" in verdict.reason
    assert "1000 mm³" in verdict.reason


def ranked(*volumes_and_probabilities):
    return [
        candidate(id=number, volume_mm3=volume, mean_probability=probability, verdict=KEPT)
        for number, (volume, probability) in enumerate(volumes_and_probabilities, start=1)
    ]


@pytest.mark.parametrize(
    ("count", "by", "kept"),
    [
        (1, "volume", [1]),
        (2, "volume", [1, 2]),
        ("all", "volume", [1, 2, 3]),
        (9, "volume", [1, 2, 3]),
        (1, "mean_probability", [2]),
        (2, "mean_probability", [2, 3]),
    ],
)
def test_top_k_leaves_the_best(count, by, kept):
    chosen = keep_top(ranked((300.0, 0.5), (200.0, 0.9), (100.0, 0.7)), count, by=by)
    assert [c.id for c in chosen if c.kept] == kept
    assert [c.id for c in chosen] == [1, 2, 3]


@pytest.mark.parametrize("more", [0.0, 2e-16], ids=["equal", "the last digits of a mean decide nothing"])
def test_ties_go_to_the_lower_id(more):
    chosen = keep_top(ranked((100.0, 0.7), (100.0, 0.7 + more)), 1, by="mean_probability")
    assert [c.kept for c in chosen] == [True, False]


def test_top_k_counts_only_what_was_kept_and_says_why():
    first, second, third = ranked((300.0, None), (200.0, None), (100.0, None))
    dropped = replace(first, verdict=Verdict(kept=False, rule="outside_lungs", reason="far"))
    chosen = keep_top([dropped, second, third], 1)
    assert [c.kept for c in chosen] == [False, True, False]
    assert chosen[0].verdict.reason == "far"
    assert chosen[2].verdict.rule == "top_k"
    assert chosen[2].verdict.reason == "it comes 2. by volume (100 mm³) and only the first 1 of those kept stay"


def test_the_least_uncertain_comes_first():
    doubtful, sure = (
        replace(item, mean_uncertainty=value) for item, value in zip(ranked((9, 1), (9, 1)), (2e-3, 1e-3), strict=True)
    )
    chosen = keep_top([doubtful, sure], 1, by="mean_uncertainty")
    assert [c.kept for c in chosen] == [False, True]
    assert chosen[0].verdict.reason == "it comes 2. by mean uncertainty (0.002) and only the first 1 of those kept stay"


@pytest.mark.parametrize("kind", ["probability", "uncertainty"])
def test_ranking_by_an_unknown_map_is_refused(kind):
    with pytest.raises(SettingsError, match=f"no {kind} map was given"):
        keep_top(ranked((100.0, None)), 1, by=f"mean_{kind}")
