import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.postprocessing.anatomy import AnatomySettings

SETTINGS = st.builds(
    AnatomySettings,
    merge_radius_mm=st.floats(0, 25),
    merge_shape=st.sampled_from(["ball", "cube"]),
    min_lung_overlap=st.floats(0, 1),
    top_k=st.one_of(st.just("all"), st.integers(1, 9)),
    rank_by=st.sampled_from(["volume", "mean_probability", "mean_uncertainty"]),
)


@given(settings=SETTINGS)
def test_settings_survive_json(settings):
    assert AnatomySettings(**json.loads(json.dumps(settings.to_dict()))) == settings


def test_presets_hold_the_numbers_of_the_decision():
    paper, recommended = AnatomySettings.paper(), AnatomySettings.recommended()
    assert (paper.merge_radius_mm, paper.merge_shape) == (1.0, "cube")
    assert (recommended.merge_radius_mm, recommended.merge_shape) == (3.0, "ball")
    assert (paper.min_volume_mm3, paper.rescue_min_volume_mm3, recommended.min_volume_mm3) == (0.0, 50.0, 100.0)
    assert (paper.rescue_near_surface_share_central, recommended.rescue_near_surface_share_central) == (0.0, 0.4)
    for preset in (paper, recommended):
        assert (preset.min_lung_overlap, preset.min_lung_overlap_central) == (0.8, 0.9)
        assert (preset.central_zone_share, preset.rescue_distance_mm) == (0.5, 5.0)
    assert (paper.top_k, recommended.top_k) == (1, "all")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min_lung_overlap", 1.1),
        ("min_lung_overlap_central", -0.1),
        ("central_zone_share", "half"),
        ("rescue_near_surface_share_central", float("nan")),
        ("rescue_distance_mm", -1.0),
        ("rescue_min_volume_mm3", float("inf")),
        ("min_volume_mm3", True),
        ("merge_radius_mm", None),
        ("merge_radius_mm", 30.0),
        ("merge_radius_mm", -2.0),
        ("merge_shape", "disc"),
        ("top_k", 0),
        ("top_k", 1.0),
        ("top_k", "some"),
        ("rank_by", "beauty"),
        ("keep_best_if_none", 1),
        ("min_lungs_ml", 20000.0),
        ("min_smaller_lung_share", 1.5),
    ],
)
def test_nonsense_is_refused_by_name(name, value):
    with pytest.raises(SettingsError, match=name.removesuffix("_mm").replace("merge_", "merge.")):
        AnatomySettings(**{name: value})
