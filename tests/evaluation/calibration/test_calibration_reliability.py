"""The reliability diagram: values and picture."""

import math

import numpy as np
import pytest
from matplotlib import image

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation.calibration.counts import count_voxels
from nnunet_cascade.evaluation.calibration.reliability import draw_reliability, reliability_points
from nnunet_cascade.evaluation.statistics.bootstrap import Resampling

FEW_DRAWS = Resampling(resamples=100)


def test_points_are_means_of_their_bins(calibrated):
    p, y = calibrated(20_000)
    points = reliability_points([count_voxels(p, y)], FEW_DRAWS)
    place = np.minimum((p * 15).astype(int), 14)
    assert [point.voxels for point in points] == np.bincount(place, minlength=15).tolist()
    assert points[3].mean_probability == pytest.approx(p[place == 3].mean())
    assert points[3].tumor_share == pytest.approx(y[place == 3].mean())
    assert (points[0].low, points[-1].high) == (0.0, 1.0)
    assert all(point.interval is None for point in points)


def test_intervals_hold_the_diagonal_of_calibrated_cases(counted):
    points = reliability_points([counted(5000) for _ in range(12)], FEW_DRAWS)
    holding = [p for p in points if p.interval.low - 0.01 <= p.mean_probability <= p.interval.high + 0.01]
    assert len(holding) >= 13


def test_a_bin_without_voxels_has_no_point():
    points = reliability_points([count_voxels(np.array([0.05]), np.array([False]))], FEW_DRAWS)
    assert points[0].tumor_share == 0
    assert all(math.isnan(point.tumor_share) and point.interval is None for point in points[1:])


def test_a_bin_that_two_cases_fill_has_no_interval():
    high = count_voxels(np.array([0.99, 0.98]), np.array([True, False]))
    low = count_voxels(np.array([0.01, 0.02]), np.array([True, False]))
    points = reliability_points([high, high, low, low, low], FEW_DRAWS)
    assert points[-1].interval is None
    assert points[0].interval is not None


def test_the_picture_is_grey_and_tells_methods_apart(counted, tmp_path):
    curves = {
        name: reliability_points([counted(2000, sharpness=s) for _ in range(3)], FEW_DRAWS)
        for name, s in (("before", 2.0), ("after", 1.0))
    }
    path = tmp_path / "reliability.png"
    draw_reliability(curves, path, title="synthetic, n = 3")
    pixels = image.imread(path)[..., :3]
    assert pixels.std() > 0.05
    assert np.ptp(pixels, axis=-1).max() < 0.02
    draw_reliability({"before": curves["before"]}, tmp_path / "one.png", title="synthetic, n = 3")
    assert (tmp_path / "one.png").read_bytes() != path.read_bytes()


def test_too_many_methods_and_no_case_are_refused(counted, tmp_path):
    points = reliability_points([counted(10)], FEW_DRAWS)
    with pytest.raises(SettingsError, match="expected 1 to 5"):
        draw_reliability(dict.fromkeys("abcdef", points), tmp_path / "a.png", title="")
    with pytest.raises(SettingsError, match="at least one"):
        reliability_points([])
