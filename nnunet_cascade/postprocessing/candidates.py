"""A tumor candidate: what was measured of it and what was decided about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from nnunet_cascade.case_folders.record_parts import CandidateRecord, Stage2FindingRecord, VerdictRecord
from nnunet_cascade.errors import SettingsError
from nnunet_cascade.geometry import MM3_PER_ML, Box, Vector

Side = Literal["left", "right", "central"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was decided about a candidate, by which rule, and why.

    Attributes:
        kept: Whether it goes on.
        rule: Name of the rule that decided.
        reason: One plain sentence with the numbers that decided.

    Example:
        >>> nnc.Verdict(kept=False, rule="minimum_volume", reason="its volume is 8 mm³ (needs 100 mm³)").kept
        False
    """

    kept: bool
    rule: str
    reason: str


UNJUDGED = Verdict(kept=False, rule="unjudged", reason="no rule has judged it yet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage2Finding:
    """What stage 2 drew for a candidate: the components of its mask that come near the candidate, together.

    Attributes:
        volume_mm3: Their volume; 0 if there is none, and then all that follows is 0 or None.
        mean_probability: Mean of stage 2's tumor probability over them.
        max_probability: Highest in them.
        overlap: Dice coefficient of them and the candidate as stage 1 drew it.
        mean_uncertainty: Mean of the uncertainty over them; None without samples.
        agreement: Mean share of them that a sample calls tumor; None without samples.

    Example:
        >>> nnc.Stage2Finding(volume_mm3=0, mean_probability=0, max_probability=0, overlap=0).is_empty
        True
    """

    volume_mm3: float
    mean_probability: float
    max_probability: float
    overlap: float
    mean_uncertainty: float | None = None
    agreement: float | None = None

    @property
    def is_empty(self) -> bool:
        """Whether stage 2 drew nothing."""
        return self.volume_mm3 == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One tumor candidate. Sizes are of the mask as the network gave it, never of the grown one.

    Attributes:
        id: 1 for the largest, rising as the volume falls; its value in the label map.
        voxels: Number of voxels.
        volume_mm3: Their volume.
        box: Smallest block of the array that holds it.
        centroid_voxels: Mean position of its voxel centres in the array, (z, y, x).
        centroid_mm: The same place in the patient, (x, y, z) in LPS.
        lung_overlap: Share of its voxels inside the lung mask, 0 to 1; None without lungs.
        lung_distance_mm: Smallest distance from a voxel centre of it to one of the
            lungs, 0 if voxels touch or are shared; None without lungs.
        near_surface_share: Share of its surface voxels that lie near a lung, 0 to 1; None without lungs.
        central: Whether its centroid lies in the central zone between the lungs; False without lungs.
        side: "central", or the patient's side it lies on; None without lungs.
        touches_border: Whether it reaches the edge of the image, where part of it may be cut off.
        mean_probability: Mean of the tumor probability over it; None if unknown.
        max_probability: Highest tumor probability in it; None if unknown.
        mean_uncertainty: Mean of the uncertainty over it, in the measure of the map; None if unknown.
        stage2: What stage 2 drew for it; None where stage 2 was not asked.
        score: How likely it is a tumor, 0 to 1; None where no score could be given.
        score_fit: Which fit of the score it is by; "" without a score.
        verdict: What was decided about it.

    Raises:
        SettingsError: The number or the size is not positive.

    Example:
        >>> tumor = np.zeros((8, 8, 8), bool)
        >>> tumor[2:6, 2:6, 2:6] = True
        >>> (found,) = nnc.filter_candidates(tumor, nnc.Grid(shape=(8, 8, 8), spacing_mm=(3, 3, 3)), None).candidates
        >>> found.volume_ml, found.verdict.rule
        (1.728, 'no_lungs')
    """

    id: int
    voxels: int
    volume_mm3: float
    box: Box
    centroid_voxels: tuple[float, float, float]
    centroid_mm: Vector
    lung_overlap: float | None = None
    lung_distance_mm: float | None = None
    near_surface_share: float | None = None
    central: bool = False
    side: Side | None = None
    touches_border: bool
    mean_probability: float | None = None
    max_probability: float | None = None
    mean_uncertainty: float | None = None
    stage2: Stage2Finding | None = None
    score: float | None = None
    score_fit: str = ""
    verdict: Verdict = UNJUDGED

    def __post_init__(self) -> None:
        if self.id < 1 or self.voxels < 1:
            raise SettingsError(f"candidate {self.id} has {self.voxels} voxels; expected an id and a size from 1 up")

    @property
    def volume_ml(self) -> float:
        """Its volume in the unit of reports."""
        return self.volume_mm3 / MM3_PER_ML

    @property
    def kept(self) -> bool:
        """Whether the rules kept it."""
        return self.verdict.kept

    def to_record(self) -> CandidateRecord:
        """Return what the record of a case holds of it."""
        values: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        values["verdict"] = VerdictRecord(**asdict(self.verdict))
        values["stage2"] = None if self.stage2 is None else Stage2FindingRecord(**asdict(self.stage2))
        return CandidateRecord(**values, volume_ml=self.volume_ml)
