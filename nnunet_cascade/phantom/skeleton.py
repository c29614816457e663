"""The bones: spine, ribs, breastbone, collarbones and shoulder blades."""

from __future__ import annotations

import numpy as np

from nnunet_cascade.geometry import Vector
from nnunet_cascade.phantom.canvas import Canvas
from nnunet_cascade.phantom.chest import cavity, column_mm
from nnunet_cascade.phantom.patient import PhantomPatient
from nnunet_cascade.phantom.points import Field, Points
from nnunet_cascade.phantom.regions import TissueRegion, Tube, ellipsoid, smooth_max

_CORTEX_HU, _MARROW_HU = 640.0, 200.0
_DISC_HU, _CARTILAGE_HU, _CANAL_HU = 85.0, 110.0, 25.0
_CORTEX_MM = 1.8
_VERTEBRA_MM, _RIB_PITCH_MM = 25.0, 25.0
_RIB_FALL = 0.45
_RIB_DEPTH_MM, _RIB_RADIUS_MM = 7.0, 4.4
_FAR_MM = 400.0


def paint_skeleton(canvas: Canvas, patient: PhantomPatient) -> None:
    """Paint all bones, cortex outside and marrow inside."""
    canvas.paint(_column(patient, (0, 0), (18, 14)), _DISC_HU)
    ribs = _rib_cage(patient, from_middle_mm=26, in_front=False)
    for part in (_arches(patient), _vertebrae(patient), ribs, _sternum(patient), *_shoulder_blades(patient)):
        canvas.paint(part, _CORTEX_HU)
        canvas.paint(part.grown(-_CORTEX_MM), _MARROW_HU)
    canvas.paint(_column(patient, (0, 22), (8, 8)), _CANAL_HU)
    canvas.paint(_rib_cage(patient, from_middle_mm=15, in_front=True), _CARTILAGE_HU)
    collarbones = _collarbones(patient)
    canvas.paint_tubes(collarbones, _CORTEX_HU)
    canvas.paint_tubes(collarbones, _MARROW_HU, grown_mm=-_CORTEX_MM)


def _column(patient: PhantomPatient, offset_mm: tuple[float, float], radii_mm: tuple[float, float]) -> TissueRegion:
    x, y = offset_mm[0], patient.spine_y_mm + offset_mm[1]
    return TissueRegion(
        low_mm=(x - radii_mm[0], y - radii_mm[1], -_FAR_MM),
        high_mm=(x + radii_mm[0], y + radii_mm[1], _FAR_MM),
        distance_mm=lambda points: column_mm(points, (x, y), radii_mm),
    )


def _vertebrae(patient: PhantomPatient) -> TissueRegion:
    column = _column(patient, (0, 0), (19, 15))

    def distance_mm(points: Points) -> Field:
        return smooth_max(column.distance_mm(points), _from_level(patient, points) - np.float32(10), 4)

    return TissueRegion(low_mm=column.low_mm, high_mm=column.high_mm, distance_mm=distance_mm)


def _arches(patient: PhantomPatient) -> TissueRegion:
    ring, process = _column(patient, (0, 22), (14, 13)), _column(patient, (0, 35), (4, 12))
    wing = _column(patient, (0, 24), (34, 5))

    def distance_mm(points: Points) -> Field:
        away = _from_level(patient, points)
        spine = np.minimum(process.distance_mm(points), wing.distance_mm(points))
        return np.minimum(np.maximum(ring.distance_mm(points), away - 11), smooth_max(spine, away - np.float32(6), 4))

    low: Vector = (wing.low_mm[0], ring.low_mm[1], -_FAR_MM)
    return TissueRegion(low_mm=low, high_mm=(wing.high_mm[0], process.high_mm[1], _FAR_MM), distance_mm=distance_mm)


def _from_level(patient: PhantomPatient, points: Points) -> Field:
    """Return the distance along the spine to the middle of the nearest vertebra."""
    rest = np.mod(points.z - np.float32(patient.rib_phase_mm), np.float32(_VERTEBRA_MM))
    return np.abs(rest - np.float32(_VERTEBRA_MM / 2))


def _rib_cage_mm(patient: PhantomPatient, points: Points) -> Field:
    depth = cavity(patient).distance_mm(points) - np.float32(_RIB_DEPTH_MM)
    height = points.z + np.float32(_RIB_FALL) * (patient.spine_y_mm - points.y) - np.float32(patient.rib_phase_mm)
    rest = np.mod(height, np.float32(_RIB_PITCH_MM)) - np.float32(_RIB_PITCH_MM / 2)
    return np.sqrt(depth**2 + (np.float32(0.72) * rest) ** 2) - np.float32(_RIB_RADIUS_MM)


def _rib_cage(patient: PhantomPatient, *, from_middle_mm: float, in_front: bool) -> TissueRegion:
    """Return the cartilages, in front, or the ribs behind them."""
    front, highest = patient.center_y_mm - 0.72 * patient.half_depth_mm, np.float32(patient.apex_z_mm + 2)
    inside, out = cavity(patient), _RIB_DEPTH_MM + _RIB_RADIUS_MM

    def distance_mm(points: Points) -> Field:
        behind = points.y - front if in_front else front - points.y
        ends = np.maximum(behind, np.maximum(from_middle_mm - np.abs(points.x), points.z - highest))
        return smooth_max(_rib_cage_mm(patient, points), ends.astype(np.float32), 3)

    low, high = inside.low_mm, inside.high_mm
    return TissueRegion(
        low_mm=(low[0] - out, low[1] - out, low[2]),
        high_mm=(high[0] + out, high[1] + out, high[2] + out),
        distance_mm=distance_mm,
    )


def _sternum(patient: PhantomPatient) -> TissueRegion:
    front = patient.center_y_mm - patient.half_depth_mm - 7
    return ellipsoid((0, front, 18), (17, 6, 72), np.array([[1, 0, 0], [0, 0.99, 0.14], [0, -0.14, 0.99]]))


def _shoulder_blades(patient: PhantomPatient) -> list[TissueRegion]:
    inside = cavity(patient)
    x, y = 0.72 * patient.half_width_mm, patient.center_y_mm + 0.75 * patient.half_depth_mm

    def plate(side: int) -> TissueRegion:
        window = ellipsoid((side * x, y, 62), (44, 44, 58))

        def distance_mm(points: Points) -> Field:
            sheet = np.abs(inside.distance_mm(points) - np.float32(22)) - np.float32(3)
            return smooth_max(sheet, window.distance_mm(points), 3)

        return TissueRegion(low_mm=window.low_mm, high_mm=window.high_mm, distance_mm=distance_mm)

    return [plate(-1), plate(1)]


def _collarbones(patient: PhantomPatient) -> list[Tube]:
    front, top = patient.center_y_mm - 0.75 * patient.half_depth_mm, patient.apex_z_mm
    return [
        Tube(
            start_mm=(side * 14, front, top - 24),
            stop_mm=(side * 118, front + 36, top + 8),
            start_radius_mm=6.5,
            stop_radius_mm=6,
        )
        for side in (-1, 1)
    ]
