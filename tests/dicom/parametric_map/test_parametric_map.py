"""Maps of numbers as DICOM Parametric Maps."""

import dataclasses
import sys

import highdicom
import numpy as np
import pydicom
import pytest
from builders.dicom_results import GRID, scan_of

from nnunet_cascade.dicom.parametric_map.quantities import OWN_SCHEME, QUANTITIES
from nnunet_cascade.dicom.parametric_map.writing import MapToWrite, write_parametric_map
from nnunet_cascade.errors import DicomError
from nnunet_cascade.uncertainty_measures import MEASURES

VALUES = np.random.default_rng(2).random(GRID.shape, dtype=np.float32) / 4
VARIANCE = QUANTITIES["variance"]


def a_map(values=VALUES, quantity=VARIANCE):
    return MapToWrite(values=values, quantity=quantity)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    files = scan_of(tmp_path_factory.mktemp("map") / "ct").stacked()
    return [header.path for header in files.headers]


def test_every_bit_of_every_number_of_the_planes_that_are_written_comes_back(tmp_path, paths):
    values = VALUES[2:6].copy()
    values[0, 0, :3] = (np.finfo(np.float32).tiny, np.float32(1) / 3, 0.25)
    write_parametric_map(a_map(values), paths[2:6], tmp_path / "a.dcm")
    volume = highdicom.pm.ParametricMap.from_dataset(pydicom.dcmread(tmp_path / "a.dcm")).get_volume()
    assert volume.array[::-1].astype(np.float32).tobytes() == values.tobytes()  # from the head to the feet
    assert volume.position == GRID.world_mm((5, 0, 0))


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
    assert QUANTITIES["predictive_entropy"].largest == pytest.approx(np.log(2))


def test_a_quantity_has_a_label_that_dicom_can_hold():
    with pytest.raises(DicomError, match="at most 16"):
        dataclasses.replace(QUANTITIES["variance"], label="x" * 17)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (VALUES.astype(np.float64), "float64"),
        (VALUES[0], "2 dimensions"),
        (np.full(GRID.shape, np.nan, np.float32), "NaN"),
    ],
)
def test_a_map_is_valid_from_birth(values, message):
    with pytest.raises(DicomError, match=message):
        a_map(values)


@pytest.mark.parametrize(("name", "longest"), [("label", 16), ("explanation", 64)])
def test_a_quantity_has_texts_that_dicom_can_hold(name, longest):
    with pytest.raises(DicomError, match=f"a map's {name} is 'x+'; expected at most {longest}"):
        dataclasses.replace(VARIANCE, **{name: "x" * (longest + 1)})


def test_without_highdicom_the_message_names_the_extra(tmp_path, paths, monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom.pm", None)
    with pytest.raises(DicomError, match=r"nnunet-cascade\[dicom\]"):
        write_parametric_map(a_map(), paths, tmp_path / "a.dcm")
