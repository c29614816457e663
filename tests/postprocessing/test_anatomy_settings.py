import json

import pytest

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.postprocessing.anatomy import AnatomySettings


def test_the_paper_merges_less_and_asks_for_less():
    paper = AnatomySettings.paper()
    assert (paper.merge_radius_mm, paper.merge_shape) == (1.0, "cube")
    assert (paper.min_volume_mm3, paper.rescue_min_volume_mm3) == (0.0, 50.0)
    assert (paper.rescue_near_surface_share_central, paper.min_lung_overlap) == (0.0, 0.8)
    assert AnatomySettings(**json.loads(json.dumps(paper.to_dict()))) == paper


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min_lung_overlap", 1.1),
        ("central_zone_share", "half"),
        ("rescue_near_surface_share_central", float("nan")),
        ("rescue_min_volume_mm3", float("inf")),
        ("min_volume_mm3", True),
        ("merge_radius_mm", None),
        ("merge_radius_mm", 30.0),
        ("merge_shape", "disc"),
        ("top_k", 0),
        ("top_k", "some"),
        ("rank_by", "beauty"),
        ("keep_best_if_none", 1),
        ("min_lungs_ml", 20000.0),
    ],
)
def test_nonsense_is_refused_by_name(name, value):
    with pytest.raises(SettingsError, match=name.removesuffix("_mm").replace("merge_", "merge.")):
        AnatomySettings(**{name: value})
