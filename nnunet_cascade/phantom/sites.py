"""Where tumours and distractors may lie."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.geometry import Mask
from nnunet_cascade.phantom.chest import abdomen, body, cavity, lung
from nnunet_cascade.phantom.patient import PhantomPatient
from nnunet_cascade.phantom.points import Field, points_of, single

AWAY_MM = 12.0
"""Least distance from both lungs of a distractor that reaches none."""
_SKIN_MM = 5.0
_SCAN_HALF_Z_MM = 145.0
_REACHED_MM = -2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What lies at N positions; distances are signed, in mm, negative inside.

    Attributes:
        x: (N,), world position.
        y: (N,), world position.
        z: (N,), world position.
        lung: (N,), to the nearer lung's outline.
        cavity: (N,), to the chest cavity.
        abdomen: (N,), to the part of the cavity below the diaphragm.
        body: (N,), to the skin.
        hilum: (N,), to the nearer hilum.
        width: (N,), |x| as a part of the cavity's half width.
    """

    x: Field
    y: Field
    z: Field
    lung: Field
    cavity: Field
    abdomen: Field
    body: Field
    hilum: Field
    width: Field


def surroundings(patient: PhantomPatient, positions_mm: NDArray[np.floating]) -> Surroundings:
    """Look up what lies at positions (N, 3), in the order (x, y, z)."""
    points = points_of(positions_mm)
    hila = [np.linalg.norm(positions_mm - np.array(patient.hilum_mm(side)), axis=1) for side in (-1, 1)]
    return Surroundings(
        x=points.x,
        y=points.y,
        z=points.z,
        lung=np.minimum(lung(patient, -1).distance_mm(points), lung(patient, 1).distance_mm(points)),
        cavity=cavity(patient).distance_mm(points),
        abdomen=abdomen(patient).distance_mm(points),
        body=body(patient).distance_mm(points),
        hilum=np.minimum(*hila).astype(np.float32),
        width=single(np.abs(points.x) / np.float32(patient.half_width_mm)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A kind of place.

    Attributes:
        kind: Of the lesion that lies there.
        name: Of the place.
        center: Says of surroundings and a radius in mm which are fit for the centre.
        surface: Says whether the surroundings of a surface are as they should be.
        largest_mm: Largest radius there is room for; where it is given, radii may
            also be smaller than the settings ask for.
        flat: The lesion is a plate.
        hollow: The lesion is a wall about gas.
    """

    kind: str
    name: str
    center: Callable[[Surroundings, float], Mask]
    surface: Callable[[Surroundings], bool]
    largest_mm: float = math.inf
    flat: bool = False
    hollow: bool = False


def inside_scan(surface: Surroundings) -> bool:
    """Say whether a surface lies below the skin and in the field of view."""
    return bool(surface.body.max() < -_SKIN_MM and np.abs(surface.z).max() < _SCAN_HALF_Z_MM)


def reaches_lung(surface: Surroundings) -> bool:
    """Say whether a surface lies in a lung in part."""
    return bool(surface.lung.min() < _REACHED_MM)


def _away(surface: Surroundings) -> bool:
    return bool(surface.lung.min() > AWAY_MM and surface.cavity.min() > 1)


def _away_below(surface: Surroundings) -> bool:
    return bool(surface.lung.min() > AWAY_MM and surface.abdomen.max() < 0)


def _in_lung(surface: Surroundings) -> bool:
    return bool(surface.lung.max() < _REACHED_MM)


def _in_lung_and_wall(surface: Surroundings) -> bool:
    return reaches_lung(surface) and bool(surface.cavity.max() > 3)


def _in_lung_and_middle(surface: Surroundings) -> bool:
    return reaches_lung(surface) and bool(surface.lung.max() > 3 and surface.cavity.max() < 0)


TUMOR_SITES = (
    Site(kind="lung", name="lung", center=lambda s, r: s.lung < -r, surface=_in_lung),
    Site(
        kind="pleura",
        name="chest wall",
        center=lambda s, r: (s.lung < 0) & (s.lung > -0.6 * r) & (np.abs(s.cavity - s.lung) < 1) & (s.abdomen > r),
        surface=_in_lung_and_wall,
    ),
    Site(
        kind="hilum",
        name="hilum",
        center=lambda s, r: (s.hilum < 22) & (np.abs(s.lung) < 0.5 * r),
        surface=_in_lung_and_middle,
    ),
)
"""Where tumours lie."""
TOUCHING_SITES = (
    Site(
        kind="node",
        name="mediastinum",
        center=lambda s, r: (s.width < 0.45) & (s.hilum > 24 + r) & (s.lung > 0) & (s.lung < 0.6 * r) & (s.abdomen > r),
        surface=_in_lung_and_middle,
        largest_mm=16.0,
    ),
    Site(
        kind="atelectasis",
        name="lung base",
        center=lambda s, r: (s.lung < 0.2 * r) & (s.lung > -0.5 * r) & (s.abdomen > 0) & (s.abdomen < r) & (s.y > 0),
        surface=reaches_lung,
        flat=True,
    ),
    Site(
        kind="bowel",
        name="diaphragm",
        center=lambda s, r: (s.lung > 0) & (s.lung < 0.7 * r) & (s.abdomen < 0) & (s.cavity < -r) & (s.x > 0),
        surface=_in_lung_and_middle,
        hollow=True,
    ),
)
"""Where distractors lie that reach a lung."""
AWAY_SITES = (
    Site(
        kind="node",
        name="axilla",
        center=lambda s, _: (s.width > 0.85) & (np.abs(s.z - 45) < 50) & (s.cavity > 16),
        surface=_away,
        largest_mm=12.0,
    ),
    Site(
        kind="soft",
        name="back muscles",
        center=lambda s, _: (s.y > 40) & (s.cavity > 12) & (s.width < 0.8),
        surface=_away,
        largest_mm=11.0,
    ),
    Site(
        kind="soft",
        name="chest wall",
        center=lambda s, _: (s.cavity > 14) & (s.y < 40) & (s.z < 60),
        surface=_away,
        largest_mm=11.0,
    ),
    Site(
        kind="bowel",
        name="abdomen",
        center=lambda s, r: (s.abdomen < -r) & (s.x > 0),
        surface=_away_below,
        largest_mm=18.0,
        hollow=True,
    ),
    Site(
        kind="soft",
        name="abdomen",
        center=lambda s, r: (s.abdomen < -r) & (s.x > -20),
        surface=_away_below,
        largest_mm=18.0,
    ),
)
"""Where distractors lie that reach no lung and not the mediastinum."""
