"""The preset for NSCLC-Radiomics, on patients made like those of the collection and on two of its own."""

import json

import numpy as np
import pytest
from builders.dicom_downloads import ELSEWHERE, LUNG, TUMOR, Ct, Seg, Subject, convert, lay_out, write_download

from nnunet_cascade.cli import convert_nsclc_radiomics
from nnunet_cascade.dataset_conversion.nsclc_radiomics import nsclc_radiomics_settings
from nnunet_cascade.errors import SettingsError
from nnunet_cascade.images import read_volume

NODE = ELSEWHERE
# Made by machines, though only some of them say so.
MACHINES = tuple(
    Seg(description=description, masks={"GTV-1": NODE}, by_machine=says_so)
    for description, says_so in (("BAMF-AIMI", False), ("TotalSegmentator", True), ("nnU-Net-BPR", True))
)
USUAL = Subject(
    patient_id="LUNG1-001",
    rois=({"GTV-1": TUMOR, "gtv_4r": NODE, "Lung-Left": LUNG, "Spinal-Cord": LUNG},),
    segs=(*MACHINES, Seg()),
)
POST_OPERATIVE = Subject(patient_id="LUNG1-128", cts=(Ct(seed=1),), rois=({"gtv-pre-op": TUMOR, "Lung-Left": LUNG},))


@pytest.fixture(scope="module")
def download(tmp_path_factory):
    """One usual patient, with segmentations made by machines, and the one after an operation."""
    folder = tmp_path_factory.mktemp("nsclc")
    return lay_out(write_download([USUAL, POST_OPERATIVE], folder / "series"), folder / "download", "descriptive")


@pytest.fixture
def convert_with(download, tmp_path):
    """Convert by the preset: `convert_with(source="seg")` gives labels, record and reasons."""

    def build(**settings):
        result = convert(download, tmp_path / "Dataset501_NSCLCRadiomics", nsclc_radiomics_settings(**settings))
        ((record),) = result.converted
        labels = read_volume(tmp_path / "Dataset501_NSCLCRadiomics" / "labelsTr" / "LUNG1-001.nii.gz").array
        return labels, record, {item["case"]: item["reason"] for item in result.left_out}

    return build


NO_GTV_1 = "found no region named 'GTV-1'; there are: 'gtv-pre-op', 'Lung-Left'"
NO_SEG = "found no SEG (there are: CT, RTSTRUCT); expected one with the regions of the labels"


@pytest.mark.parametrize(("source", "reason"), [("rtstruct", NO_GTV_1), ("seg", NO_SEG)])
def test_the_tumor_is_gtv_1_and_the_experts_seg_agrees(convert_with, source, reason):
    labels, record, reasons = convert_with(source=source)
    np.testing.assert_array_equal(labels, TUMOR)
    assert (record["case"], record["cross_check"], record["flags"]) == ("LUNG1-001", {"tumor": 1.0}, [])
    assert reasons == {"LUNG1-128": reason}


def test_all_gtv_unites_nodal_ones_which_no_seg_has_to_compare(convert_with):
    labels, record, reasons = convert_with(all_gtv=True)
    np.testing.assert_array_equal(labels, TUMOR | NODE)
    assert record["labels"]["tumor"]["regions"] == ["GTV-1", "gtv_4r"]
    assert (record["cross_check"], record["flags"]) == ({}, [])
    assert reasons == {"LUNG1-128": NO_GTV_1}


@pytest.mark.parametrize(
    ("targets", "expected"), [(("gtv-1", "GTV_4R"), TUMOR | NODE), (("GTV-1", "gtv-pre-op"), TUMOR)]
)
def test_targets_are_united_by_their_exact_names_and_only_the_first_is_required(convert_with, targets, expected):
    labels, _, reasons = convert_with(targets=targets)
    np.testing.assert_array_equal(labels, expected)
    assert list(reasons) == ["LUNG1-128"]


@pytest.mark.parametrize("targets", [(), ("gtv*",), ("GTV-?",), ("",)])
def test_targets_that_are_no_exact_names_are_refused(targets):
    with pytest.raises(SettingsError, match="expected"):
        nsclc_radiomics_settings(targets=targets)


@pytest.mark.long
def test_two_patients_of_the_collection_come_out_voxel_for_voxel(real_data, tmp_path, monkeypatch, capsys):
    source = tmp_path / "download"
    for patient in ("LUNG1-001", "LUNG1-002"):
        for path in (real_data / patient).rglob("*.dcm"):
            link = source / path.relative_to(real_data)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    for name in ("nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    assert convert_nsclc_radiomics.main(["-i", str(source), "-d", "501", "-np", "2"]) == 0
    assert "2 case(s) for training and 0 for testing" in capsys.readouterr().out
    dataset = tmp_path / "Dataset501_NSCLCRadiomics"
    manifest = json.loads((dataset / "conversion.json").read_text())
    for case, voxels in (("LUNG1-001", 54_639), ("LUNG1-002", 125_204)):
        labels = read_volume(dataset / "labelsTr" / f"{case}.nii.gz")
        image = read_volume(dataset / "imagesTr" / f"{case}_0000.nii.gz")
        assert labels.grid.difference(image.grid) is None
        assert np.count_nonzero(labels.array) == manifest["converted"][case]["labels"]["tumor"]["voxels"] == voxels
        assert manifest["converted"][case]["ct"]["orientation_xyz"] == "LPS"
