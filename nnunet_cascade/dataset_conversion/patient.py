"""One patient: from DICOM files to voxels and what is known about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from nnunet_cascade.dataset_conversion.labels import Label
from nnunet_cascade.dataset_conversion.region import DrawnRegion, drawn, unite
from nnunet_cascade.dataset_conversion.settings import ConversionSettings, Source
from nnunet_cascade.dataset_conversion.sources import (
    Annotation,
    choose_ct,
    choose_segmentation,
    choose_structure_set,
    may_be_drawn_on,
)
from nnunet_cascade.dicom.ct.reading import CtSeries, SliceFiles, read_ct_series, stack_files
from nnunet_cascade.dicom.folder import DicomPatient
from nnunet_cascade.errors import DicomError
from nnunet_cascade.geometry import Labels, Mask

_MODALITY: dict[Source, str] = {"rtstruct": "RTSTRUCT", "seg": "SEG"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """A patient's CT and labels on one grid.

    Attributes:
        ct: The CT.
        labels: (Z, Y, X), uint8, 0 outside all regions, else the label's value.
        regions: What each label was made from, by name, empty ones too.
        overlaps_voxels: Voxels that a later label lost to an earlier one, by name.
        source: Of the labels.
        annotation_uid: SOP Instance UID of the RTSTRUCT or SEG.
        cross_check: Dice against the other kind by label; empty if there is none.
        cross_check_problem: Why there is none although the other kind is there; else "".
    """

    ct: CtSeries
    labels: Labels
    regions: Mapping[str, DrawnRegion]
    overlaps_voxels: Mapping[str, int]
    source: Source
    annotation_uid: str
    cross_check: Mapping[str, float]
    cross_check_problem: str = ""


def convert_patient(patient: DicomPatient, settings: ConversionSettings) -> Converted:
    """Read a patient's CT and draw the labels on it.

    Raises:
        DicomError: Why the patient cannot be converted: found, expected, what to do.
    """
    if patient.broken:
        raise DicomError(f"{len(patient.broken)} file(s) beside the others are broken; one {patient.broken[0].reason}")
    annotation = _annotation(patient, settings, settings.source)
    files = stack_files(choose_ct(patient, annotation))
    if files.stack.irregularities and settings.irregular == "exclude":
        raise DicomError(f"found {_described(files)}; irregular series are left out as asked")
    regions = _draw(annotation, files, settings)
    _require_sound(regions, settings)
    ct = read_ct_series(files)
    values, overlaps = _values(regions, settings.labels)
    dice, problem = _cross_check(patient, files, regions, settings)
    return Converted(
        ct=ct,
        labels=values,
        regions=regions,
        overlaps_voxels=overlaps,
        source=settings.source,
        annotation_uid=annotation.sop_uid,
        cross_check=dice,
        cross_check_problem=problem,
    )


def _annotation(patient: DicomPatient, settings: ConversionSettings, source: Source) -> Annotation:
    if source == "rtstruct":
        return choose_structure_set(patient, settings.labels)
    return choose_segmentation(patient, settings.labels, description=settings.seg_description)


def _draw(annotation: Annotation, files: SliceFiles, settings: ConversionSettings) -> dict[str, DrawnRegion]:
    return {label.name: unite(drawn(annotation, label, files.stack), files.stack) for label in settings.labels}


def _require_sound(regions: Mapping[str, DrawnRegion], settings: ConversionSettings) -> None:
    for label in settings.labels:
        region = regions[label.name]
        if region.outside:
            raise DicomError(
                f"found {region.outside} contour(s) or voxel(s) of {label.name!r} outside the CT; expected all inside: "
                "the CT is incomplete or another one was contoured"
            )
        if label.required and not region.mask.any():
            raise DicomError(f"found region {', '.join(region.names)} without a voxel; expected something drawn")


def _values(regions: Mapping[str, DrawnRegion], labels: tuple[Label, ...]) -> tuple[Labels, dict[str, int]]:
    """Paint labels, the first over the later ones."""
    masks = [regions[label.name].mask for label in labels]
    values = np.zeros(masks[0].shape, dtype=np.uint8)
    overlaps: dict[str, int] = {}
    for value, (label, mask) in enumerate(zip(labels, masks, strict=True), start=1):
        taken = int(np.count_nonzero(values[mask])) if value > 1 else 0
        if taken:
            overlaps[label.name] = taken
        values[mask & (values == 0)] = value
    return values, overlaps


def _cross_check(
    patient: DicomPatient, files: SliceFiles, regions: Mapping[str, DrawnRegion], settings: ConversionSettings
) -> tuple[dict[str, float], str]:
    """Compare with the other kind of annotation; trouble there costs the comparison alone."""
    other: Source = "seg" if settings.source == "rtstruct" else "rtstruct"
    if not settings.cross_check or not patient.of_modality(_MODALITY[other]):
        return {}, ""
    # Nothing is required of what is only looked at.
    labels = tuple(replace(label, required=False, needs="") for label in settings.labels)
    relaxed = replace(settings, labels=labels)
    try:
        annotation = _annotation(patient, relaxed, other)
        if not may_be_drawn_on(patient, annotation, files.headers):
            return {}, f"the {_MODALITY[other]} was drawn on another CT; expected this one"
        others = _draw(annotation, files, relaxed)
    except DicomError as error:
        return {}, str(error)
    # A label that unites fewer or more regions there means something else.
    alike = [name for name, region in regions.items() if len(region.names) == len(others[name].names)]
    unlike = [name for name in regions if name not in alike]
    problem = f"the {_MODALITY[other]} has fewer or more regions of {', '.join(unlike)}; not compared" if unlike else ""
    return {name: dice(regions[name].mask, others[name].mask) for name in alike if regions[name].names}, problem


def dice(one: Mask, other: Mask) -> float:
    """Return the Dice of two masks, 1 where both are empty."""
    sizes = int(np.count_nonzero(one)) + int(np.count_nonzero(other))
    return 2.0 * int(np.count_nonzero(one & other)) / sizes if sizes else 1.0


def _described(files: SliceFiles) -> str:
    stack = files.stack
    return (
        f"{' and '.join(stack.irregularities)} ({len(stack.order)} slices, "
        f"{len(stack.interpolated)} of {stack.grid.shape[0]} planes between them)"
    )
