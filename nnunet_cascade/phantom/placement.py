"""Draw a phantom's tumours and distractors, each in a place of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.geometry import Vector
from nnunet_cascade.phantom.lesions import PhantomLesion, draw_lesion
from nnunet_cascade.phantom.patient import PhantomPatient, stream
from nnunet_cascade.phantom.settings import FIELD_OF_VIEW_MM, PhantomSettings
from nnunet_cascade.phantom.sites import (
    AWAY_SITES,
    TOUCHING_SITES,
    TUMOR_SITES,
    Site,
    inside_scan,
    reaches_lung,
    surroundings,
)

_ATTEMPTS = 15
_CANDIDATES = 4000
_CENTERS_PER_ATTEMPT = 10
_APART_MM = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A lesion and where it came to lie.

    Attributes:
        lesion: Its shape.
        kind: Such as "pleura" or "bowel".
        site: Such as "chest wall".
        touching: It reaches into a lung.
    """

    lesion: PhantomLesion
    kind: str
    site: str
    touching: bool


def draw_tumors(seed: int, patient: PhantomPatient, settings: PhantomSettings) -> tuple[Placed, ...]:
    """Draw the tumours, none if the settings' count is 0.

    Raises:
        SettingsError: There is no room for that many, so large.
    """
    draft = _Draft(rng=stream(seed, "tumors"), patient=patient, settings=settings)
    return draft.place(TUMOR_SITES, draft.count(settings.tumors), ())


def draw_distractors(
    seed: int, patient: PhantomPatient, settings: PhantomSettings, tumors: Sequence[Placed]
) -> tuple[Placed, ...]:
    """Draw the distractors about the tumours: those that reach a lung first.

    Raises:
        SettingsError: There is no room for that many, so large.
    """
    draft = _Draft(rng=stream(seed, "distractors"), patient=patient, settings=settings)
    count = draft.count(settings.distractors)
    touching = draft.place(TOUCHING_SITES, count // 2, tumors)
    return touching + draft.place(AWAY_SITES, count - count // 2, (*tumors, *touching))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    rng: np.random.Generator
    patient: PhantomPatient
    settings: PhantomSettings

    def count(self, bounds: tuple[int, int]) -> int:
        return int(self.rng.integers(bounds[0], bounds[1] + 1))

    def place(self, sites: Sequence[Site], count: int, others: Sequence[Placed]) -> tuple[Placed, ...]:
        """Place lesions one by one, each at a site of chance or, where that one is full, at the next."""
        placed: list[Placed] = []
        for first in self.rng.integers(len(sites), size=count):
            found = self._first_fit((*sites[first:], *sites[:first]), [*others, *placed])
            if found is None:
                low, high = self.settings.tumor_radius_mm
                raise SettingsError(
                    f"found no room for lesion {len(placed) + 1} of {count} with a radius of {low:g} to {high:g} mm; "
                    "ask for fewer or smaller ones in PhantomSettings"
                )
            placed.append(found)
        return tuple(placed)

    def _first_fit(self, sites: Sequence[Site], others: Sequence[Placed]) -> Placed | None:
        return next((placed for site in sites if (placed := self._try_site(site, others)) is not None), None)

    def _try_site(self, site: Site, others: Sequence[Placed]) -> Placed | None:
        low, high = self.settings.tumor_radius_mm
        low, high = min(low, 0.7 * site.largest_mm), min(high, site.largest_mm)
        for attempt in range(_ATTEMPTS):
            radius = self.rng.uniform(low, high - (high - low) * attempt / _ATTEMPTS)
            for center in self._centers(site, radius):
                lesion = draw_lesion(self.rng, center, radius, flat=site.flat, hollow=site.hollow)
                surface = surroundings(self.patient, lesion.surface_mm())
                if inside_scan(surface) and site.surface(surface) and _apart(lesion, others):
                    return Placed(lesion=lesion, kind=site.kind, site=site.name, touching=reaches_lung(surface))
        return None

    def _centers(self, site: Site, radius_mm: float) -> list[Vector]:
        half = np.array(FIELD_OF_VIEW_MM) / 2
        candidates = self.rng.uniform(-half, half, size=(_CANDIDATES, 3))
        fit = candidates[site.center(surroundings(self.patient, candidates), radius_mm)]
        return [(float(x), float(y), float(z)) for x, y, z in fit[:_CENTERS_PER_ATTEMPT]]


def _apart(lesion: PhantomLesion, others: Sequence[Placed]) -> bool:
    return all(
        math.dist(lesion.center_mm, other.lesion.center_mm) > lesion.reach_mm + other.lesion.reach_mm + _APART_MM
        for other in others
    )
