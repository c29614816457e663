"""Findings as a DICOM Structured Report."""

import dataclasses
from datetime import datetime

import highdicom.sr
import numpy as np
import pydicom
import pytest
from builders.dicom_results import GRID, scan_of
from pydicom.sr.coding import Code

from nnunet_cascade.dicom.derived import Algorithm, ObjectIdentity
from nnunet_cascade.dicom.seg.writing import SegmentToWrite, Tracking, write_segmentation
from nnunet_cascade.dicom.sr.writing import LesionToReport, ReportToWrite, write_report
from nnunet_cascade.errors import DicomError

IDENTITY = ObjectIdentity(series_uid="1.2.5", sop_uid="1.2.6", written_at=datetime(2025, 1, 2, 3, 4, 5))  # noqa: DTZ001
LESION = LesionToReport(
    tracking=Tracking(name="Tumor 1", uid="1.2.7"), segment=1, volume_ml=1.5, long_axis_mm=12.25, mean_uncertainty=0.1
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Slices, and a report on a SEG of them."""
    root = tmp_path_factory.mktemp("sr")
    paths = list(scan_of(root / "ct").slices)
    write_segmentation([SegmentToWrite(name="Tumor 1", mask=np.ones(GRID.shape, dtype=bool))], paths, root / "seg.dcm")
    report = ReportToWrite(
        tracking=Tracking(name="case", uid="1.2.8"),
        lesions=(LESION,),
        count=1,
        volume_ml=1.5,
        uncertainty=Code("C1711260", "UMLS", "Variance"),
        comments=("A <b>comment</b> \\ of 肺",),
        segmentation=root / "seg.dcm",
        algorithm=Algorithm(name="nnunet-cascade", version="1", parameters={"stage1_sha256": "ab"}),
    )
    return paths, report


def written(made, path, **changes):
    paths, report = made
    write_report(dataclasses.replace(report, **changes), paths, path, identity=IDENTITY)
    return pydicom.dcmread(path)


def comments_of(dataset):
    by_code = {item.ConceptNameCodeSequence[0].CodeValue: item for item in dataset.ContentSequence}
    return [item.TextValue for item in by_code["C0034375"].ContentSequence] if "C0034375" in by_code else []


def measurements_of(dataset):
    (group,) = highdicom.sr.ComprehensiveSR.from_dataset(dataset).content.get_volumetric_roi_measurement_groups()
    return {item.name.meaning: item for item in group.get_measurements()}


def test_the_long_axis_is_measured_by_recist_and_what_was_not_measured_is_not_told(made, tmp_path):
    found = measurements_of(written(made, tmp_path / "a"))
    axis = found["Long axis"]
    assert (axis.value, axis.unit.value, axis.method.meaning) == (12.25, "mm", "RECIST 1.1")
    assert found["Variance"].derivation.meaning == "Mean"
    lesion = dataclasses.replace(LESION, long_axis_mm=None, mean_uncertainty=None)
    assert list(measurements_of(written(made, tmp_path / "b", lesions=(lesion,)))) == ["Volume"]


def test_comments_are_text_in_any_script_in_one_line_and_not_endless(made, tmp_path):
    assert comments_of(written(made, tmp_path / "a")) == ["A <b>comment</b> \\ of 肺"]
    (cut,) = comments_of(written(made, tmp_path / "b", comments=("line\nbreak" + "x" * 2000,)))
    assert cut.startswith("line breakx")
    assert len(cut) == 1024
    assert comments_of(written(made, tmp_path / "c", comments=())) == []


def test_it_is_preliminary_and_verified_by_nobody_and_the_seg_is_its_evidence(made, tmp_path):
    report = written(made, tmp_path / "a")
    assert report.ContentDate == "20250102"
    flags = (report.CompletionFlag, report.VerificationFlag, report.PreliminaryFlag)
    assert flags == ("COMPLETE", "UNVERIFIED", "PRELIMINARY")
    evidence = str(report.CurrentRequestedProcedureEvidenceSequence)
    assert pydicom.dcmread(made[1].segmentation).SOPInstanceUID in evidence


def test_an_empty_comment_and_a_missing_seg_are_refused(made, tmp_path):
    with pytest.raises(DicomError, match="comment is empty"):
        dataclasses.replace(made[1], comments=(" ",))
    with pytest.raises(DicomError, match="no SR can be written"):
        written(made, tmp_path / "a", segmentation=tmp_path / "nowhere.dcm")
