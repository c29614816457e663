"""A drawn case of a DICOM series, exported as DICOM."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pydicom
from builders.dicom_results import GRID, scan_of, write_results
from builders.oriented_grids import grid_towards

from nnunet_cascade.case_folders.case_record import read_record
from nnunet_cascade.dicom.rtstruct.rasterizing import rasterize
from nnunet_cascade.dicom.rtstruct.reading import read_structure_set
from nnunet_cascade.dicom.seg.rasterizing import segment_on_stack
from nnunet_cascade.dicom.seg.reading import read_segmentation
from nnunet_cascade.dicom_export.export import ExportRequest, export_case
from nnunet_cascade.geometry import Grid
from nnunet_cascade.scans.scans import Scan

TURN = math.radians(12)
OBLIQUE = Grid(
    shape=GRID.shape,
    spacing_mm=(3.0, 0.9765625, 0.8),
    origin_mm=(-101.3, 57.25, 800.4),
    axes=((0.0, -math.sin(TURN), math.cos(TURN)), (0.0, math.cos(TURN), math.sin(TURN)), (1.0, 0.0, 0.0)),
)
GRIDS = {
    "axial": GRID,
    "prone": grid_towards("RAS", GRID.shape, GRID.spacing_mm),
    "feet first": grid_towards("RPI", GRID.shape, GRID.spacing_mm),
    "oblique": OBLIQUE,
}


@dataclasses.dataclass
class Exported:
    """A case, what was drawn of it, and the folder of its objects."""

    root: Path
    scan: Scan
    drawn: tuple

    def file(self, kind, case="case"):
        return self.root / "results" / "dicom" / case / f"{kind}.dcm"

    def read(self, kind):
        return pydicom.dcmread(self.file(kind))

    @property
    def stack(self):
        return self.scan.stacked().stack


def export(root, case, scan, **request):
    record = read_record(root / "results" / f"{case}.json")
    return export_case(ExportRequest(results=root / "results", **request), case, record, scan)


def exported(root, grid, **results):
    scan = scan_of(root / "ct", grid)
    drawn = write_results(root / "results", "case", scan.stacked().stack.grid, scan=scan, **results)
    export(root, "case", scan)
    return Exported(root, scan, drawn)


def union_of_segments(path, stack):
    file = read_segmentation(path)
    return np.any([segment_on_stack(file, segment.number, stack).mask for segment in file.segments], axis=0)


def union_of_contours(path, stack):
    found = read_structure_set(path)
    return np.any([rasterize(found.contours(number).closed, stack).mask for number in found.names], axis=0)
