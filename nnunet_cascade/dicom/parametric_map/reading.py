"""A floating-point Parametric Map back onto the grid of a CT."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from nnunet_cascade.dicom.ct.geometry import Stack
from nnunet_cascade.dicom.headers import UNREADABLE, lenient, reason_of
from nnunet_cascade.errors import DicomError
from nnunet_cascade.geometry import Image

_SOP_CLASS = "1.2.840.10008.5.1.4.1.1.30"
_SAME_PLACE_MM = 0.01


@dataclass(frozen=True, slots=True)
class ReadMap:
    """A map on a CT's grid.

    Attributes:
        values: (Z, Y, X), float32; 0 on planes that the file does not have.
        quantity: What they are.
        planes: Which of the grid's planes the file has.
    """

    values: Image
    quantity: Code
    planes: tuple[int, ...]


def read_parametric_map(path: Path, stack: Stack) -> ReadMap:
    """Read a map of one quantity that lies on the slices of a CT.

    Raises:
        DicomError: The file is not a floating-point Parametric Map, or a frame lies on no slice of the CT.
    """
    try:
        with lenient():
            dataset = dcmread(path)
            return _on_stack(dataset, stack)
    except DicomError:
        raise
    except UNREADABLE as error:
        raise DicomError(f"the Parametric Map cannot be read ({reason_of(error)}); export it again") from error


def _on_stack(dataset: Dataset, stack: Stack) -> ReadMap:
    if dataset.get("SOPClassUID") != _SOP_CLASS or "FloatPixelData" not in dataset:
        found = str(dataset.get("Modality") or "no modality")
        raise DicomError(f"the file is no floating-point Parametric Map (found {found}); give one of 32-bit numbers")
    shape = (int(dataset.NumberOfFrames), int(dataset.Rows), int(dataset.Columns))
    frames = np.frombuffer(dataset.FloatPixelData, dtype="<f4").reshape(shape)
    planes = [_plane(groups, stack) for groups in dataset.PerFrameFunctionalGroupsSequence]
    values = np.zeros(stack.grid.shape, dtype=np.float32)
    values[planes] = frames
    return ReadMap(values, _quantity(dataset), tuple(sorted(planes)))


def _plane(groups: Dataset, stack: Stack) -> int:
    """Return the plane of the grid on which a frame lies."""
    position: NDArray[np.float64] = np.array(
        [float(value) for value in groups.PlanePositionSequence[0].ImagePositionPatient]
    )
    height, row, column = stack.coordinates(position[None])[0].tolist()
    place = stack.slice_at(height)
    sideways_mm = np.hypot(row * stack.grid.spacing_mm[1], column * stack.grid.spacing_mm[2])
    if place is None or place not in stack.sources or sideways_mm > _SAME_PLACE_MM:
        raise DicomError(f"a frame lies {height:.2f} mm above the first slice, on none of the CT; give the map's CT")
    return stack.sources.index(place)


def _quantity(dataset: Dataset) -> Code:
    groups = (dataset.SharedFunctionalGroupsSequence[0], dataset.PerFrameFunctionalGroupsSequence[0])
    holder = next(group for group in groups if "RealWorldValueMappingSequence" in group)
    definition = holder.RealWorldValueMappingSequence[0].QuantityDefinitionSequence[0]
    concept = definition.ConceptCodeSequence[0]
    return Code(str(concept.CodeValue), str(concept.CodingSchemeDesignator), str(concept.CodeMeaning))
