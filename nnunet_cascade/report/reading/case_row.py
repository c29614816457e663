"""What a report shows of a case: what its record tells, and what its folder holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from nnunet_cascade.case_folders.case_record import CaseRecord
from nnunet_cascade.case_folders.record_parts import (
    CandidateRecord,
    LesionRecord,
    TumorRecord,
    UncertaintyRecord,
    VaryingRecord,
    VolumeRecord,
)
from nnunet_cascade.case_folders.unchecked_json import UncheckedJson
from nnunet_cascade.report.reading.own_files import is_own_file
from nnunet_cascade.report.reading.setting_rows import SettingRows, setting_rows
from nnunet_cascade.versions import PACKAGES

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
DECISIVE = ("python", *PACKAGES)
"""What the results of a run depend on."""


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
class CaseRow:
    """A case of a run, as far as it is known.

    Attributes:
        case: Its name, which may hold anything.
        status: What is known of it.
        problems: What is wrong with it, in a sentence each.
        record: What its record tells, without what a report does not show; empty without a record.
        volume_ml: Of the final mask; None if it is not known.
        lesion_count: Components of the final mask; None if they are not known.
        files: That the record names.
        settings: In words, by dotted name.
    """

    case: str
    status: Status
    problems: tuple[str, ...] = ()
    record: CaseRecord = field(default_factory=CaseRecord)
    volume_ml: float | None = None
    lesion_count: int | None = None
    files: tuple[FileRow, ...] = ()
    settings: SettingRows = field(default_factory=dict[str, str])

    @property
    def flags(self) -> tuple[str, ...]:
        """As in the record."""
        return self.record.flags or ()

    @property
    def uncertainty(self) -> UncertaintyRecord:
        """Of the final mask; empty without samples."""
        return self.record.uncertainty or UncertaintyRecord()

    @property
    def volume(self) -> VolumeRecord:
        """Of the tumor over the samples; empty without samples."""
        return self.uncertainty.volume or VolumeRecord()

    @property
    def lesions(self) -> tuple[LesionRecord, ...]:
        """Components of the final mask, as many as a page can show."""
        return (self.record.lesions or ())[:_MOST_ROWS]

    @property
    def candidates(self) -> tuple[CandidateRecord, ...]:
        """Candidates of stage 1, as many as a page can show."""
        return (self.record.candidates or ())[:_MOST_ROWS]

    @property
    def kept(self) -> int | None:
        """Number of candidates that went on; None if the record does not tell."""
        return self._verdicts(kept=True)

    @property
    def dropped(self) -> int | None:
        """Number of candidates that did not go on; None if the record does not tell."""
        return self._verdicts(kept=False)

    @property
    def lungs(self) -> str:
        """Volume and source of the lung mask, in words; "" if there is none."""
        found = self.record.lungs
        if found is None:
            return ""
        volume = "" if found.volume_ml is None else f"{found.volume_ml:.0f} ml"
        return ", ".join(part for part in (volume, f"by {found.source}" if found.source else "") if part)

    @property
    def grid(self) -> str:
        """Size and spacing, in words; "" if they are not known."""
        found = self.record.grid
        if found is None:
            return ""
        voxels = " × ".join(str(size) for size in reversed(found.shape))
        return f"{voxels} voxels of {' × '.join(f'{size:.3g}' for size in reversed(found.spacing_mm))} mm (x, y, z)"

    @property
    def model(self) -> Mapping[str, str]:
        """SHA-256 by stage."""
        found = self.record.model or {}
        return {stage: found[stage] for stage in _MODELS if found.get(stage)}

    @property
    def versions(self) -> Mapping[str, str]:
        """Of the packages that results depend on."""
        return {package: self.record.versions[package] for package in DECISIVE if package in self.record.versions}

    def _verdicts(self, *, kept: bool) -> int | None:
        candidates = self.record.candidates
        return None if candidates is None else sum(each.verdict.kept is kept for each in candidates)


def row_of_record(case: str, record: CaseRecord, folder: Path) -> CaseRow:
    """Take out of a record what a report shows.

    Args:
        case: The case's name.
        record: Its record.
        folder: Of its files.
    """
    tumor = record.tumor or TumorRecord()
    return CaseRow(
        case=case,
        status="done",
        record=replace(record, settings=None, varying=VaryingRecord(), inputs=None),
        volume_ml=tumor.after_ml if tumor.volume_ml is None else tumor.volume_ml,
        lesion_count=None if record.lesions is None else len(record.lesions),
        files=_files(record.files or {}, folder),
        settings=setting_rows(UncheckedJson(record.settings)),
    )


def _files(listed: Mapping[str, int | None], folder: Path) -> tuple[FileRow, ...]:
    rows: list[FileRow] = []
    for listed_name, size in list(listed.items())[:_MOST_ROWS]:
        name = Path(listed_name).name
        there = is_own_file(folder, name) and (folder / name).stat().st_size == size
        rows.append(FileRow(name=name, size=size, there=there))
    return tuple(rows)
