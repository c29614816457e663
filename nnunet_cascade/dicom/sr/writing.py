"""Findings to a DICOM Structured Report (TID 1500) that refers to the segments of a SEG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from nnunet_cascade.dicom.codes import ALTERED_STRUCTURE, ARTIFICIAL_INTELLIGENCE, LUNG, NO_UNITS, PRIMARY_NEOPLASM
from nnunet_cascade.dicom.derived import MAKER, Algorithm, DerivedObject, ObjectIdentity
from nnunet_cascade.dicom.seg.writing import Tracking
from nnunet_cascade.dicom.writing import uid_from
from nnunet_cascade.errors import DicomError

_TITLE = Code("126000", "DCM", "Imaging Measurement Report")
_CT = Code("25045-6", "LN", "CT unspecified body region")
_VOLUME, _ML = Code("118565006", "SCT", "Volume"), Code("ml", "UCUM", "milliliter")
_LONG_AXIS, _SHORT_AXIS = Code("103339001", "SCT", "Long axis"), Code("103340004", "SCT", "Short axis")
_MM = Code("mm", "UCUM", "mm")
_COUNT = Code("246206008", "SCT", "Number of lesions")
_MEAN, _RECIST = Code("373098007", "SCT", "Mean"), Code("126081", "DCM", "RECIST 1.1")
_COMMENT, _QUALITATIVE = Code("121106", "DCM", "Comment"), Code("C0034375", "UMLS", "Qualitative Evaluations")
_LONGEST_COMMENT = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionToReport:
    """What is told of one segment.

    Attributes:
        tracking: As in the SEG.
        segment: Its number there.
        volume_ml: Its volume.
        long_axis_mm: Longest axial diameter; None if it was not measured.
        short_axis_mm: Extent at right angles to it.
        mean_uncertainty: None without samples.
    """

    tracking: Tracking
    segment: int
    volume_ml: float
    long_axis_mm: float | None = None
    short_axis_mm: float | None = None
    mean_uncertainty: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportToWrite:
    """What is told of one case.

    Attributes:
        tracking: Of the case as a whole.
        lesions: Those of the SEG; none if nothing was found.
        count: How many there are; more than `lesions` where a segment holds several.
        volume_ml: Of all.
        uncertainty: What mean uncertainties are of.
        comments: In words, such as the verdicts on what was dropped; the notice among them.
        segmentation: The SEG, ready on the disk.
        algorithm: What found them.

    Raises:
        DicomError: A comment is empty.
    """

    tracking: Tracking
    lesions: tuple[LesionToReport, ...]
    count: int
    volume_ml: float
    uncertainty: Code
    comments: tuple[str, ...]
    segmentation: Path
    algorithm: Algorithm

    def __post_init__(self) -> None:
        if not all(comment.strip() for comment in self.comments):
            raise DicomError("a comment is empty; expected words, or no comment")


def write_report(
    report: ReportToWrite,
    source: Sequence[Path],
    path: Path,
    *,
    description: str = "Measurements",
    identity: ObjectIdentity | None = None,
) -> None:
    """Write a Comprehensive SR document.

    Its first group of measurements is the case's: number of lesions and their volume together. Each
    lesion has a group of its own, with the segment's tracking identifiers. What is told in words stands
    under "Qualitative Evaluations". Other arguments and errors are those of `write_segmentation`.
    """
    derived = DerivedObject(source=source, path=path, description=description, identity=identity or ObjectIdentity())
    derived.write("SR", partial(_document, report))


def _document(report: ReportToWrite, slices: Sequence[Dataset], common: dict[str, Any]) -> Dataset:
    from highdicom.sr import ComprehensiveSR  # noqa: PLC0415 - an extra

    seg = dcmread(report.segmentation, stop_before_pixels=True)
    return ComprehensiveSR(
        evidence=[*slices, seg],
        content=_content(report, seg, str(slices[0].SeriesInstanceUID))[0],
        is_complete=True,
        is_final=False,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **common,
    )


def _content(report: ReportToWrite, seg: Dataset, series_uid: str) -> Any:
    from highdicom.sr import MeasurementReport  # noqa: PLC0415 - an extra

    content = MeasurementReport(
        observation_context=_context(),
        procedure_reported=_CT,
        title=_TITLE,
        imaging_measurements=[_case(report), *(_lesion(lesion, report, seg, series_uid) for lesion in report.lesions)],
    )
    if report.comments:
        content[0].ContentSequence.append(_qualitative(report.comments))
    return content


def _context() -> Any:
    from highdicom.sr import DeviceObserverIdentifyingAttributes, ObservationContext, ObserverContext  # noqa: PLC0415
    from pydicom.sr.codedict import codes  # noqa: PLC0415

    device = DeviceObserverIdentifyingAttributes(
        uid=uid_from(MAKER, version(MAKER)), name=MAKER, manufacturer_name=MAKER, model_name=MAKER
    )
    observer = ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    return ObservationContext(observer_device_context=observer)


def _case(report: ReportToWrite) -> Any:
    from highdicom.sr import Measurement, MeasurementsAndQualitativeEvaluations  # noqa: PLC0415 - an extra

    return MeasurementsAndQualitativeEvaluations(
        **_finding(report.tracking, report.algorithm),
        measurements=[
            Measurement(name=_COUNT, value=report.count, unit=NO_UNITS),
            Measurement(name=_VOLUME, value=report.volume_ml, unit=_ML),
        ],
    )


def _lesion(lesion: LesionToReport, report: ReportToWrite, seg: Dataset, series_uid: str) -> Any:
    from highdicom.sr import (  # noqa: PLC0415 - an extra
        ReferencedSegment,
        SourceSeriesForSegmentation,
        VolumetricROIMeasurementsAndQualitativeEvaluations,
    )

    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        **_finding(lesion.tracking, report.algorithm),
        referenced_segment=ReferencedSegment(
            sop_class_uid=seg.SOPClassUID,
            sop_instance_uid=seg.SOPInstanceUID,
            segment_number=lesion.segment,
            source_series=SourceSeriesForSegmentation(series_uid),
        ),
        measurements=list(_measurements(lesion, report.uncertainty)),
    )


def _measurements(lesion: LesionToReport, uncertainty: Code) -> Iterator[Any]:
    from highdicom.sr import Measurement  # noqa: PLC0415 - an extra

    yield Measurement(name=_VOLUME, value=lesion.volume_ml, unit=_ML)
    if lesion.long_axis_mm is not None:
        yield Measurement(name=_LONG_AXIS, value=lesion.long_axis_mm, unit=_MM, method=_RECIST)
    if lesion.short_axis_mm is not None:
        yield Measurement(name=_SHORT_AXIS, value=lesion.short_axis_mm, unit=_MM)
    if lesion.mean_uncertainty is not None:
        yield Measurement(name=uncertainty, value=lesion.mean_uncertainty, unit=NO_UNITS, derivation=_MEAN)


def _finding(tracking: Tracking, algorithm: Algorithm) -> dict[str, Any]:
    """Return what every group of measurements says: of what it is, where it lies and what found it."""
    from highdicom.sr import AlgorithmIdentification, FindingSite, TrackingIdentifier  # noqa: PLC0415 - an extra

    made_by = AlgorithmIdentification(
        name=algorithm.name,
        version=algorithm.version,
        parameters=[f"{name}={value}" for name, value in algorithm.parameters.items()] or None,
        family=ARTIFICIAL_INTELLIGENCE,
    )
    return {
        "tracking_identifier": TrackingIdentifier(uid=tracking.uid, identifier=tracking.name),
        "finding_type": PRIMARY_NEOPLASM,
        "finding_category": ALTERED_STRUCTURE,
        "finding_sites": [FindingSite(anatomic_location=LUNG)],
        "algorithm_id": made_by,
    }


def _qualitative(comments: Sequence[str]) -> Any:
    from highdicom.sr import ContainerContentItem, ContentSequence, RelationshipTypeValues, TextContentItem  # noqa: PLC0415

    contains = RelationshipTypeValues.CONTAINS
    texts = map(_printable, comments)
    container = ContainerContentItem(name=_QUALITATIVE, relationship_type=contains)
    container.ContentSequence = ContentSequence([TextContentItem(_COMMENT, text, contains) for text in texts])
    return container


def _printable(text: str) -> str:
    """Return a text in one line and of a length that every reader shows."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    return line if len(line) <= _LONGEST_COMMENT else line[: _LONGEST_COMMENT - 1] + "…"
