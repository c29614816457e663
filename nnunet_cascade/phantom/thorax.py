"""The phantom: a CT of a synthetic thorax and the truth about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from nnunet_cascade.geometry import Grid, Image, Labels, Mask, Vector
from nnunet_cascade.phantom.canvas import AIR_HU, Canvas, label_regions
from nnunet_cascade.phantom.chest import heart, lung
from nnunet_cascade.phantom.organs import (
    FAT_HU,
    paint_abdomen,
    paint_lungs,
    paint_mediastinum,
    paint_table,
    paint_trunk,
)
from nnunet_cascade.phantom.patient import PhantomPatient, draw_patient, stream
from nnunet_cascade.phantom.placement import Placed, draw_distractors, draw_tumors
from nnunet_cascade.phantom.points import single
from nnunet_cascade.phantom.settings import PhantomSettings, grid_of_settings
from nnunet_cascade.phantom.skeleton import paint_skeleton
from nnunet_cascade.phantom.trees import Trees, draw_trees
from nnunet_cascade.phantom.waves import draw_waves

_NOISE_BLUR_VOXELS = 0.5
_LESION_TEXTURE_HU = 8.0
_LESION_GAS_HU = -950.0
_FAT_ABOUT_MM = 4.0
_LEAST_DEVIATION = 1e-3
_LOWEST_HU, _HIGHEST_HU = -1024, 3071


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """What is known of a tumour or a distractor.

    Attributes:
        label: Its number in the label map.
        kind: Tumours: "lung" inside a lung, "pleura" reaching into the chest wall,
            "hilum" reaching into the mediastinum. Distractors: "node", "soft",
            "bowel" (a wall about gas) or "atelectasis".
        site: Where it lies, in words.
        center_mm: World position (x, y, z) of its centre.
        volume_mm3: Of the continuous shape.
        touching: It reaches into a lung's outline.
    """

    label: int
    kind: str
    site: str
    center_mm: Vector
    volume_mm3: float
    touching: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Phantom:
    """A synthetic CT and its truth, all on one grid, (Z, Y, X).

    A voxel is labelled where its centre lies in the solid.

    Attributes:
        seed: What it was drawn from.
        grid: Where the voxels lie.
        ct: float32, whole Hounsfield units.
        tumors: int16, one number per tumour.
        lungs: int16, 1 the right, 2 the left: the outline with all vessels, bronchi
            and parts of tumours and distractors inside it, without trachea, main
            bronchi, mediastinum and chest wall.
        heart: With its walls.
        distractors: int16, one number each, gas inside included.
        tumor_facts: In the order of the labels.
        distractor_facts: In the order of the labels.
    """

    seed: int
    grid: Grid
    ct: Image
    tumors: Labels
    lungs: Labels
    heart: Mask
    distractors: Labels
    tumor_facts: tuple[Fact, ...]
    distractor_facts: tuple[Fact, ...]


def make_phantom(seed: int, settings: PhantomSettings, *, grid: Grid | None = None) -> Phantom:
    """Draw a phantom; the same seed is the same patient on every grid.

    Only the noise belongs to the grid, as it does to a scan.

    Args:
        seed: 0 or more.
        settings: How it is scanned and what is wrong with it.
        grid: Where to scan it in place of the settings' spacing and orientation.

    Raises:
        SettingsError: The seed is negative, or there is no room for the lesions.
    """
    where = grid_of_settings(settings) if grid is None else grid
    patient = draw_patient(seed)
    trees = draw_trees(seed, patient)
    tumors = draw_tumors(seed, patient, settings)
    distractors = draw_distractors(seed, patient, settings, tumors)
    canvas = _painted(seed, patient, trees, where)
    _paint_lesions(canvas, seed, (*distractors, *tumors))
    return Phantom(
        seed=seed,
        grid=where,
        ct=_scanned(canvas.ct, seed, settings.noise_hu),
        tumors=label_regions(where, [placed.lesion.region() for placed in tumors]),
        lungs=_lungs(where, patient, trees),
        heart=label_regions(where, [heart(patient)]) > 0,
        distractors=label_regions(where, [placed.lesion.region() for placed in distractors]),
        tumor_facts=_facts(tumors),
        distractor_facts=_facts(distractors),
    )


def _painted(seed: int, patient: PhantomPatient, trees: Trees, grid: Grid) -> Canvas:
    canvas = Canvas(np.full(grid.shape, AIR_HU, dtype=np.float32), grid)
    paint_trunk(canvas, patient, seed)
    paint_abdomen(canvas, patient)
    paint_mediastinum(canvas, patient)
    paint_skeleton(canvas, patient)
    paint_lungs(canvas, patient, trees, seed)
    paint_table(canvas, patient)
    return canvas


def _paint_lesions(canvas: Canvas, seed: int, lesions: tuple[Placed, ...]) -> None:
    waves = draw_waves(stream(seed, "lesion texture"), (8, 30), 4)
    for placed in lesions:
        lesion = placed.lesion
        if not placed.touching:
            canvas.paint(lesion.region().grown(_FAT_ABOUT_MM), FAT_HU)
        canvas.paint(lesion.region(), lambda points, hu=lesion.hu: hu + _LESION_TEXTURE_HU * waves.at(points))
        if lesion.hollow:
            canvas.paint(lesion.gas(), _LESION_GAS_HU)


def _lungs(grid: Grid, patient: PhantomPatient, trees: Trees) -> Labels:
    lungs = label_regions(grid, [lung(patient, -1), lung(patient, 1)])
    airway = label_regions(grid, [tube.region() for tube in trees.trachea])
    lungs[airway > 0] = 0
    return lungs


def _scanned(ct: Image, seed: int, noise_hu: float) -> Image:
    if noise_hu > 0:
        noise = stream(seed, "noise").standard_normal(ct.shape, dtype=np.float32)
        noise = single(ndimage.gaussian_filter(noise, _NOISE_BLUR_VOXELS, truncate=3))
        ct = single(ct + noise * np.float32(noise_hu / max(float(noise.std()), _LEAST_DEVIATION)))
    return np.clip(np.rint(ct), _LOWEST_HU, _HIGHEST_HU).astype(np.float32)


def _facts(lesions: tuple[Placed, ...]) -> tuple[Fact, ...]:
    return tuple(
        Fact(
            label=label,
            kind=placed.kind,
            site=placed.site,
            center_mm=placed.lesion.center_mm,
            volume_mm3=placed.lesion.volume_mm3,
            touching=placed.touching,
        )
        for label, placed in enumerate(lesions, start=1)
    )
