"""Cases exported once for all tests of DICOM out; none changes them."""

import numpy as np
import pydicom
import pytest
from builders.dicom_results import GRID, write_results
from builders.exported_cases import GRIDS, Exported, export, exported

from nnunet_cascade.dicom.rtstruct.rasterizing import rasterize
from nnunet_cascade.dicom.rtstruct.reading import read_structure_set
from nnunet_cascade.scans.search import find_scans


@pytest.fixture(scope="session", params=GRIDS)
def each(request, tmp_path_factory):
    """A case of a series in one of four orientations, exported."""
    return exported(tmp_path_factory.mktemp("each"), GRIDS[request.param])


@pytest.fixture(scope="session")
def axial(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("axial"), GRID)


@pytest.fixture(scope="session")
def map_of():
    """Read a parametric map onto the grid of a CT, and which of its planes the file has: `map_of(path, stack)`."""

    def read(path, stack):
        made = pydicom.dcmread(path)
        places = [item.PlanePositionSequence[0].ImagePositionPatient for item in made.PerFrameFunctionalGroupsSequence]
        planes = np.rint(stack.coordinates(np.array(places, dtype=float))[:, 0] / stack.step_mm).astype(int)
        values = np.zeros(stack.grid.shape, dtype=np.float32)
        values[planes] = np.frombuffer(made.FloatPixelData, np.float32).reshape(-1, *stack.grid.shape[1:])
        return values, sorted(planes.tolist())

    return read


@pytest.fixture(scope="session")
def real(real_data, tmp_path_factory):
    """LUNG1-001 with the experts' contour as a result."""
    root = tmp_path_factory.mktemp("real")
    (scan,) = find_scans(real_data / "LUNG1-001").values()
    stack = scan.stacked().stack
    contours = read_structure_set(next((real_data / "LUNG1-001" / "mask_rtstruct").rglob("*.dcm")))
    number = next(number for number, name in contours.names.items() if name == "GTV-1")
    mask = rasterize(contours.contours(number).closed, stack).mask
    drawn = write_results(root / "results", "case", stack.grid, mask, scan=scan)
    export(root, "case", scan)
    return Exported(root, scan, drawn)
