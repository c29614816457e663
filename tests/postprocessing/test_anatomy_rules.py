from dataclasses import replace

import pytest
from builders.plain_candidates import plain_candidate as candidate

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.postprocessing.candidates import Verdict
from nnunet_cascade.postprocessing.rules import decide, keep_top
from nnunet_cascade.postprocessing.settings import AnatomySettings

SETTINGS = AnatomySettings(rescue_min_volume_mm3=200.0)
HALF = "50 % of it lies in the lungs (needs 80 %)"
NEAR = "it lies 0.0 mm from the nearest lung (may lie 5 mm)"
SURFACE = "its surface lies within 5 mm of a lung (needs 40 % in the central zone)"
CENTRAL_HALF = "50 % of it lies in the lungs (needs 90 % in the central zone)"


@pytest.mark.parametrize(
    ("changes", "rule", "reason"),
    [
        ({"volume_mm3": 99.9, "lung_overlap": 1.0}, "minimum_volume", "its volume is 100 mm³ (needs 100 mm³)"),
        ({"volume_mm3": 100.0, "lung_overlap": 0.91}, "lung_overlap", "91 % of it lies in the lungs (needs 80 %)"),
        ({"lung_overlap": 0.8}, "lung_overlap", None),
        ({"lung_overlap": 0.9, "central": True}, "lung_overlap", None),
        ({"lung_overlap": 0.79}, "rescue", None),
        ({"lung_overlap": 0.85, "central": True}, "rescue", None),
        (
            {"lung_distance_mm": 5.0, "near_surface_share": 0.0},
            "rescue",
            "it lies 5.0 mm from the nearest lung (may lie 5 mm) and its volume is 1000 mm³",
        ),
        (
            {"lung_distance_mm": 5.1},
            "outside_lungs",
            f"{HALF}, and it lies 5.1 mm from the nearest lung (may lie 5 mm)",
        ),
        ({"volume_mm3": 200.0}, "rescue", None),
        ({"volume_mm3": 199.0}, "outside_lungs", f"{HALF}, and its volume is 199 mm³ (needs 200 mm³ to be rescued)"),
        (
            {"central": True, "near_surface_share": 0.4},
            "rescue",
            f"{NEAR} and its volume is 1000 mm³, and 40 % of {SURFACE}",
        ),
        ({"central": True, "near_surface_share": 0.39}, "outside_lungs", f"{CENTRAL_HALF}, and 39 % of {SURFACE}"),
        (
            {"lung_overlap": None, "lung_distance_mm": None},
            "no_lungs",
            "the lung mask is empty, so where its 1000 mm³ lie was not judged",
        ),
        ({"volume_mm3": 60.0, "lung_distance_mm": None}, "minimum_volume", None),
    ],
)
def test_the_first_rule_that_settles_it_decides_and_says_why(changes, rule, reason):
    verdict = decide(candidate(**changes), SETTINGS, no_lungs="the lung mask is empty").verdict
    assert (verdict.rule, verdict.kept) == (rule, rule not in {"minimum_volume", "outside_lungs"})
    assert reason in (None, verdict.reason)


def test_in_the_central_zone_the_surface_can_be_left_out():
    settings = replace(SETTINGS, rescue_near_surface_share_central=0.0)
    verdict = decide(candidate(central=True, near_surface_share=0.0), settings).verdict
    assert (verdict.rule, "surface" in verdict.reason) == ("rescue", False)


def ranked(*volumes_and_probabilities):
    kept = Verdict(kept=True, rule="lung_overlap", reason="")
    return [
        candidate(id=number, volume_mm3=volume, mean_probability=probability, verdict=kept)
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
    chosen = keep_top([dropped, second, third], 1, by="volume")
    assert chosen[:2] == (dropped, second)
    why = "it comes 2. by volume (100 mm³) and only the first 1 of those kept stay"
    assert chosen[2].verdict == Verdict(kept=False, rule="top_k", reason=why)


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
