"""What became of the DICOM export of a run's cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_cascade.case_folders.unchecked_json import UncheckedJson, read_json_lenient
from nnunet_cascade.report.reading.privacy import without_paths

_STORY = "dicom_export.json"
_SUMMARY = "summary.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomState:
    """The DICOM export of a case.

    Attributes:
        told: Whether the export tells of the case.
        files: Names of the files.
        error: Why there are none, or "".
        diameters_mm: Longest axial diameters by lesion, where `summary.json` has them.
    """

    told: bool = False
    files: tuple[str, ...] = ()
    error: str = ""
    diameters_mm: Mapping[int, float] = field(default_factory=dict[int, float])


def dicom_states(results: Path) -> tuple[Mapping[str, DicomState], str]:
    """Read what `nnc-export-dicom` left of a run: `dicom_export.json` beside its results, summaries in `dicom`.

    Returns:
        By case, and what is wrong with the export's story, or ""; nothing where there was no export.
    """
    path = results / _STORY
    if not path.is_file():
        return {}, ""
    story, problem = read_json_lenient(path)
    if problem:
        return {}, problem
    return {case: _state(told, results / "dicom", case) for case, told in story.at("cases").items()}, ""


def _state(told: UncheckedJson, exported: Path, case: str) -> DicomState:
    files = tuple(Path(name).name for name in told.at("files").texts())
    error = without_paths(told.at("error").text)
    if not error and _names_a_folder(case) and not all((exported / case / name).is_file() for name in files):
        error = "some of its files are gone, as where the case was predicted again; export it again"
    return DicomState(told=True, files=files, error=error, diameters_mm={} if error else _diameters(exported, case))


def _diameters(exported: Path, case: str) -> dict[int, float]:
    """Read the diameters of a case's lesions; a case whose name is no folder's has none."""
    if not _names_a_folder(case):
        return {}
    summary, _ = read_json_lenient(exported / case / _SUMMARY)
    lesions = [lesion for lesion in summary.at("lesions") if lesion.at("lesions").count == 1]
    found = {lesion.at("segment").count: lesion.at("long_axis_mm").number for lesion in lesions}
    return {number: length for number, length in found.items() if number is not None and length is not None}


def _names_a_folder(case: str) -> bool:
    return Path(case).name == case and "\0" not in case
