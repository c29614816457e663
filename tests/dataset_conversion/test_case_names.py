"""Names of cases: safe, nobody's, and the same whoever is asked for."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_cascade.dataset_conversion.case_names import name_cases
from nnunet_cascade.dicom.folder import DicomPatient
from nnunet_cascade.dicom.headers import Header

SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
BAD_IDS = (
    "", "../../evil", "a/b", "a\\b", "..", ".hidden", "-rf", "CON", "nul", "com1", "Lpt9", "x" * 200, "a b", "Müller",
    "a\0b", "a\n", "a.", "C:x",
)  # fmt: skip


def patient(patient_id, study="1.2.3", sop="1.2.3.1"):
    empty = dict.fromkeys(("series_description", "frame_of_reference_uid", "transfer_syntax"), "")
    uids = {"study_uid": study, "series_uid": "1.2", "sop_uid": sop}
    kind = {"modality": "CT", "is_localizer": False, "frames": 1, "plane": None, "is_whole": True}
    header = Header(path=Path("nowhere"), patient_id=patient_id, **uids, **kind, **empty)
    return DicomPatient(patient_id=patient_id, headers=(header,))


class TestByPatientId:
    @pytest.mark.parametrize("patient_id", ["LUNG1-001", "a", "7", "CONTROL-1", "a_b-C", "x" * 64])
    def test_an_id_that_is_a_file_name_is_taken_as_it_is(self, patient_id):
        named, unnamed = name_cases([patient(patient_id)], "patient-id")
        assert (list(named), unnamed) == ([patient_id], {})

    @pytest.mark.parametrize("patient_id", BAD_IDS)
    def test_any_other_leaves_the_patient_out_under_a_safe_name(self, patient_id):
        named, unnamed = name_cases([patient(patient_id)], "patient-id")
        assert named == {}
        ((name, item),) = unnamed.items()
        assert SAFE.fullmatch(name)
        assert "no file name" in item.reason
        assert patient_id == "" or patient_id not in name + item.reason

    def test_ids_that_differ_only_in_capitals_are_both_left_out(self):
        named, unnamed = name_cases([patient("ab", sop="1.1"), patient("AB", sop="1.2"), patient("c")], "patient-id")
        assert list(named) == ["c"]
        assert len(unnamed) == 2
        assert all("only in capitals" in item.reason for item in unnamed.values())

    def test_studies_of_a_patient_are_told_apart_and_keep_their_names(self):
        studies = [patient("p", study=f"1.2.{number}") for number in range(3)]
        named, unnamed = name_cases(studies, "patient-id", by_study=True)
        assert (len(named), unnamed) == (3, {})
        assert all(re.fullmatch("p_[0-9a-f]{10}", name) for name in named)
        assert set(name_cases(studies[1:2], "patient-id", by_study=True)[0]) < set(named)


class TestByUid:
    @pytest.mark.parametrize("patient_id", ["", "../../evil", "LUNG1-001"])
    def test_nothing_of_the_id_is_in_the_name(self, patient_id):
        assert list(name_cases([patient(patient_id)], "uid")[0]) == list(name_cases([patient("other")], "uid")[0])

    def test_other_patients_do_not_change_a_name(self):
        first = patient("p", study="1.2.3")
        alone = name_cases([first], "uid")[0]
        among = name_cases([patient("a", study="1.9"), first, patient("z", study="1.1")], "uid")[0]
        assert alone.items() <= among.items()


@given(st.lists(st.tuples(st.text(max_size=6), st.sampled_from(["1.1", "1.2", "1.3"])), unique_by=lambda p: p[0]))
def test_every_patient_is_named_once_and_safely(found):
    patients = [patient(name, study, sop=f"1.5.{number}") for number, (name, study) in enumerate(found)]
    for kind in ("uid", "patient-id"):
        named, unnamed = name_cases(patients, kind)
        names = [*named, *unnamed]
        assert len(names) == len(patients)
        assert kind == "patient-id" or not unnamed
        assert len({name.casefold() for name in names}) == len(names)
        assert all(SAFE.fullmatch(name) for name in names)
