"""The measures of one patient, drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnunet_cascade.geometry import Vector
from nnunet_cascade.settings.serialization import require

_STREAMS = {
    "anatomy": 0,
    "trees": 1,
    "body texture": 2,
    "lung texture": 3,
    "lesion texture": 4,
    "tumors": 5,
    "distractors": 6,
    "noise": 7,
}
"""Numbers that stay: another one draws other phantoms from the same seeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomPatient:
    """An adult thorax in numbers; all lengths and positions in mm, LPS.

    Attributes:
        half_width_mm: From the midline to the side of the chest cavity.
        half_depth_mm: From the middle of the cavity to its front and its back.
        center_y_mm: Where that middle lies.
        shoulder_z_mm: Above it the cavity narrows to the apices.
        apex_z_mm: Top of the lungs.
        right_dome_z_mm: Top of the right half of the diaphragm.
        left_dome_z_mm: Top of the left half, lower.
        dome_drop_mm: How far the diaphragm falls to its edges.
        wall_mm: Thickness of the muscle on the ribs.
        body_half_width_mm: From the midline to the skin.
        body_half_depth_mm: From the body's middle to the skin.
        heart_mm: Centre of the heart, left of the midline.
        heart_radii_mm: Half lengths of the heart, the long axis first.
        rib_phase_mm: Where the first rib lies.
        lung_hu: Mean of the lung parenchyma.
    """

    half_width_mm: float
    half_depth_mm: float
    center_y_mm: float
    shoulder_z_mm: float
    apex_z_mm: float
    right_dome_z_mm: float
    left_dome_z_mm: float
    dome_drop_mm: float
    wall_mm: float
    body_half_width_mm: float
    body_half_depth_mm: float
    heart_mm: Vector
    heart_radii_mm: Vector
    rib_phase_mm: float
    lung_hu: float

    def __post_init__(self) -> None:
        rises = self.left_dome_z_mm <= self.right_dome_z_mm < self.shoulder_z_mm < self.apex_z_mm
        require(rises, "a patient's diaphragm, shoulder and apex must rise in this order")
        x = self.heart_mm[0]
        require(x > 0, f"a patient's heart lies left of the midline; found x = {x} mm")

    @property
    def lung_x_mm(self) -> float:
        """Distance of the lungs' apices from the midline."""
        return 0.43 * self.half_width_mm

    @property
    def carina_mm(self) -> Vector:
        """Where the trachea divides."""
        return -2.0, self.center_y_mm + 10.0, self.apex_z_mm - 82.0

    @property
    def spine_y_mm(self) -> float:
        """Where the middle of the vertebral bodies lies."""
        return self.center_y_mm + 0.62 * self.half_depth_mm

    @property
    def body_y_mm(self) -> float:
        """Where the middle of the body lies."""
        return self.center_y_mm - 2.0

    def hilum_mm(self, side: int) -> Vector:
        """Return where vessels and bronchi enter a lung; `side` is +1 for the left, −1 for the right."""
        _, y, z = self.carina_mm
        return (40.0, y + 2.0, z - 22.0) if side > 0 else (-38.0, y + 2.0, z - 26.0)


def stream(seed: int, name: str) -> np.random.Generator:
    """Return the random numbers for one part of a phantom, so that no part's draws shift another's.

    Raises:
        SettingsError: The seed is negative.
    """
    require(seed >= 0, f"a phantom's seed must be 0 or more; found {seed}")
    return np.random.default_rng([seed, _STREAMS[name]])


def draw_patient(seed: int) -> PhantomPatient:
    """Draw a patient: lungs of about 2.3 to 4.8 litres together."""
    rng = stream(seed, "anatomy")
    width, depth = rng.uniform(106, 134), rng.uniform(64, 84)
    apex, right_dome = rng.uniform(104, 130), rng.uniform(-73, -38)
    center_y = rng.uniform(-12, -8)
    heart_z = 0.5 * (apex - 152) + 0.5 * (right_dome + 30)
    return PhantomPatient(
        half_width_mm=width,
        half_depth_mm=depth,
        center_y_mm=center_y,
        shoulder_z_mm=rng.uniform(-34, -14),
        apex_z_mm=apex,
        right_dome_z_mm=right_dome,
        left_dome_z_mm=right_dome - rng.uniform(6, 18),
        dome_drop_mm=rng.uniform(36, 46),
        wall_mm=rng.uniform(12, 15),
        body_half_width_mm=width + rng.uniform(38, 48),
        body_half_depth_mm=depth + rng.uniform(29, 34),
        heart_mm=(rng.uniform(16, 26), center_y - rng.uniform(0.34, 0.4) * depth, heart_z),
        heart_radii_mm=(rng.uniform(54, 66), rng.uniform(40, 48), rng.uniform(38, 45)),
        rib_phase_mm=rng.uniform(0, 24),
        lung_hu=rng.uniform(-845, -800),
    )
