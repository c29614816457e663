"""The trees of the lung: arteries, veins and bronchi, and the trachea."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.geometry import Vector
from nnunet_cascade.phantom.chest import lung
from nnunet_cascade.phantom.patient import PhantomPatient, stream
from nnunet_cascade.phantom.points import points_of
from nnunet_cascade.phantom.regions import Tube, as_vector

_VESSEL_TIPS = 180
_BRONCHUS_TIPS = 24
_VESSEL_TIP_RADIUS_MM = 1.0
_BRONCHUS_TIP_RADIUS_MM = 1.1
_TRACHEA_RADIUS_MM = 9.0
_MAIN_BRONCHUS_RADIUS_MM = 6.3
_ABOVE_THE_SCAN_MM = 400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trees:
    """The tubes of both lungs.

    Attributes:
        vessels: Arteries and veins.
        bronchi: Inside the lungs.
        trachea: With the two main bronchi, outside the lungs.
    """

    vessels: tuple[Tube, ...]
    bronchi: tuple[Tube, ...]
    trachea: tuple[Tube, ...]


def draw_trees(seed: int, patient: PhantomPatient) -> Trees:
    """Draw the trees of both lungs."""
    rng = stream(seed, "trees")
    vessels: list[Tube] = []
    bronchi: list[Tube] = []
    for side in (-1, 1):
        x, y, z = patient.hilum_mm(side)
        for root in ((x, y - 9, z + 4), (x, y + 3, z - 9)):
            vessels += _grow(root, _tips(rng, patient, side, _VESSEL_TIPS), _VESSEL_TIP_RADIUS_MM)
        bronchi += _grow((x, y, z), _tips(rng, patient, side, _BRONCHUS_TIPS), _BRONCHUS_TIP_RADIUS_MM)
    return Trees(vessels=tuple(vessels), bronchi=tuple(bronchi), trachea=_airway(patient))


def _airway(patient: PhantomPatient) -> tuple[Tube, ...]:
    x, y, z = patient.carina_mm
    trachea = _tube((x, y - 8, _ABOVE_THE_SCAN_MM), (x, y, z), _TRACHEA_RADIUS_MM, _TRACHEA_RADIUS_MM)
    ends = (patient.hilum_mm(-1), patient.hilum_mm(1))
    return (trachea, *(_tube((x, y, z), end, _MAIN_BRONCHUS_RADIUS_MM + 1, _MAIN_BRONCHUS_RADIUS_MM) for end in ends))


def _tips(rng: np.random.Generator, patient: PhantomPatient, side: int, count: int) -> NDArray[np.float64]:
    region = lung(patient, side)
    tips = rng.uniform(region.low_mm, region.high_mm, size=(40 * count, 3))
    return tips[region.distance_mm(points_of(tips)) < -4][:count]


def _grow(root_mm: Vector, tips_mm: NDArray[np.float64], tip_radius_mm: float) -> list[Tube]:
    """Join tips to a root, the nearer first, and size the branches so that volumes of flow add up.

    Source:
        C. D. Murray, "The physiological principle of minimum work", PNAS 12
        (1926), doi:10.1073/pnas.12.3.207: the cubes of the radii add up.
    """
    order = np.argsort(np.linalg.norm(tips_mm - root_mm, axis=1))
    nodes = np.vstack([root_mm, tips_mm[order]])
    parents = _parents(nodes)
    flows = np.ones(len(nodes))
    for child in range(len(nodes) - 1, 0, -1):
        flows[parents[child]] += flows[child]
    radii = tip_radius_mm * flows ** (1 / 3)
    return [
        _tube(as_vector(nodes[parent]), as_vector(nodes[child]), min(radii[parent], 1.25 * radii[child]), radii[child])
        for child, parent in enumerate(parents)
        if child > 0
    ]


def _parents(nodes: NDArray[np.float64]) -> list[int]:
    lengths = np.zeros(len(nodes))
    parents = [0]
    for child in range(1, len(nodes)):
        gaps = np.linalg.norm(nodes[:child] - nodes[child], axis=1)
        parent = int(np.argmin(gaps + 0.35 * lengths[:child]))
        lengths[child] = lengths[parent] + gaps[parent]
        parents.append(parent)
    return parents


def _tube(start: Vector, stop: Vector, start_radius_mm: float, stop_radius_mm: float) -> Tube:
    return Tube(start_mm=start, stop_mm=stop, start_radius_mm=start_radius_mm, stop_radius_mm=stop_radius_mm)
