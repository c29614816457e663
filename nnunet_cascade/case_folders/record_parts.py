"""What the record of a case is made of. Every part can be empty: a record may be of another version, or damaged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from nnunet_cascade.case_folders.typed_json import Line, RecordPart
from nnunet_cascade.geometry import Box


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRecord(RecordPart):
    """A volume over the samples; the attributes are those of `uncertainty.volumes.VolumeSpread`."""

    samples: int | None = None
    mean_ml: float | None = None
    sd_ml: float | None = None
    p5_ml: float | None = None
    p95_ml: float | None = None
    windows: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingRecord(RecordPart):
    """What was sampled; the attributes are those of `uncertainty.sampling_types.SamplingSummary`."""

    measure: Line = ""
    definition: Line = ""
    sources: tuple[Line, ...] = ()
    total_samples: int | None = None
    mc_samples: int | None = None
    mirrors: int | None = None
    members: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UncertaintyRecord(SamplingRecord):
    """The uncertainty of the final mask.

    Attributes:
        seed: Of the random numbers.
        mean_in_tumor: Mean over the final mask; None without a tumor.
        mean_in_rois: Mean over the regions; None without a region.
        total_ml: Integral over the regions, in the measure's unit times ml.
        volume: Of the tumor over the samples.
    """

    seed: int | None = None
    mean_in_tumor: float | None = None
    mean_in_rois: float | None = None
    total_ml: float | None = None
    volume: VolumeRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CoarseUncertaintyRecord(SamplingRecord):
    """The uncertainty of stage 1: its mean over the mask, and its integral over the CT as in `UncertaintyRecord`."""

    mean_in_mask: float | None = None
    total_ml: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TumorRecord(RecordPart):
    """The final mask: the first three values of a cascade, the others of the anatomy filter."""

    leaves_out: ClassVar[bool] = True

    voxels: int | None = None
    volume_ml: float | None = None
    temperature: float | None = None
    values: tuple[int, ...] | None = None
    before_ml: float | None = None
    after_ml: float | None = None
    probability_known: bool | None = None
    uncertainty_known: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionRecord(RecordPart):
    """A component of the final mask; the attributes are those of `uncertainty.lesions.Lesion`."""

    id: int | None = None
    voxels: int | None = None
    volume_ml: float | None = None
    box: Box | None = None
    mean_uncertainty: float | None = None
    boundary_uncertainty: float | None = None
    max_uncertainty: float | None = None
    volume: VolumeRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage1Record(RecordPart):
    """What stage 1 found, or was given; its uncertainty is None if it was not sampled."""

    given: bool | None = None
    candidates: int | None = None
    volume_ml: float | None = None
    uncertainty: CoarseUncertaintyRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LungRecord(RecordPart):
    """The lung mask; a cascade does not tell the volume of each side."""

    leaves_out: ClassVar[bool] = True

    source: Line = ""
    volume_ml: float | None = None
    right_ml: float | None = None
    left_ml: float | None = None
    unknown_side_ml: float | None = None
    flags: tuple[Line, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictRecord(RecordPart):
    """What was decided about a candidate; the attributes are those of `postprocessing.candidates.Verdict`."""

    kept: bool | None = None
    rule: Line = ""
    reason: Line = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage2FindingRecord(RecordPart):
    """What stage 2 drew for a candidate; the attributes are those of `postprocessing.candidates.Stage2Finding`."""

    leaves_out: ClassVar[bool] = True

    volume_mm3: float | None = None
    mean_probability: float | None = None
    max_probability: float | None = None
    overlap: float | None = None
    mean_uncertainty: float | None = None
    agreement: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateRecord(RecordPart):
    """A candidate of stage 1; the attributes are those of `postprocessing.candidates.Candidate`.

    `score` says how surely it is a tumor, from 0 to 1; None if nothing scored it.
    """

    id: int | None = None
    voxels: int | None = None
    volume_mm3: float | None = None
    box: Box | None = None
    centroid_voxels: tuple[float, float, float] | None = None
    centroid_mm: tuple[float, float, float] | None = None
    lung_overlap: float | None = None
    lung_distance_mm: float | None = None
    near_surface_share: float | None = None
    central: bool | None = None
    side: Line | None = None
    touches_border: bool | None = None
    mean_probability: float | None = None
    max_probability: float | None = None
    mean_uncertainty: float | None = None
    stage2: Stage2FindingRecord | None = None
    score: float | None = None
    score_fit: Line = ""
    verdict: VerdictRecord = VerdictRecord()
    volume_ml: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoiRecord(RecordPart):
    """A region that stage 2 looked at, around which candidate, and the tumor in it; `clipped` if it reaches a face."""

    id: int | None = None
    candidate: int | None = None
    box: Box | None = None
    tumor_ml: float | None = None
    mean_uncertainty_in_tumor: float | None = None
    volume: VolumeRecord | None = None
    clipped: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IslandsRecord(RecordPart):
    """Components away from every kept candidate: what is done with them, their number and volume."""

    policy: Line = ""
    count: int | None = None
    volume_ml: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord(RecordPart):
    """Where the CT of a case lay.

    Attributes:
        path: The image file, or the folder below which the slices lay.
        series_uid: Of a DICOM series; "" of an image file.
        folders: Hashes of the folders with the slices, whose names may be a person's.
    """

    leaves_out: ClassVar[bool] = True

    path: str = ""
    series_uid: str = ""
    folders: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VaryingRecord(RecordPart):
    """What differs from run to run of the same case; the seconds by step or of all, the time by ISO 8601."""

    leaves_out: ClassVar[bool] = True

    seconds: Any = None
    results_moved_off_the_device: tuple[Line, ...] | None = None
    device: Line | None = None
    threads: int | None = None
    predicted_at: Line | None = None
    image: ImageRecord | None = None
