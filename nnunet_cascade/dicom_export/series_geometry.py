"""A case's maps on the slices of the DICOM series they were made from, or of which their CT is a copy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.dataset_conversion.record import orientation_letters
from nnunet_cascade.dicom.ct.reading import SliceFiles
from nnunet_cascade.dicom.headers import Header
from nnunet_cascade.errors import DicomError, GridMismatchError
from nnunet_cascade.geometry import AxisTurn, Grid, as_index
from nnunet_cascade.scans.scans import Scan

_Element = TypeVar("_Element", bound=np.generic)
_COUNTED = {"patient_id": "patients", "study_uid": "studies"}


@dataclass(frozen=True, slots=True)
class ReferencedSeries:
    """A series, ready to be referred to.

    Attributes:
        files: Its slices, in order.
    """

    files: SliceFiles

    @classmethod
    def of(cls, scan: Scan) -> ReferencedSeries:
        """Read where the slices of a series lie.

        Raises:
            DicomError: The CT is an image file, or its slices are gone, cannot be read or make no volume.
        """
        return cls(scan.stacked())

    @property
    def grid(self) -> Grid:
        """Of the volume that the slices make."""
        return self.files.stack.grid

    @property
    def headers(self) -> tuple[Header, ...]:
        """Of the slices, in the order of the grid's planes."""
        return self.files.headers

    @property
    def paths(self) -> tuple[Path, ...]:
        """The slices' files in that order."""
        return tuple(header.path for header in self.headers)

    def require_one_origin(self) -> None:
        """Raise a DicomError unless all slices are one patient's and study's, each with a UID, in one named space."""
        for name in ("patient_id", "study_uid"):
            count = len({getattr(header, name) for header in self.headers})
            if count > 1:
                raise DicomError(
                    f"the series' slices are of {count} {_COUNTED[name]}, by their headers; expected one: what is "
                    "found may be put to nobody; mend the headers"
                )
        if len({header.sop_uid for header in self.headers}) < len(self.headers):
            raise DicomError("slices of the series share a SOPInstanceUID, so that nothing can refer to one; mend them")
        found = {header.frame_of_reference_uid for header in self.headers}
        if "" in found:
            raise DicomError(
                "slices of the series have no FrameOfReferenceUID, which names the space that DICOM objects lie in; "
                "get the series anew with it, or take the maps as they are (.nii.gz)"
            )
        if len(found) > 1:
            raise DicomError(
                f"the series' slices name {len(found)} FrameOfReferenceUIDs; expected one: their positions do not mean "
                "the same, split the series"
            )

    def require_regular(self) -> None:
        """Raise a DicomError unless the slices are the planes of the grid, one by one, as SEG and maps need."""
        found = self.files.stack.irregularities
        if found:
            raise DicomError(
                f"the series has {' and '.join(name.replace('_', ' ') for name in found)}; SEG and maps need slices "
                "straight above one another at equal distances, none missing: export rtstruct alone (--kinds rtstruct)"
            )

    def reorient_to_series(self, array: NDArray[_Element], grid: Grid, *, what: str) -> NDArray[_Element]:
        """Turn an array onto the series' grid, without interpolation; the result may share its memory.

        Raises:
            GridMismatchError: The grids differ in more than the order and the sense of their axes; the message
                names `what`.
        """
        turn, difference = self.turn_of(grid)
        if difference is not None:
            raise GridMismatchError(
                f"{what} does not lie on the slices of the series: {difference}; give the series it was made from"
            )
        return turn.apply(array)

    def turn_of(self, grid: Grid) -> tuple[AxisTurn, str | None]:
        """Return the turn of a grid's arrays onto the series', and in what they differ then; None: in nothing."""
        turn = AxisTurn.to_code(grid, orientation_letters(self.grid))
        return turn, self.grid.difference(turned_grid(grid, turn))


def turned_grid(grid: Grid, turn: AxisTurn) -> Grid:
    """Return the grid of a turned array."""
    first = [0.0, 0.0, 0.0]
    for axis, flipped in zip(turn.order, turn.flipped, strict=True):
        first[axis] = grid.shape[axis] - 1.0 if flipped else 0.0
    axes = tuple(
        tuple(-value + 0.0 if flipped else value for value in grid.axes[axis])
        for axis, flipped in zip(turn.order, turn.flipped, strict=True)
    )
    return Grid(
        shape=as_index(grid.shape[axis] for axis in turn.order),
        spacing_mm=turn.spacing(grid.spacing_mm),
        origin_mm=grid.world_mm((first[0], first[1], first[2])),
        axes=cast(Any, axes),
    )
