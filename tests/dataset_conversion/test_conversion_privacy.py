"""Nothing that names somebody leaves the DICOM."""

import gzip
import shutil
from dataclasses import replace

import pytest
from builders.dicom_downloads import LUNG, ONE, SETTINGS, Seg, contents, convert, edit, truncate, write_subject

from nnunet_cascade.dataset_conversion import cohort
from nnunet_cascade.dicom.folder import index_folder

SECRETS = {
    "name": "Doe^Jane",
    "id": "MRN-4711-0815",
    "birth": "19470203",
    "date": "20110911",
    "physician": "House^Gregory",
    "institution": "Princeton-Plainsboro",
    "folder": "ward seven",
    "file": "janes_scan",
    "description": "follow-up of Jane",
}


@pytest.fixture(scope="module")
def identified(tmp_path_factory):
    """Patients with all tags that name somebody, in folders and files that do: one whole, the others broken."""
    folder = tmp_path_factory.mktemp("download") / SECRETS["folder"]
    identity = {"patient_name": SECRETS["name"], "birth_date": SECRETS["birth"], "date": SECRETS["date"]}
    subjects = {
        kind: ONE.but(patient_id=f"{SECRETS['id']}-{kind}", study=kind, segs=(Seg(),), identity=identity)
        for kind in ("whole", "no region", "contours cut", "seg cut", "slice cut", "not DICOM", "bad ID")
    }
    subjects["no region"] = subjects["no region"].but(rois=({"Lung": LUNG},))
    subjects["bad ID"] = subjects["bad ID"].but(patient_id=f"../{SECRETS['id']}")
    for kind, subject in subjects.items():
        write_subject(subject, folder / kind)
    for number, path in enumerate(sorted(folder.rglob("*.dcm"))):
        edit(path, _identify)
        path.rename(path.with_name(f"{SECRETS['file']}{number}.dcm"))
    truncate(next((folder / "contours cut" / "RTSTRUCT").iterdir()), 0.7)
    truncate(next((folder / "seg cut" / "SEG").iterdir()), 0.95)
    truncate(next((folder / "slice cut" / "CT").iterdir()), 0.8)
    next((folder / "not DICOM" / "CT").iterdir()).write_bytes(b"nothing")
    return folder


def _identify(dataset):
    dataset.InstitutionName = SECRETS["institution"]
    dataset.ReferringPhysicianName = SECRETS["physician"]
    dataset.StudyDescription = SECRETS["description"]


@pytest.mark.parametrize(("names", "source"), [("uid", "rtstruct"), ("patient-id", "seg")])
def test_nothing_that_names_somebody_is_in_the_dataset(identified, dataset, names, source):
    result = convert(identified, dataset, replace(SETTINGS, source=source, case_names=names))
    assert len(result.left_out) >= 3
    secrets = {text for kind, text in SECRETS.items() if kind != "id" or names == "uid"}
    for name, data in contents(dataset).items():
        text = gzip.decompress(data) if name.endswith(".gz") else data
        found = [secret for secret in secrets if secret.encode().lower() in text.lower() or secret in name]
        assert found == [], name
        assert str(identified).encode() not in text
        assert all(part.encode() not in text for part in SECRETS["name"].split("^"))


def test_a_file_that_vanishes_costs_its_patient_and_is_not_named(identified, dataset, monkeypatch, tmp_path):
    source = shutil.copytree(identified / "whole", tmp_path / "whole")
    scan = index_folder(source)
    monkeypatch.setattr(cohort, "index_folder", lambda *_, **__: scan)
    next((source / "CT").iterdir()).unlink()
    (record,) = convert(source, dataset, replace(SETTINGS, case_names="uid")).left_out
    assert "No such file" in record["reason"]
    assert SECRETS["file"] not in record["reason"]
