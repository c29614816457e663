"""Everything soft: fat, muscle, the abdomen's organs, heart, vessels and lungs."""

from __future__ import annotations

import numpy as np

from nnunet_cascade.phantom.canvas import Canvas
from nnunet_cascade.phantom.chest import abdomen, body, cavity, column_mm, heart, lung, smooth_step
from nnunet_cascade.phantom.patient import PhantomPatient, stream
from nnunet_cascade.phantom.points import Field, Points
from nnunet_cascade.phantom.regions import TissueRegion, Tube, ellipsoid, path, smooth_max
from nnunet_cascade.phantom.trees import Trees
from nnunet_cascade.phantom.waves import draw_waves

SKIN_HU, FAT_HU, MUSCLE_HU, BLOOD_HU, LIVER_HU = 15.0, -100.0, 50.0, 45.0, 60.0
_CHEST_FAT_HU, _SPLEEN_HU, _CONTENT_HU, _GAS_HU = -85.0, 50.0, 15.0, -1000.0
_SKIN_MM = 2.0
_FAR_MM = 400.0


def paint_trunk(canvas: Canvas, patient: PhantomPatient, seed: int) -> None:
    """Paint skin, fat, the muscles of the wall and the fat inside the chest."""
    waves = draw_waves(stream(seed, "body texture"), (12, 60), 4)
    skin = body(patient)
    canvas.paint(skin, SKIN_HU)
    canvas.paint(skin.grown(-_SKIN_MM), FAT_HU)
    canvas.paint(_wall_muscle(patient), lambda points: _marbled_hu(waves.at(points)))
    canvas.paint(cavity(patient).grown(2), lambda points: _CHEST_FAT_HU + 12 * waves.at(points))
    for side in (-1, 1):
        canvas.paint(_back_muscle(patient, side), lambda points: _marbled_hu(waves.at(points)))


def paint_abdomen(canvas: Canvas, patient: PhantomPatient) -> None:
    """Paint liver, spleen and a stomach whose gas has risen to its front."""
    y, dome = patient.center_y_mm, patient.left_dome_z_mm
    canvas.paint(_muscle_sheet(patient), MUSCLE_HU)
    canvas.paint(_liver(patient), LIVER_HU)
    canvas.paint(ellipsoid((0.68 * patient.half_width_mm, y + 36, dome - 58), (19, 32, 36)), _SPLEEN_HU)
    stomach = ellipsoid((42, y - 18, dome - 44), (31, 33, 27))
    canvas.paint(stomach, MUSCLE_HU)
    canvas.paint(stomach.grown(-4), _CONTENT_HU)
    canvas.paint(_front_of(stomach.grown(-4), y - 30), _GAS_HU)


def paint_mediastinum(canvas: Canvas, patient: PhantomPatient) -> None:
    """Paint the heart, the great vessels and the gullet."""
    canvas.paint(heart(patient), BLOOD_HU)
    canvas.paint_tubes(_great_vessels(patient), BLOOD_HU)
    x, y, z = patient.carina_mm
    canvas.paint_tubes(path([(x + 6, y + 8, _FAR_MM), (x + 5, y + 14, z), (14, y + 14, -_FAR_MM)], 6.5), 35.0)


def paint_lungs(canvas: Canvas, patient: PhantomPatient, trees: Trees, seed: int) -> None:
    """Paint parenchyma, a little denser at the back, then vessels and airways with their walls."""
    rng = stream(seed, "lung texture")
    coarse, fine = draw_waves(rng, (25, 80), 5), draw_waves(rng, (8, 16), 5)

    def parenchyma(points: Points) -> Field:
        sinking = np.float32(0.35) * (points.y - np.float32(patient.center_y_mm))
        return np.float32(patient.lung_hu) + sinking + 14 * coarse.at(points) + 14 * fine.at(points)

    for side in (-1, 1):
        canvas.paint(lung(patient, side), parenchyma)
    canvas.paint_tubes(trees.vessels, BLOOD_HU - 5)
    canvas.paint_tubes(trees.bronchi, -100.0, grown_mm=1.0)
    canvas.paint_tubes(trees.trachea, MUSCLE_HU, grown_mm=2.0)
    canvas.paint_tubes((*trees.bronchi, *trees.trachea), _GAS_HU)


def paint_table(canvas: Canvas, patient: PhantomPatient) -> None:
    """Paint the scanner's table, a hollow board some way behind the back."""
    top = patient.body_y_mm + patient.body_half_depth_mm + 9

    def distance_mm(points: Points) -> Field:
        y = points.y - np.float32(top + 7) + np.float32(1e-4) * points.x**2
        return smooth_max(np.abs(y) - 7, np.abs(points.x) - np.float32(165) + 0 * points.z, 4)

    low, high = (-170.0, top - 3, -_FAR_MM), (170.0, top + 18, _FAR_MM)
    board = TissueRegion(low_mm=low, high_mm=high, distance_mm=distance_mm)
    canvas.paint(board, -150.0)
    canvas.paint(board.grown(-2.5), -930.0)


def _marbled_hu(wave: Field) -> Field:
    """Return muscle with strands of fat where the texture is highest."""
    return np.float32(MUSCLE_HU) + 6 * wave - 75 * smooth_step((wave - np.float32(1.15)) / np.float32(0.5))


def _wall_muscle(patient: PhantomPatient) -> TissueRegion:
    inside, skin = cavity(patient), body(patient)

    def distance_mm(points: Points) -> Field:
        shoulders = 24 * smooth_step((points.z - 62) / 60)
        pectorals = 8 * smooth_step((patient.center_y_mm - 20 - points.y) / 20) * smooth_step((points.z - 5) / 30)
        blades = 14 * smooth_step((points.y - 15) / 30) * smooth_step((points.z + 10) / 40)
        thickness = np.float32(patient.wall_mm) + np.maximum(np.maximum(shoulders, pectorals), blades)
        return smooth_max(inside.distance_mm(points) - thickness, skin.distance_mm(points) + 5, 5)

    return TissueRegion(low_mm=skin.low_mm, high_mm=skin.high_mm, distance_mm=distance_mm)


def _back_muscle(patient: PhantomPatient, side: int) -> TissueRegion:
    x, y = side * 25.0, patient.center_y_mm + patient.half_depth_mm + 2
    return TissueRegion(
        low_mm=(x - 24, y - 18, -_FAR_MM),
        high_mm=(x + 24, y + 18, _FAR_MM),
        distance_mm=lambda points: column_mm(points, (x, y), (24, 18)),
    )


def _muscle_sheet(patient: PhantomPatient) -> TissueRegion:
    below, inside = abdomen(patient), cavity(patient)

    def distance_mm(points: Points) -> Field:
        depth = below.distance_mm(points)
        return np.maximum(np.maximum(depth, -3 - depth), inside.distance_mm(points) + 1)

    return TissueRegion(low_mm=below.low_mm, high_mm=below.high_mm, distance_mm=distance_mm)


def _liver(patient: PhantomPatient) -> TissueRegion:
    below, dome = abdomen(patient), patient.right_dome_z_mm
    lump = ellipsoid((-48, patient.center_y_mm - 6, dome - 34), (94, 84, 66))

    def distance_mm(points: Points) -> Field:
        return smooth_max(below.distance_mm(points) + 3, lump.distance_mm(points), 10)

    return TissueRegion(low_mm=lump.low_mm, high_mm=lump.high_mm, distance_mm=distance_mm)


def _front_of(region: TissueRegion, y_mm: float) -> TissueRegion:
    def distance_mm(points: Points) -> Field:
        return np.maximum(region.distance_mm(points), points.y - np.float32(y_mm))

    return TissueRegion(low_mm=region.low_mm, high_mm=region.high_mm, distance_mm=distance_mm)


def _great_vessels(patient: PhantomPatient) -> list[Tube]:
    _, y, z = patient.carina_mm
    y -= 10
    arch = [(-8.0, y - 24, z - 40), (-6.0, y - 24, z + 12), (10.0, y - 12, z + 30), (22.0, y + 6, z + 30)]
    descending = [(22.0, y + 6, z + 30), (22.0, y + 26, z + 8), (22.0, y + 0.42 * patient.half_depth_mm, -_FAR_MM)]
    artery = [(18.0, y - 30, z - 40), (16.0, y - 16, z - 8)]
    cava = [(-24.0, y - 16, z + 30), (-22.0, y - 16, z - 60), (-16.0, y + 4, -150.0)]
    tubes = path(arch, 14) + path(descending, 11.5) + path(artery, 12) + path(cava, 9)
    for side in (1, -1):
        tubes += path([(16.0, y - 16, z - 8), patient.hilum_mm(side)], 8.5)
    for side in (-1, 1):
        tubes += path([(side * 24.0, y - 10, 400.0), (side * 18.0, y - 10, z + 34)], 6)
    return tubes
