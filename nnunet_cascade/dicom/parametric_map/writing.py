"""An image of numbers to a floating-point Parametric Map next to the CT it was computed on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from nnunet_cascade.dicom.codes import LUNG, NO_UNITS
from nnunet_cascade.dicom.derived import DerivedObject, ObjectIdentity
from nnunet_cascade.dicom.parametric_map.quantities import Quantity
from nnunet_cascade.errors import DicomError
from nnunet_cascade.geometry import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class MapToWrite:
    """A map of one quantity.

    Attributes:
        values: (Z, Y, X), float32, on the slices it is written for; finite.
        quantity: What they are.

    Raises:
        DicomError: Values are not finite or of another type.
    """

    values: Image
    quantity: Quantity

    def __post_init__(self) -> None:
        if self.values.ndim != 3 or self.values.dtype != np.float32:
            raise DicomError(
                f"a map has {self.values.ndim} dimensions and type {self.values.dtype}; expected three and float32"
            )
        if not np.isfinite(self.values).all():
            raise DicomError("a map holds NaN or infinite values; expected finite ones")


def write_parametric_map(
    content: MapToWrite,
    source: Sequence[Path],
    path: Path,
    *,
    description: str = "Parametric map",
    identity: ObjectIdentity | None = None,
) -> None:
    """Write a map as 32-bit floating-point numbers, each as it is.

    Other arguments and errors are those of `write_segmentation`.
    """
    derived = DerivedObject(source=source, path=path, description=description, identity=identity or ObjectIdentity())
    derived.write("Parametric Map", partial(_parametric_map, content), {"the map": content.values.shape})


def _parametric_map(content: MapToWrite, slices: Sequence[Dataset], common: dict[str, Any]) -> Dataset:
    from highdicom.pm import ParametricMap  # noqa: PLC0415 - an extra

    dataset = ParametricMap(
        source_images=slices,
        pixel_array=content.values,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[_mapping(content)],
        voi_lut_transformations=[_window(content)],
        content_description=common["series_description"],
        content_label="UNCERTAINTY",
        **common,
    )
    dataset.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [_anatomy()]
    _order_frames(dataset)
    return dataset


def _anatomy() -> Dataset:
    """Say that the frames show both lungs.

    DICOM does not ask for it, but dcmqi does, by which 3D Slicer reads maps: without, it crashes.
    """
    from highdicom.sr import CodedConcept  # noqa: PLC0415 - an extra

    anatomy = Dataset()
    anatomy.AnatomicRegionSequence = [CodedConcept.from_code(LUNG)]
    anatomy.FrameLaterality = "B"
    return anatomy


def _order_frames(dataset: Dataset) -> None:
    """Let frames ascend along the cross product of rows and columns.

    DICOM leaves the order open, but dcmqi does not look at their positions and expects this one.
    """
    frames = list(dataset.PerFrameFunctionalGroupsSequence)
    orientation = dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient
    normal = np.cross(np.array(orientation[:3], float), np.array(orientation[3:], float))
    heights = [float(normal @ np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)) for frame in frames]
    order = np.argsort(heights)
    pixels = np.frombuffer(dataset.FloatPixelData, np.float32).reshape(len(frames), -1)
    dataset.FloatPixelData = pixels[order].tobytes()
    dataset.PerFrameFunctionalGroupsSequence = [frames[index] for index in order]
    for number, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence, start=1):
        frame.FrameContentSequence[0].DimensionIndexValues = number


def _window(content: MapToWrite) -> Any:
    """Return the window from 0 to the largest value; the usual function is for windows wider than 1."""
    from highdicom import VOILUTTransformation  # noqa: PLC0415 - an extra

    width = content.quantity.largest
    return VOILUTTransformation(window_center=width / 2, window_width=width, voi_lut_function="LINEAR_EXACT")


def _mapping(content: MapToWrite) -> Any:
    from highdicom.pm import RealWorldValueMapping  # noqa: PLC0415 - an extra

    return RealWorldValueMapping(
        lut_label=content.quantity.label,
        lut_explanation=content.quantity.explanation,
        unit=NO_UNITS,
        value_range=(0.0, max(content.quantity.largest, float(content.values.max()))),
        slope=1.0,
        intercept=0.0,
        quantity_definition=content.quantity.code,
    )
