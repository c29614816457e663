"""Maps of numbers as DICOM Parametric Maps."""

import math
import sys

import numpy as np
import pydicom
import pytest
from builders.dicom_results import GRID, scan_of
from pydicom.sr.coding import Code

from nnunet_cascade.dicom.derived import ObjectIdentity
from nnunet_cascade.dicom.parametric_map.quantities import OWN_SCHEME, QUANTITIES
from nnunet_cascade.dicom.parametric_map.reading import read_parametric_map
from nnunet_cascade.dicom.parametric_map.writing import MapToWrite, write_parametric_map
from nnunet_cascade.errors import DicomError
from nnunet_cascade.geometry import Box
from nnunet_cascade.uncertainty_measures import MEASURES

VALUES = np.random.default_rng(2).random(GRID.shape, dtype=np.float32) / 4


def a_map(**changes):
    quantity = QUANTITIES["variance"]
    told = {"quantity": quantity.code, "label": quantity.label, "explanation": quantity.explanation, "largest": 0.25}
    return MapToWrite(**{"values": VALUES, **told, **changes})


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    return scan_of(tmp_path_factory.mktemp("map") / "ct").stacked()


@pytest.fixture
def paths(series):
    return [header.path for header in series.headers]


def test_every_bit_of_every_number_comes_back(tmp_path, series, paths):
    values = VALUES.copy()
    values[0, 0, :3] = (np.finfo(np.float32).tiny, np.float32(1) / 3, 0.25)
    write_parametric_map(a_map(values=values), paths, tmp_path / "a.dcm")
    found = read_parametric_map(tmp_path / "a.dcm", series.stack)
    assert found.values.tobytes() == values.tobytes()
    assert found.planes == tuple(range(GRID.shape[0]))


def test_a_map_may_be_of_some_of_the_planes(tmp_path, series, paths):
    write_parametric_map(a_map(values=VALUES[2:5]), paths[2:5], tmp_path / "a.dcm")
    found = read_parametric_map(tmp_path / "a.dcm", series.stack)
    assert found.planes == (2, 3, 4)
    assert not found.values[[0, 1, 5, 6, 7]].any()


def test_the_map_says_what_its_numbers_are_in_which_unit_and_that_it_is_research(tmp_path, paths):
    write_parametric_map(a_map(), paths, tmp_path / "a.dcm")
    made = pydicom.dcmread(tmp_path / "a.dcm")
    shared = made.SharedFunctionalGroupsSequence[0]
    holder = shared if "RealWorldValueMappingSequence" in shared else made.PerFrameFunctionalGroupsSequence[0]
    mapping = holder.RealWorldValueMappingSequence[0]
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1.0, 0.0)
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "1"
    assert mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0].CodeMeaning == "Variance"
    assert made.ContentQualification == "RESEARCH"


def test_every_measure_of_uncertainty_has_a_code_that_dicom_can_hold():
    assert set(QUANTITIES) == set(MEASURES)
    for quantity in QUANTITIES.values():
        assert len(quantity.code.value) <= 16
        assert quantity.code.scheme_designator in ("UMLS", OWN_SCHEME)
        a_map(label=quantity.label, explanation=quantity.explanation, largest=quantity.largest)
    assert QUANTITIES["predictive_entropy"].largest == pytest.approx(-math.log(0.5))


def test_the_same_identity_gives_the_same_bytes(tmp_path, paths):
    identity = ObjectIdentity(series_uid="1.2.3", sop_uid="1.2.4")
    for name in "ab":
        write_parametric_map(a_map(), paths, tmp_path / name, identity=identity)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": VALUES.astype(np.float64)}, "float64"),
        ({"values": VALUES[0]}, "2 dimensions"),
        ({"values": np.full(GRID.shape, np.nan, np.float32)}, "NaN"),
        ({"label": "x" * 17}, "at most 16"),
    ],
)
def test_a_map_is_valid_from_birth(changes, message):
    with pytest.raises(DicomError, match=message):
        a_map(**changes)


def test_a_map_of_another_ct_or_another_kind_of_file_is_refused(tmp_path, series, paths):
    write_parametric_map(a_map(), paths, tmp_path / "a.dcm")
    other = scan_of(tmp_path / "ct", name="other", grid=GRID.cropped(Box((2, 0, 0), (8, 20, 24))))
    with pytest.raises(DicomError, match="on none of the CT"):
        read_parametric_map(tmp_path / "a.dcm", other.stacked().stack)
    with pytest.raises(DicomError, match=r"no floating-point Parametric Map \(found CT\)"):
        read_parametric_map(paths[0], series.stack)
    with pytest.raises(DicomError, match=r"the map has shape \(7, 20, 24\); expected \(8, 20, 24\)"):
        write_parametric_map(a_map(values=VALUES[1:]), paths, tmp_path / "b.dcm")


def test_without_highdicom_the_message_names_the_extra(tmp_path, paths, monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom.pm", None)
    with pytest.raises(DicomError, match=r"nnunet-cascade\[dicom\]"):
        write_parametric_map(a_map(), paths, tmp_path / "a.dcm")


def test_a_code_is_read_as_it_was_written(tmp_path, series, paths):
    code = Code("mutual-info", OWN_SCHEME, "Mutual information")
    write_parametric_map(a_map(quantity=code), paths, tmp_path / "a.dcm")
    assert read_parametric_map(tmp_path / "a.dcm", series.stack).quantity == code
