"""Which CT, which structure set and which segmentation of a patient belong together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from nnunet_cascade.dataset_conversion.labels import Label
from nnunet_cascade.dicom.folder import DicomPatient
from nnunet_cascade.dicom.headers import Header
from nnunet_cascade.dicom.rtstruct.reading import StructureSet, read_structure_set
from nnunet_cascade.dicom.seg.reading import SegmentationFile, read_segmentation
from nnunet_cascade.errors import DicomError

Annotation = StructureSet | SegmentationFile
_Annotation = TypeVar("_Annotation", StructureSet, SegmentationFile)
_MADE_BY_MACHINE = "AUTOMATIC"


def choose_ct(patient: DicomPatient, annotation: Annotation) -> list[Header]:
    """Return the files of the CT series that an annotation was drawn on.

    It is the series the annotation names; where that one is not there, the only one in
    the same frame of reference.

    Raises:
        DicomError: There is no CT, none in that frame of reference, or more than one.
    """
    # A series of overviews alone is not a CT to choose.
    series = {uid: files for uid, files in patient.ct_series().items() if not all(file.is_localizer for file in files)}
    if not series:
        raise DicomError(f"found no CT ({_modalities(patient)}); expected a CT series")
    named = [uid for uid in series if uid in annotation.referenced_series_uids]
    frames = annotation.frame_of_reference_uids
    fitting = named or [uid for uid, files in series.items() if _shares_frame(files, frames)]
    if not fitting:
        raise DicomError(
            f"found contours for another frame of reference than that of the {len(series)} CT series; "
            "expected the CT they were drawn on: download that one"
        )
    if len(fitting) > 1:
        raise DicomError(
            f"found {len(fitting)} CT series that fit equally ({', '.join(sorted(fitting))}); expected one: "
            f"give the right one alone{_or_by_study(patient)}"
        )
    chosen = series[fitting[0]]
    if not _shares_frame(chosen, frames):
        raise DicomError(
            "found contours that name this CT but another frame of reference; expected one coordinate system"
        )
    return chosen


def may_be_drawn_on(patient: DicomPatient, annotation: Annotation, ct: Sequence[Header]) -> bool:
    """Return whether nothing in an annotation speaks against its being drawn on a CT of a patient."""
    named = annotation.referenced_series_uids & {header.series_uid for header in patient.of_modality("CT")}
    return _shares_frame(ct, annotation.frame_of_reference_uids) and (not named or ct[0].series_uid in named)


def choose_structure_set(patient: DicomPatient, labels: Sequence[Label]) -> StructureSet:
    """Return the RTSTRUCT that holds the labels' regions.

    Raises:
        DicomError: There is none, none holds the regions, or several do.
    """
    sets = [read_structure_set(header.path) for header in patient.of_modality("RTSTRUCT")]
    if not sets:
        raise DicomError(f"found no RTSTRUCT ({_modalities(patient)}); expected one with the regions of the labels")
    fitting = _fitting(sets, labels, names_of_rois)
    if len(fitting) > 1:
        raise DicomError(
            f"found {len(fitting)} RTSTRUCT with these regions ({_uids(fitting)}); expected one: "
            f"give the right one alone{_or_by_study(patient)}"
        )
    return fitting[0]


def choose_segmentation(patient: DicomPatient, labels: Sequence[Label], *, description: str | None) -> SegmentationFile:
    """Return the DICOM SEG that holds the labels' regions.

    Of several, those that are not made by a machine alone are preferred.

    Args:
        patient: Whose files.
        labels: Whose regions it must hold.
        description: Series Description it must bear, capitals aside; None for any.

    Raises:
        DicomError: There is none, none holds the regions, or several do.
    """
    headers = patient.of_modality("SEG")
    if not headers:
        raise DicomError(f"found no SEG ({_modalities(patient)}); expected one with the regions of the labels")
    described = [file for file in headers if description is None or _is_alike(file.series_description, description)]
    if not described:
        raise DicomError(f"found {len(headers)} SEG, none with Series Description {description!r}; expected one")
    fitting = _fitting([read_segmentation(header.path) for header in described], labels, names_of_segments)
    by_hand = [file for file in fitting if any(segment.algorithm != _MADE_BY_MACHINE for segment in file.segments)]
    chosen = by_hand or fitting
    if len(chosen) > 1:
        raise DicomError(
            f"found {len(chosen)} SEG with these regions ({_uids(chosen)}); expected one: give the right one alone, "
            f"or its Series Description{_or_by_study(patient)}"
        )
    return chosen[0]


def names_of_rois(structure_set: StructureSet) -> dict[int, tuple[str, ...]]:
    """Return the names of ROIs by number."""
    return {number: (name,) for number, name in structure_set.names.items()}


def names_of_segments(file: SegmentationFile) -> dict[int, tuple[str, ...]]:
    """Return the names of segments by number, the most trusted first."""
    return {segment.number: segment.names for segment in file.segments}


def _fitting(
    found: Sequence[_Annotation],
    labels: Sequence[Label],
    names: Callable[[_Annotation], dict[int, tuple[str, ...]]],
) -> list[_Annotation]:
    """Return the annotations that hold the labels' regions, or say what each lacks."""
    lacks = [_lack(labels, names(item)) for item in found]
    fitting = [item for item, lack in zip(found, lacks, strict=True) if lack is None]
    if not fitting:
        raise DicomError("; ".join(dict.fromkeys(lack for lack in lacks if lack is not None)))
    return fitting


def _lack(labels: Sequence[Label], names: dict[int, tuple[str, ...]]) -> str | None:
    """Return what an annotation lacks, or None if it has all that the labels need and something at all."""
    try:
        chosen = [label.chosen(names) for label in labels]
    except DicomError as error:
        return str(error)
    return None if any(chosen) else "found no region of any label"


def _shares_frame(files: Sequence[Header], frames: frozenset[str]) -> bool:
    own = {file.frame_of_reference_uid for file in files} - {""}
    return not own or not frames or bool(own & frames)


def _is_alike(one: str, other: str) -> bool:
    return one.strip().casefold() == other.strip().casefold()


def _uids(found: Sequence[StructureSet] | Sequence[SegmentationFile]) -> str:
    return ", ".join(item.sop_uid for item in found)


def _or_by_study(patient: DicomPatient) -> str:
    studies = len({header.study_uid for header in patient.headers})
    return f", or convert each of the {studies} studies by itself (--by_study)" if studies > 1 else ""


def _modalities(patient: DicomPatient) -> str:
    kinds = sorted({header.modality or "?" for header in patient.headers})
    return "there are: " + ", ".join(kinds)
