"""Spheres, whose distances are known: how far voxels are off, and no farther.

A surface voxel's center lies inside the sphere, and one of its face neighbors' outside: it is nearer to the sphere
than the largest voxel size s. From any point q of the sphere go half a diagonal inward and as far outward: every voxel
on that way has its center within half a diagonal of it; the first is inside, the last is outside, so there is a
surface voxel among them, within a diagonal d of q. A distance D between spheres is thus met to D − 2s … D + s + d.
"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_cascade.evaluation.case import score_case

SPACINGS_MM = [(1.0, 1.0, 1.0), (3.0, 0.977, 0.977), (1.25, 0.7, 2.0)]
OFFSETS = st.tuples(*[st.floats(0, 1)] * 3)


def ball(radius_mm, offset, spacing_mm, *, shift_mm=(0.0, 0.0, 0.0)):
    """Draw a ball whose center lies `offset` voxels and `shift_mm` off the middle of an image of 64 mm."""
    axes = np.ogrid[tuple(slice(math.ceil(64 / size)) for size in spacing_mm)]
    squares = [
        ((axis - 32 / size - part) * size - shift) ** 2
        for axis, size, part, shift in zip(axes, spacing_mm, offset, shift_mm, strict=True)
    ]
    return sum(squares) <= radius_mm**2


def bounds_mm(distance_mm, spacing_mm):
    """Give the least and the largest that voxels may make of a distance."""
    largest = max(spacing_mm)
    return distance_mm - 2 * largest, distance_mm + largest + math.hypot(*spacing_mm)


@pytest.mark.parametrize("spacing_mm", SPACINGS_MM)
@settings(deadline=None, max_examples=10)
@given(OFFSETS, st.floats(8, 24), st.floats(8, 24))
def test_distances_volumes_and_dice_are_those_of_concentric_spheres(spacing_mm, offset, one_mm, other_mm):
    score = score_case("a", ball(one_mm, offset, spacing_mm), ball(other_mm, offset, spacing_mm), spacing_mm)
    low_mm, high_mm = bounds_mm(abs(one_mm - other_mm), spacing_mm)
    for found_mm in (score.hd_mm, score.hd95_mm, score.hd95_pooled_mm, score.assd_mm):
        assert low_mm <= found_mm <= high_mm
    # volumes and Dice lie between those of spheres half a diagonal off
    half_mm = math.hypot(*spacing_mm) / 2
    (one_low, one_high), (other_low, other_high) = (
        tuple(4 / 3 * math.pi * (radius_mm + off_mm) ** 3 / 1000 for off_mm in (-half_mm, half_mm))
        for radius_mm in (one_mm, other_mm)
    )
    assert one_low <= score.reference_ml <= one_high
    assert other_low - one_high <= score.volume_error_ml <= other_high - one_low
    small, large = (min(one_low, other_low), max(one_high, other_high))
    assert 2 * small / (small + large) <= score.dice <= 1


@pytest.mark.parametrize("spacing_mm", SPACINGS_MM)
@settings(deadline=None, max_examples=10)
@given(OFFSETS, st.tuples(*[st.floats(-6, 6)] * 3))
def test_the_hausdorff_distance_of_a_moved_sphere_is_the_length_of_the_move(spacing_mm, offset, shift_mm):
    fixed, moved = ball(16, offset, spacing_mm), ball(16, offset, spacing_mm, shift_mm=shift_mm)
    low_mm, high_mm = bounds_mm(math.hypot(*shift_mm), spacing_mm)
    assert low_mm <= score_case("a", fixed, moved, spacing_mm).hd_mm <= high_mm


@pytest.mark.parametrize("spacing_mm", SPACINGS_MM)
@pytest.mark.parametrize("gap_mm", [0.0, 1.0, 4.0, 9.0])
def test_nsd_of_concentric_spheres_is_all_or_nothing_but_for_the_voxels(spacing_mm, gap_mm):
    offset = (0.3, 0.6, 0.1)
    score = score_case("a", ball(20, offset, spacing_mm), ball(20 - gap_mm, offset, spacing_mm), spacing_mm)
    low_mm, high_mm = bounds_mm(gap_mm, spacing_mm)
    for tolerance_mm, found in ((1.0, score.nsd_1mm), (2.0, score.nsd_2mm), (3.0, score.nsd_3mm)):
        assert found == 0 or tolerance_mm >= low_mm
        assert found == 1 or tolerance_mm < high_mm
