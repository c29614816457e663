"""The surfaces that everything else in the phantom is placed by: skin, chest cavity, diaphragm, heart, lungs."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from nnunet_cascade.geometry import Vector
from nnunet_cascade.phantom.patient import PhantomPatient
from nnunet_cascade.phantom.points import Field, Points, single
from nnunet_cascade.phantom.regions import TissueRegion, ellipsoid, smooth_max, superellipsoid_mm

_FAR_MM = 400.0
_MEDIAL_X_MM = 7.0
_HEART_AXES = np.array([[0.66, -0.46, -0.595], [0.57, 0.82, 0.0], [0.488, -0.339, 0.804]])
_CAVITY_POWER = 2.2
_BODY_POWER = 2.6
_PERICARDIUM_MM = 3.0


def body(patient: PhantomPatient) -> TissueRegion:
    """Return the body, to the skin; it leaves the field of view at the head and at the feet."""
    width, depth, y = patient.body_half_width_mm, patient.body_half_depth_mm, patient.body_y_mm

    def distance_mm(points: Points) -> Field:
        taper = 1 - 0.13 * smooth_step((points.z - 80) / 75) - 0.05 * smooth_step((-points.z - 50) / 100)
        return superellipsoid_mm(
            [(np.abs(points.x), single(width * taper)), (np.abs(points.y - y), single(depth * (1 + taper) / 2))],
            _BODY_POWER,
        )

    return TissueRegion(
        low_mm=(-width, y - depth, -_FAR_MM), high_mm=(width, y + depth, _FAR_MM), distance_mm=distance_mm
    )


def cavity(patient: PhantomPatient) -> TissueRegion:
    """Return what the ribs enclose, chest and upper abdomen together, open towards the feet."""
    width, depth = patient.half_width_mm, patient.half_depth_mm
    y, inner = patient.center_y_mm, patient.lung_x_mm

    def distance_mm(points: Points) -> Field:
        return superellipsoid_mm(
            [
                (np.maximum(np.abs(points.x) - inner, 0), width - inner),
                (np.abs(points.y - y), depth),
                (np.maximum(points.z - patient.shoulder_z_mm, 0), patient.apex_z_mm - patient.shoulder_z_mm),
            ],
            _CAVITY_POWER,
        )

    high: Vector = (width, y + depth, patient.apex_z_mm)
    return TissueRegion(low_mm=(-width, y - depth, -_FAR_MM), high_mm=high, distance_mm=distance_mm)


def diaphragm_z_mm(patient: PhantomPatient, points: Points) -> Field:
    """Return the height of the diaphragm: two domes, the right one higher, falling deepest at the back."""
    inner, drop = patient.lung_x_mm, patient.dome_drop_mm
    share = smooth_step((points.x + 25) / 50)
    top = patient.right_dome_z_mm + share * (patient.left_dome_z_mm - patient.right_dome_z_mm)
    across = np.abs(points.x) - inner
    aside = np.where(across > 0, across / (patient.half_width_mm - inner), 0.5 * across / inner)
    behind = (points.y - patient.center_y_mm + 0.2 * patient.half_depth_mm) / patient.half_depth_mm
    return single(top - np.float32(drop) * (aside**2 + behind**2))


def abdomen(patient: PhantomPatient) -> TissueRegion:
    """Return what lies inside the ribs and below the diaphragm."""
    inside = cavity(patient)
    high = (inside.high_mm[0], inside.high_mm[1], patient.right_dome_z_mm)

    def distance_mm(points: Points) -> Field:
        above = 0.8 * (points.z - diaphragm_z_mm(patient, points))
        return smooth_max(inside.distance_mm(points), above, 4)

    return TissueRegion(low_mm=inside.low_mm, high_mm=high, distance_mm=distance_mm)


def heart(patient: PhantomPatient) -> TissueRegion:
    """Return the heart, its long axis towards the left, the front and the feet."""
    return ellipsoid(patient.heart_mm, patient.heart_radii_mm, _HEART_AXES)


def lung(patient: PhantomPatient, side: int) -> TissueRegion:
    """Return the outline of a lung: +1 is the left one, −1 the right one.

    It leaves room for the heart, the mediastinum, the spine and the muscles of
    the back. What lies inside the outline, vessels, bronchi and tumours, is in it.
    """
    inside, beat = cavity(patient), heart(patient)
    low_x, high_x = (_MEDIAL_X_MM, patient.half_width_mm) if side > 0 else (-patient.half_width_mm, -_MEDIAL_X_MM)
    deepest = patient.left_dome_z_mm - 3 * patient.dome_drop_mm

    def distance_mm(points: Points) -> Field:
        below = 0.8 * (diaphragm_z_mm(patient, points) - points.z)
        distance = smooth_max(_lobe_mm(patient, points, side), below, 6)
        distance = smooth_max(distance, _PERICARDIUM_MM - beat.distance_mm(points), 8)
        return smooth_max(distance, -_middle_mm(patient, points), 8)

    return TissueRegion(
        low_mm=(low_x, inside.low_mm[1], deepest),
        high_mm=(high_x, inside.high_mm[1], patient.apex_z_mm),
        distance_mm=distance_mm,
    )


def smooth_step(t: ArrayLike) -> Field:
    """Rise from 0 at 0 to 1 at 1, level at both ends and beyond."""
    clipped = np.clip(single(t), 0, 1)
    return clipped**2 * (3 - 2 * clipped)


def column_mm(points: Points, center_mm: tuple[float, float], radii_mm: tuple[float, float]) -> Field:
    """Return the distance to an upright elliptic column at (x, y)."""
    x, y = np.float32(center_mm[0]), np.float32(center_mm[1])
    return superellipsoid_mm([(np.abs(points.x - x), radii_mm[0]), (np.abs(points.y - y), radii_mm[1])], 2)


def _lobe_mm(patient: PhantomPatient, points: Points, side: int) -> Field:
    across = side * points.x - np.float32(patient.lung_x_mm)
    lateral, medial = patient.half_width_mm - patient.lung_x_mm, patient.lung_x_mm - _MEDIAL_X_MM
    return superellipsoid_mm(
        [
            (np.abs(across), np.where(across > 0, np.float32(lateral), np.float32(medial))),
            (np.abs(points.y - patient.center_y_mm), patient.half_depth_mm),
            (np.maximum(points.z - patient.shoulder_z_mm, 0), patient.apex_z_mm - patient.shoulder_z_mm),
        ],
        _CAVITY_POWER,
    )


def _middle_mm(patient: PhantomPatient, points: Points) -> Field:
    y, depth = patient.center_y_mm, patient.half_depth_mm
    mediastinum = column_mm(points, (3, y - 8), (31, 0.66 * depth))
    spine = column_mm(points, (0, patient.spine_y_mm), (24, 22))
    back = column_mm(points, (0, y + 1.02 * depth), (40, 0.34 * depth))
    aorta = column_mm(points, (22, y + 0.42 * depth), (15, 15))
    return np.minimum(np.minimum(mediastinum, spine), np.minimum(back, aorta))
