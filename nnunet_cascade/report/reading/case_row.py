"""What a report shows of a case: the known keys of its record, and nothing else of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

from nnunet_cascade.report.reading.lenient_json import UncheckedJson
from nnunet_cascade.report.reading.own_files import is_own_file
from nnunet_cascade.report.reading.setting_rows import SettingRows, setting_rows
from nnunet_cascade.versions import versions

Status = Literal["done", "mask only", "unreadable", "missing", "failed"]
STATUSES: Mapping[Status, str] = {
    "done": "record and mask are there",
    "mask only": "there is a mask and no record: nothing is known of how it was made",
    "unreadable": "its record is damaged",
    "missing": "the run tells of it, and its record or its mask is not there",
    "failed": "the run could not do it",
}
"""What may be known of a case, from the best to the worst."""
_MOST_ROWS = 500
_MODELS = ("stage1", "stage2", "lungs")


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionRow:
    """A component of the final mask; None for what the record does not tell.

    Attributes:
        id: 1 for the largest.
        volume_ml: Its size.
        low_ml: 5th percentile of its volume over the samples.
        high_ml: 95th percentile.
        mean_uncertainty: Over its voxels.
        boundary_uncertainty: Within 3 mm of its surface.
        max_uncertainty: Highest in it.
        diameter_mm: Longest axial diameter, which the DICOM export measures.
    """

    id: int | None
    volume_ml: float | None
    low_ml: float | None
    high_ml: float | None
    mean_uncertainty: float | None
    boundary_uncertainty: float | None
    max_uncertainty: float | None
    diameter_mm: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateRow:
    """A candidate of stage 1 and its verdict; None and "" for what the record does not tell.

    Attributes:
        id: Its value in the map of candidates.
        kept: Whether it went on.
        rule: Which rule decided.
        reason: Why, in a sentence.
        volume_ml: Its size.
        lung_overlap: Share of it inside the lungs.
        lung_distance_mm: To the nearest lung.
        near_surface_share: Share of its surface near a lung.
        side: Of the patient.
        mean_probability: Of stage 1, over it.
    """

    id: int | None
    kept: bool | None
    rule: str
    reason: str
    volume_ml: float | None
    lung_overlap: float | None
    lung_distance_mm: float | None
    near_surface_share: float | None
    side: str
    mean_probability: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRow:
    """A file of a case.

    Attributes:
        name: In the folder of the results.
        size: In bytes, as the record tells; None where it does not.
        there: Whether a file of that size is there.
    """

    name: str
    size: int | None
    there: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncertainty:
    """What the samples say of a case; None for what is not known.

    Attributes:
        measure: What the maps show, or "" without samples.
        definition: In words.
        samples: Their number.
        mean_in_tumor: Mean over the final mask.
        total_ml: Integral over the regions, in the measure's unit times ml.
        low_ml: 5th percentile of the tumor's volume.
        high_ml: 95th percentile.
        mean_ml: Mean of the volume over the samples.
        sd_ml: Its standard deviation.
    """

    measure: str = ""
    definition: str = ""
    samples: int | None = None
    mean_in_tumor: float | None = None
    total_ml: float | None = None
    low_ml: float | None = None
    high_ml: float | None = None
    mean_ml: float | None = None
    sd_ml: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseRow:
    """A case of a run, as far as it is known.

    Attributes:
        case: Its name, which may hold anything.
        status: What is known of it.
        problems: What is wrong with it, in a sentence each.
        flags: As in the record.
        notes: As in the record.
        volume_ml: Of the final mask.
        uncertainty: Of the final mask.
        lesions: Of the final mask.
        lesion_count: Their number, also of those that are not listed.
        candidates: Of stage 1.
        kept: Candidates that went on.
        dropped: Those that did not.
        lungs: Volume in ml and source, in words; "" where it is not known.
        grid: Size and spacing, in words.
        files: That the record names.
        settings: In words, by dotted name.
        model: SHA-256 by stage.
        versions: By package.
    """

    case: str
    status: Status
    problems: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    volume_ml: float | None = None
    uncertainty: Uncertainty = field(default_factory=Uncertainty)
    lesions: tuple[LesionRow, ...] = ()
    lesion_count: int | None = None
    candidates: tuple[CandidateRow, ...] = ()
    kept: int | None = None
    dropped: int | None = None
    lungs: str = ""
    grid: str = ""
    files: tuple[FileRow, ...] = ()
    settings: SettingRows = field(default_factory=dict[str, str])
    model: Mapping[str, str] = field(default_factory=dict[str, str])
    versions: Mapping[str, str] = field(default_factory=dict[str, str])


def row_of_record(case: str, record: UncheckedJson, folder: Path) -> CaseRow:
    """Take out of a record what a report shows; what is not there, or is not what it should be, is left out.

    Args:
        case: The case's name.
        record: Its record.
        folder: Of its files.
    """
    candidates = list(record.at("candidates"))
    verdicts = [candidate.at("verdict", "kept").truth for candidate in candidates]
    lesions = list(record.at("lesions"))
    return CaseRow(
        case=case,
        status="done",
        flags=record.at("flags").texts(),
        notes=record.at("notes").texts(),
        volume_ml=_volume_ml(record.at("tumor")),
        uncertainty=_uncertainty(record.at("uncertainty")),
        lesions=tuple(map(_lesion, lesions[:_MOST_ROWS])),
        lesion_count=len(lesions) if record.at("lesions").is_list else None,
        candidates=tuple(map(_candidate, candidates[:_MOST_ROWS])),
        kept=sum(kept is True for kept in verdicts) if record.at("candidates").is_list else None,
        dropped=sum(kept is False for kept in verdicts) if record.at("candidates").is_list else None,
        lungs=_lungs(record.at("lungs")),
        grid=_grid(record.at("grid")),
        files=_files(record.at("files"), folder),
        settings=setting_rows(record.at("settings")),
        model={stage: record.at("model", stage).text for stage in _MODELS if record.at("model", stage).text},
        versions=known_versions(record.at("versions")),
    )


def known_versions(told: UncheckedJson) -> dict[str, str]:
    """Return the versions of the packages that results depend on."""
    return {package: told.at(package).text for package in our_versions() if told.at(package).text}


@cache
def our_versions() -> Mapping[str, str]:
    """Return the versions that read the records."""
    return versions()


def _volume_ml(tumor: UncheckedJson) -> float | None:
    """Return the volume of the final mask; the record of `nnc-anatomy-filter` has another name for it."""
    volume_ml = tumor.at("volume_ml").number
    return tumor.at("after_ml").number if volume_ml is None else volume_ml


def _uncertainty(told: UncheckedJson) -> Uncertainty:
    volume = told.at("volume")
    return Uncertainty(
        measure=told.at("measure").text,
        definition=told.at("definition").text,
        samples=told.at("total_samples").count,
        mean_in_tumor=told.at("mean_in_tumor").number,
        total_ml=told.at("total_ml").number,
        low_ml=volume.at("p5_ml").number,
        high_ml=volume.at("p95_ml").number,
        mean_ml=volume.at("mean_ml").number,
        sd_ml=volume.at("sd_ml").number,
    )


def _lesion(told: UncheckedJson) -> LesionRow:
    return LesionRow(
        id=told.at("id").count,
        volume_ml=told.at("volume_ml").number,
        low_ml=told.at("volume", "p5_ml").number,
        high_ml=told.at("volume", "p95_ml").number,
        mean_uncertainty=told.at("mean_uncertainty").number,
        boundary_uncertainty=told.at("boundary_uncertainty").number,
        max_uncertainty=told.at("max_uncertainty").number,
    )


def _candidate(told: UncheckedJson) -> CandidateRow:
    verdict = told.at("verdict")
    return CandidateRow(
        id=told.at("id").count,
        kept=verdict.at("kept").truth,
        rule=verdict.at("rule").text,
        reason=verdict.at("reason").text,
        volume_ml=told.at("volume_ml").number,
        lung_overlap=told.at("lung_overlap").number,
        lung_distance_mm=told.at("lung_distance_mm").number,
        near_surface_share=told.at("near_surface_share").number,
        side=told.at("side").text,
        mean_probability=told.at("mean_probability").number,
    )


def _lungs(told: UncheckedJson) -> str:
    volume_ml, source = told.at("volume_ml").number, told.at("source").text
    told_volume = "" if volume_ml is None else f"{volume_ml:.0f} ml"
    return ", ".join(part for part in (told_volume, f"by {source}" if source else "") if part)


def _grid(told: UncheckedJson) -> str:
    shape = [size.count for size in told.at("shape")]
    spacing = [size.number for size in told.at("spacing_mm")]
    if len(shape) != 3 or len(spacing) != 3 or None in shape or None in spacing:
        return ""
    voxels = " × ".join(str(size) for size in reversed(shape))
    return f"{voxels} voxels of {' × '.join(f'{size:.3g}' for size in reversed(spacing))} mm (x, y, z)"


def _files(told: UncheckedJson, folder: Path) -> tuple[FileRow, ...]:
    rows: list[FileRow] = []
    for told_name, size in told.items()[:_MOST_ROWS]:
        name = Path(told_name).name
        there = is_own_file(folder, name) and (folder / name).stat().st_size == size.count
        rows.append(FileRow(name=name, size=size.count, there=there))
    return tuple(rows)
