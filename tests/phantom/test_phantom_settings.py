import math

import numpy as np
import pytest

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.phantom import placement
from nnunet_cascade.phantom.settings import FIELD_OF_VIEW_MM, PhantomSettings, grid_of_settings
from nnunet_cascade.phantom.thorax import make_phantom


@pytest.mark.parametrize(
    "wrong",
    [
        {"spacing_mm": (0.0, 3.0, 3.0)},
        {"spacing_mm": (3.0, math.nan, 3.0)},
        {"spacing_mm": (3.0, 3.0, 500.0)},
        {"orientation": "LPP"},
        {"orientation": "LP"},
        {"orientation": "lps"},
        {"noise_hu": -1.0},
        {"noise_hu": math.inf},
        {"tumors": (2, 1)},
        {"tumors": (-1, 1)},
        {"distractors": (0, 1000)},
        {"tumor_radius_mm": (0.0, 5.0)},
        {"tumor_radius_mm": (10.0, 90.0)},
        {"tumor_radius_mm": (math.nan, 10.0)},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(SettingsError):
        PhantomSettings(**wrong)


@pytest.mark.parametrize(
    ("seed", "more", "message"),
    [(-1, {}, "seed"), (0, {"tumors": (20, 20), "tumor_radius_mm": (29.0, 30.0)}, "no room")],
)
def test_a_negative_seed_and_more_lesions_than_there_is_room_for_are_refused(seed, more, message, monkeypatch):
    monkeypatch.setattr(placement, "_ATTEMPTS", 2)
    with pytest.raises(SettingsError, match=message):
        make_phantom(seed, PhantomSettings(spacing_mm=(20.0, 20.0, 20.0), **more))


@pytest.mark.parametrize("orientation", ["LPS", "RAI", "SAR", "PSL"])
def test_the_grid_covers_the_field_of_view_about_the_origin(orientation):
    grid = grid_of_settings(PhantomSettings(spacing_mm=(3.0, 5.0, 4.0), orientation=orientation))
    first = np.array(grid.world_mm((0, 0, 0)))
    last = np.array(grid.world_mm(tuple(n - 1.0 for n in grid.shape)))
    np.testing.assert_allclose(first + last, 0, atol=1e-9)
    np.testing.assert_allclose(np.abs(last - first), FIELD_OF_VIEW_MM, atol=8)


def test_the_letters_name_where_x_y_and_z_grow_to():
    grid = grid_of_settings(PhantomSettings(orientation="SAR"))
    assert grid.axes == ((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0))
