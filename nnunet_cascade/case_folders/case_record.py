"""The record of a case: what every JSON file `<case>.json` of a folder of results holds, as types that all share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, cast

from nnunet_cascade.case_folders.record_parts import (
    CandidateRecord,
    IslandsRecord,
    LesionRecord,
    LungRecord,
    RoiRecord,
    Stage1Record,
    TumorRecord,
    UncertaintyRecord,
    VaryingRecord,
)
from nnunet_cascade.case_folders.typed_json import Line, RecordPart, read_part
from nnunet_cascade.case_folders.unchecked_json import UncheckedJson
from nnunet_cascade.errors import NewerRecordError, RecordError, one_line
from nnunet_cascade.geometry import Box, Grid

VERSION = 1
"""Of the record's keys. Records from before it have no version."""
RENAMED: Mapping[str, str] = {
    "uncertainty.samples": "total_samples",
    "stage1.uncertainty.samples": "total_samples",
    "flags.lungs_elsewhere": "lungs_misplaced",
    "lungs.flags.lungs_elsewhere": "lungs_misplaced",
}
"""Keys, and words of lists, of records without a version, and what they are called since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseRecord(RecordPart):
    """All that is known of a case. None is what a record does not tell, or tells in a way that is not understood.

    Attributes:
        case: Its name.
        notice: What the result is not.
        version: Of the record's keys; 0 before there was one.
        notes: What explains the flags, in a line each.
        flags: What a reader should look at.
        grid: Of all maps.
        tumor: The final mask.
        lesions: Its components, the largest first.
        uncertainty: Of the final mask; None without samples.
        stage1: What stage 1 found; None of commands without one.
        lungs: The lung mask; None without one.
        candidates: Of stage 1, the largest first.
        rois: The regions of stage 2.
        islands: Components away from every kept candidate.
        settings: As plain values.
        versions: Of this package and others, by name.
        varying: What differs from run to run.
        files: Written for the case, with their sizes in bytes.
        inputs: Name and SHA-256 of each file that it is made from.
        model: SHA-256 of each model's files.
        precision: Of the networks.
        ct_crc32: Checksum of the CT that a lung mask is of.
        method: Of the mask that was scored.
        values: Scores by metric.
    """

    leaves_out: ClassVar[bool] = True

    case: str = ""
    notice: Line = ""
    version: int = VERSION
    notes: tuple[Line, ...] = ()
    flags: tuple[Line, ...] | None = None
    grid: Grid | None = None
    tumor: TumorRecord | None = None
    lesions: tuple[LesionRecord, ...] | None = None
    uncertainty: UncertaintyRecord | None = None
    stage1: Stage1Record | None = None
    lungs: LungRecord | None = None
    candidates: tuple[CandidateRecord, ...] | None = None
    rois: tuple[RoiRecord, ...] | None = None
    islands: IslandsRecord | None = None
    settings: Mapping[str, Any] | None = None
    versions: Mapping[str, Line] = field(default_factory=dict[str, str])
    varying: VaryingRecord = field(default_factory=VaryingRecord)
    files: Mapping[str, int | None] | None = None
    inputs: tuple[tuple[str, ...], ...] | None = None
    model: Mapping[str, Line] | None = None
    precision: Line | None = None
    ct_crc32: Line | None = None
    method: str | None = None
    values: Mapping[str, float | None] | None = None

    @property
    def measure(self) -> str:
        """The measure of uncertainty; "" without samples."""
        return "" if self.uncertainty is None else self.uncertainty.measure

    @property
    def numbered_candidates(self) -> tuple[CandidateRecord, ...]:
        """The candidates that have a number in the map of candidates, the largest first."""
        numbered = [candidate for candidate in self.candidates or () if candidate.id]
        return tuple(sorted(numbered, key=lambda each: (-(each.volume_ml or 0.0), each.id or 0)))

    @property
    def lesion_boxes(self) -> tuple[Box, ...]:
        """Where the lesions lie, the largest first."""
        return tuple(lesion.box for lesion in self.lesions or () if lesion.box is not None)

    @property
    def region_boxes(self) -> tuple[Box, ...]:
        """Where the regions of stage 2 lie."""
        return tuple(roi.box for roi in self.rois or () if roi.box is not None)

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain values.

        What a cascade did not find, its uncertainty and lungs, is written as null, and so are the filter's lungs.
        """
        nulls = {"uncertainty": self.stage1 is not None, "lungs": self.candidates is not None}
        found = RecordPart.to_json(self)
        return {each.name: found.get(each.name) for each in fields(self) if each.name in found or nulls.get(each.name)}

    @classmethod
    def from_json(cls, content: Any, *, where: str = "the record", strict: bool = False) -> CaseRecord:
        """Read a record, of this version or an older one; of a newer one, what is understood.

        Args:
            content: As `json` gives it, whatever it is.
            where: Names the source in an error message.
            strict: Whether it is an error that the record is newer, or a value has a wrong type.

        Returns:
            The record, without what is missing or has a wrong type.

        Raises:
            RecordError: The reading is strict, and the content is not a record of this version or an older one.
        """
        version = UncheckedJson(content).at("version").count or 0
        if strict and version > VERSION:
            raise NewerRecordError(
                f"{where} has version {version} of the record; expected {VERSION} at most: update nnunet-cascade"
            )
        for old, new in {} if version else RENAMED.items():
            content = _renamed(content, old.split("."), new)
        found = read_part(cls, content, where=where, strict=strict)
        return replace(found or cls(), version=version)


def read_record(path: Path) -> CaseRecord:
    """Read the file of a record strictly.

    Raises:
        RecordError: It cannot be read, or as `CaseRecord.from_json`.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"{path} cannot be read ({one_line(error)}); run the case again") from error
    return CaseRecord.from_json(content, where=str(path), strict=True)


def _renamed(value: Any, place: list[str], new: str) -> Any:
    """Copy nested values with a new name for a key, or for a word of a list."""
    name, *below = place
    if isinstance(value, list):
        return [new if item == name else item for item in cast(list[Any], value)]
    if not isinstance(value, dict):
        return value
    table = cast(dict[str, Any], value)
    if below:
        return {**table, name: _renamed(table[name], below, new)} if name in table else table
    return {new if key == name else key: item for key, item in table.items()}
