"""Results of a cascade as DICOM."""

import dataclasses
import json
import math
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import highdicom
import numpy as np
import pydicom
import pytest
from builders.dicom_downloads import edit, edit_all
from builders.dicom_results import DOTS, GRID, REASON, scan_of, tumor_of, write_results
from builders.exported_cases import export, exported, union_of_contours, union_of_segments
from builders.oriented_grids import grid_towards

from nnunet_cascade.case_folders.case_record import CaseRecord, read_record
from nnunet_cascade.dicom.seg.rasterizing import segment_on_stack
from nnunet_cascade.dicom.seg.reading import read_segmentation
from nnunet_cascade.dicom_export import lesions
from nnunet_cascade.dicom_export.export import (
    KINDS,
    ExportOutcome,
    ExportRequest,
    export_case,
    export_folder,
    write_export_report,
)
from nnunet_cascade.dicom_export.matching import KnownSeries
from nnunet_cascade.errors import CascadeError, DicomError, GridMismatchError, SettingsError
from nnunet_cascade.geometry import AxisTurn, Grid
from nnunet_cascade.images import write_image
from nnunet_cascade.scans.scans import Scan
from nnunet_cascade.versions import NOTICE

HOSTILE = ("Ünïcode 肺", "back\\slash", "x" * 120, "line\nbreak", " ")
SHEET_CORNER = (2, 4, 5)


@pytest.fixture
def results(tmp_path):
    """The folder of results of a case, drawn as usual."""
    write_results(tmp_path / "results", "case")
    return tmp_path / "results"


def texts(dataset):
    """All texts, names and meanings of a report."""
    words = []
    dataset.walk(lambda _, element: words.append(str(element.value)) if element.VR in ("UT", "LO") else None)
    return "\n".join(words)


def test_each_lesion_is_a_segment_the_largest_first_with_what_made_it(axial):
    first, second = axial.read("seg").SegmentSequence
    assert (first.SegmentLabel, second.SegmentLabel) == ("Tumor 1", "Tumor 2")
    file = read_segmentation(axial.file("seg"))
    assert np.argwhere(segment_on_stack(file, 2, axial.stack).mask).tolist() == [list(voxel) for voxel in DOTS]
    assert first.SegmentedPropertyTypeCodeSequence[0].CodeValue == "86049000"
    assert first.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
    made_by = first.SegmentationAlgorithmIdentificationSequence[0]
    assert made_by.AlgorithmName == "nnunet-cascade"
    assert made_by.AlgorithmFamilyCodeSequence[0].CodeMeaning == "Artificial Intelligence"
    assert made_by.AlgorithmParameters == f"stage1_sha256={'a' * 64},stage2_sha256={'b' * 64}"


def test_all_objects_belong_to_the_patient_study_and_space_of_the_ct(axial):
    source = pydicom.dcmread(axial.scan.slices[0])
    patient = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex")
    study = ("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber")
    for kind in KINDS:
        made = axial.read(kind)
        assert [name for name in (*patient, *study) if made[name].value != source[name].value] == [], kind
        if kind != "report":
            assert made.FrameOfReferenceUID == source.FrameOfReferenceUID
        assert "research only" in made.SeriesDescription
        assert source.SeriesInstanceUID in str(made)
    assert len({axial.read(kind).SeriesInstanceUID for kind in KINDS}) == len(KINDS)
    summary = axial.file("seg").with_name("summary.json").read_text()
    assert not any(word in summary for word in ("Doe", "Jane", "1950"))


def test_the_report_measures_each_segment_under_its_tracking_identifier(axial):
    segments = axial.read("seg").SegmentSequence
    report = highdicom.sr.ComprehensiveSR.from_dataset(axial.read("report"))
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert [group.tracking_uid for group in groups] == [segment.TrackingUID for segment in segments]
    assert [group.tracking_identifier for group in groups] == [segment.TrackingID for segment in segments]
    summary = json.loads((axial.file("seg").parent / "summary.json").read_text())
    for number, (group, lesion) in enumerate(zip(groups, summary["lesions"], strict=True), start=1):
        assert group.referenced_segment.referenced_sop_instance_uid == axial.read("seg").SOPInstanceUID
        assert group.referenced_segment.referenced_segment_numbers[0] == number
        found = {item.name.meaning: (item.value, item.unit.value) for item in group.get_measurements()}
        assert found == {
            "Volume": (lesion["volume_ml"], "ml"),
            "Long axis": (lesion["long_axis_mm"], "mm"),
            "Short axis": (lesion["short_axis_mm"], "mm"),
            "Variance": (0.125, "1"),
        }
    assert summary["lesions"][0]["volume_ml"] == pytest.approx((tumor_of(GRID.shape).sum() - 2) * 9 / 1000)
    # From half a pixel beyond the outer centers: 7 by 4 pixels of 2 and 1.5 mm, or 6 by 5.
    assert summary["lesions"][0]["long_axis_mm"] == pytest.approx(math.hypot(14, 6), abs=1e-3)


def test_the_report_says_in_words_what_was_dropped_and_what_it_is_not(axial):
    told = texts(axial.read("report"))
    assert [word for word in (REASON, "outside_lungs", "roi_clipped", NOTICE) if word not in told] == []


def test_the_same_results_give_the_same_bytes_and_another_mask_other_uids(tmp_path, axial):
    before = {kind: axial.file(kind).read_bytes() for kind in KINDS}
    shutil.copytree(axial.root / "results", tmp_path / "results", ignore=shutil.ignore_patterns("dicom"))
    export(tmp_path, "case", axial.scan)
    folder = tmp_path / "results" / "dicom" / "case"
    assert {kind: (folder / f"{kind}.dcm").read_bytes() for kind in KINDS} == before
    other = tumor_of(GRID.shape)
    other[SHEET_CORNER] = False
    write_results(tmp_path / "results", "case", GRID, other)
    export(tmp_path, "case", axial.scan, kinds=("seg",))
    assert sorted(path.name for path in folder.iterdir()) == ["seg.dcm"]  # the others were of another prediction
    made = pydicom.dcmread(folder / "seg.dcm")
    assert made.SOPInstanceUID != axial.read("seg").SOPInstanceUID
    first, second = zip(made.SegmentSequence, axial.read("seg").SegmentSequence, strict=True)
    assert first[0].TrackingUID != first[1].TrackingUID
    assert second[0].TrackingUID == second[1].TrackingUID  # the same voxels are the same finding


def test_a_record_says_when_the_case_was_predicted_else_the_series_does(tmp_path, axial):
    assert axial.read("seg").ContentDate == "20240315"
    write_results(tmp_path / "results", "case", varying={"predicted_at": "2026-05-06T07:08:09Z"})
    export(tmp_path, "case", axial.scan, kinds=("seg", "rtstruct"))
    for kind in ("seg", "rtstruct"):
        made = pydicom.dcmread(tmp_path / "results" / "dicom" / "case" / f"{kind}.dcm")
        date = made.ContentDate if kind == "seg" else made.StructureSetDate
        assert (date, made.StudyDate) == ("20260506", "20240315")


def test_an_empty_result_is_told_by_a_segment_without_voxels_and_a_report_that_says_so(tmp_path):
    found = exported(tmp_path, GRID, mask=np.zeros(GRID.shape, dtype=bool))
    names = sorted(path.name for path in found.file("seg").parent.iterdir())
    assert names == ["report.dcm", "rtstruct.dcm", "seg.dcm", "summary.json"]
    assert not union_of_segments(found.file("seg"), found.stack).any()
    report = highdicom.sr.ComprehensiveSR.from_dataset(found.read("report"))
    assert report.content.get_volumetric_roi_measurement_groups() == []
    (group,) = report.content.get_image_measurement_groups()
    assert {item.name.meaning: item.value for item in group.get_measurements()} == {"Number of lesions": 0, "Volume": 0}
    assert "No tumor was found." in texts(found.read("report"))


def test_without_samples_there_is_no_uncertainty_and_nothing_says_there_were(tmp_path):
    found = exported(tmp_path, GRID, samples=False)
    assert not found.file("uncertainty").exists()
    assert "Variance" not in texts(found.read("report"))
    skipped = list(export_folder(ExportRequest(results=tmp_path / "results", existing="skip"), {"case": found.scan}))
    assert skipped[0].status == "skipped"


def test_of_very_many_lesions_the_smallest_share_the_last_segment(tmp_path, monkeypatch):
    monkeypatch.setattr(lesions, "MOST_SEGMENTS", 5)
    mask = np.zeros(GRID.shape, dtype=bool)
    mask[::3, ::10, ::12] = True
    mask[0, 0, :3] = True
    found = exported(tmp_path, GRID, mask=mask)
    count = 3 * 2 * 2
    labels = [segment.SegmentLabel for segment in found.read("seg").SegmentSequence]
    assert labels == [*(f"Tumor {number}" for number in (1, 2, 3, 4)), f"{count - 4} smaller tumors"]
    np.testing.assert_array_equal(union_of_segments(found.file("seg"), found.stack), mask)
    np.testing.assert_array_equal(union_of_contours(found.file("rtstruct"), found.stack), mask)
    summary = json.loads((found.file("seg").parent / "summary.json").read_text())
    assert summary["count"] == count
    assert summary["lesions"][-1]["long_axis_mm"] is None


@pytest.mark.parametrize("code", ["RAS", "LAI", "ASL"])
def test_maps_of_a_copy_of_the_ct_are_turned_onto_its_slices(code, tmp_path, map_of):
    scan, mask = scan_of(tmp_path / "ct"), tumor_of(GRID.shape)
    turn = AxisTurn.to_code(GRID, code)
    turned = turn.apply(mask)
    ends = {axis: GRID.shape[axis] - 1.0 for axis, flip in zip(turn.order, turn.flipped, strict=True) if flip}
    grid = Grid(
        shape=turned.shape,
        spacing_mm=turn.spacing(GRID.spacing_mm),
        origin_mm=GRID.world_mm(tuple(ends.get(axis, 0.0) for axis in range(3))),
        axes=grid_towards(code, turned.shape).axes,
    )
    _, _, uncertainty = write_results(tmp_path / "results", "case", grid, turned)
    record = json.loads((tmp_path / "results" / "case.json").read_text())
    image = image_of(turn.apply(scan.read().array), grid, tmp_path / "case.nii.gz")
    matched = KnownSeries(tmp_path / "ct").series_of("case", CaseRecord.from_json({**record, **image}))
    assert matched.series_uid == scan.series_uid
    export(tmp_path, "case", matched)
    found, stack = tmp_path / "results" / "dicom" / "case", scan.stacked().stack
    np.testing.assert_array_equal(union_of_segments(found / "seg.dcm", stack), mask)
    np.testing.assert_array_equal(map_of(found / "uncertainty.dcm", stack)[0], turn.undo(uncertainty))


def test_a_case_name_that_can_be_no_folder_is_refused(tmp_path, axial):
    with pytest.raises(SettingsError, match="can be no folder"):
        export_case(ExportRequest(results=tmp_path), "<b>a</b>", CaseRecord(), axial.scan)


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: repr(name)[:20])
def test_a_hostile_case_name_is_kept_as_text_where_dicom_can_hold_it(name, tmp_path, axial):
    write_results(tmp_path / "drawn", "case", flags=[f"<img src=x> {name}"])
    results = tmp_path / "results"
    results.mkdir()
    for path in (tmp_path / "drawn").iterdir():
        path.rename(results / path.name.replace("case", name, 1))
    files = export(tmp_path, name, axial.scan, kinds=("report",))
    assert [path.parent.name for path in files] == [name] * 3
    assert "<img src=x>" in texts(pydicom.dcmread(files[1]))
    assert json.loads(files[2].read_text())["case"] == name


@pytest.mark.usefixtures("results")
@pytest.mark.parametrize("name", ["<b>Ü</b>" * 12, "<script>^\\x"])
def test_a_ct_whose_tags_break_the_standard_is_taken_as_it_is(name, tmp_path):
    def change(dataset):
        dataset.PatientName, dataset.PatientID = name, "id\\other"
        dataset.StudyDate, dataset.PatientBirthDate = "15.03.24", ""

    scan = scan_of(tmp_path / "ct")
    edit_all(tmp_path / "ct", change)
    assert len(export(tmp_path, "case", scan)) == 6


@pytest.mark.usefixtures("results")
def test_slices_that_are_not_the_planes_of_a_volume_are_refused_but_contours_can_be_had(tmp_path):
    scan = scan_of(tmp_path / "ct", without=(3,))
    with pytest.raises(DicomError, match=r"has missing slices; SEG and maps need .*: export rtstruct alone"):
        export(tmp_path, "case", scan)
    files = export(tmp_path, "case", scan, kinds=("rtstruct",))
    np.testing.assert_array_equal(union_of_contours(files[0], scan.stacked().stack), tumor_of(GRID.shape))


def test_on_slices_of_a_tilted_gantry_contours_lie_where_the_voxels_do(tmp_path):
    scan = scan_of(tmp_path / "ct")
    for plane, path in enumerate(scan.slices):
        place = list(GRID.world_mm((plane, 0.4 * plane / GRID.spacing_mm[1], 0)))
        edit(path, lambda dataset, place=place: setattr(dataset, "ImagePositionPatient", place))
    stack = scan.stacked().stack
    assert stack.irregularities == ("gantry_tilt",)
    mask = tumor_of(stack.grid.shape)
    write_results(tmp_path / "results", "case", stack.grid, mask)
    with pytest.raises(DicomError, match=r"SEG and maps need .*: export rtstruct alone"):
        export(tmp_path, "case", scan)
    (path,) = export(tmp_path, "case", scan, kinds=("rtstruct",))
    np.testing.assert_array_equal(union_of_contours(path, stack), mask)


def test_maps_on_another_grid_are_refused_and_nothing_is_written(tmp_path, axial):
    write_results(tmp_path / "results", "case", dataclasses.replace(GRID, origin_mm=(0.0, 0.0, 0.0)))
    with pytest.raises(GridMismatchError, match=r"case\.nii\.gz does not lie on the slices of the series: first voxel"):
        export(tmp_path, "case", axial.scan)
    assert not (tmp_path / "results" / "dicom" / "case").exists()
    assert not list((tmp_path / "results" / "dicom").iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lesions": []}, r"mask holds 2 lesion\(s\) and its record tells of 0"),
        ({"uncertainty": {"measure": "guess"}}, "uncertainty is 'guess'"),
    ],
)
def test_a_record_that_contradicts_its_maps_is_refused(changes, message, tmp_path, axial):
    write_results(tmp_path / "results", "case", **changes)
    with pytest.raises(CascadeError, match=message):
        export(tmp_path, "case", axial.scan)


def test_one_bad_case_costs_one_case_and_the_story_keeps_what_is_known_of_others(tmp_path, axial):
    results = tmp_path / "results"
    for case in ("a", "b", "c", "d"):
        write_results(results, case, scan=axial.scan if case != "d" else None)
    (results / "b_probability.nii.gz").write_bytes(b"cut short")
    (results / "c.json").unlink()
    request = ExportRequest(results=results, kinds=("seg",), processes=2)
    told = {outcome.case: outcome for outcome in export_folder(request, dict.fromkeys("abcd"))}
    assert {case: outcome.status for case, outcome in told.items()} == {
        "a": "done", "b": "failed", "c": "failed", "d": "failed"
    }  # fmt: skip
    assert "b_probability.nii.gz is 9 bytes long; expected" in told["b"].error
    assert "it has no record" in told["c"].error
    assert "--series" in told["d"].error
    list(export_folder(dataclasses.replace(request, processes=1), {"d": axial.scan}))
    story = json.loads((results / "dicom_export.json").read_text())
    assert story["cases"]["a"] == {"status": "done", "files": ["dicom/a/seg.dcm"]}
    assert story["cases"]["d"]["status"] == "done"
    assert story["cases"]["c"]["error"] == told["c"].error
    assert story["versions"]["highdicom"]


def test_what_is_there_is_left_out_written_anew_or_refused(results, axial):
    request = ExportRequest(results=results, kinds=("seg", "rtstruct"))
    status = [
        next(export_folder(dataclasses.replace(request, existing=existing), {"case": axial.scan})).status
        for existing in ("refuse", "refuse", "skip", "overwrite")
    ]
    assert status == ["done", "failed", "skipped", "done"]
    (results / "dicom" / "case" / "seg.dcm").write_bytes(b"no DICOM")
    assert next(export_folder(dataclasses.replace(request, existing="skip"), {"case": axial.scan})).status == "done"
    assert read_segmentation(results / "dicom" / "case" / "seg.dcm").segments


@pytest.mark.parametrize(("changes", "message"), [({"kinds": ()}, "none"), ({"processes": 0}, "at least 1")])
def test_a_request_is_valid_from_birth(changes, message, tmp_path):
    with pytest.raises(SettingsError, match=message):
        ExportRequest(results=tmp_path, **changes)


def test_of_series_with_one_geometry_the_patients_own_is_taken_else_none(tmp_path):
    for name in ("one", "two"):
        scan_of(tmp_path / "ct", name=name)
    write_results(tmp_path / "results", "two")
    write_results(tmp_path / "results", "three")
    records = {case: read_record(tmp_path / "results" / f"{case}.json") for case in ("two", "three")}
    known = KnownSeries(tmp_path / "ct")
    assert known.series_of("two", records["two"]).slices[0].parent.name == "two"
    with pytest.raises(DicomError, match="slices of 2 series, but nothing shows that one is its CT"):
        known.series_of("three", records["three"])
    moved = dataclasses.replace(records["two"], grid=dataclasses.replace(GRID, origin_mm=(0.0, 0.0, 0.0)))
    with pytest.raises(DicomError, match="slices of none of 2 series"):
        known.series_of("two", moved)


def image_of(array, grid, path):
    """Write the image a case was predicted from; gives what its record says of it."""
    write_image(array, grid, path)
    scan = Scan(case="case", path=path)
    return {"varying": {"image": scan.to_json()}, "inputs": [scan.fingerprint()]}


def test_a_case_is_never_given_to_another_patient_whose_ct_lies_alike(results, tmp_path):
    ct = tmp_path / "ct"
    scans = {name: scan_of(ct, name=name, seed=seed) for seed, name in enumerate(("one", "two"))}
    record = json.loads((results / "case.json").read_text())
    image = image_of(scans["one"].read().array, GRID, tmp_path / "case.nii.gz")
    of_one = CaseRecord.from_json({**record, **image})
    assert KnownSeries(ct / "one").series_of("case", of_one).series_uid == scans["one"].series_uid
    assert KnownSeries(ct).series_of("case", of_one).series_uid == scans["one"].series_uid
    with pytest.raises(DicomError, match="slices of 1 series, but its image shows another CT"):
        KnownSeries(ct / "two").series_of("case", of_one)
    image_of(scans["two"].read().array, GRID, tmp_path / "case.nii.gz")  # another image of that name is no evidence
    for name in scans:
        with pytest.raises(DicomError, match="slices of 1 series, but nothing shows that one is its CT"):
            KnownSeries(ct / name).series_of("case", of_one)


def test_edges_that_a_conversion_cut_off_do_not_make_another_ct(results, tmp_path):
    scan = scan_of(tmp_path / "ct", lowest=-1024)
    record = json.loads((results / "case.json").read_text())
    image = image_of(np.clip(scan.read().array, -1000, 3071), GRID, tmp_path / "case.nii.gz")
    found = KnownSeries(tmp_path / "ct").series_of("case", CaseRecord.from_json({**record, **image}))
    assert found.series_uid == scan.series_uid


@pytest.mark.usefixtures("results")
@pytest.mark.parametrize(
    ("keyword", "value", "message"),
    [
        ("PatientID", "somebody else", "slices are of 2 patients"),
        ("StudyInstanceUID", "1.2.9", "slices are of 2 studies"),
        ("SOPInstanceUID", "1.2.9", "share a SOPInstanceUID"),
        ("FrameOfReferenceUID", "1.2", "2 FrameOfReferenceUIDs"),
        ("FrameOfReferenceUID", None, "no FrameOfReferenceUID"),
    ],
)
@pytest.mark.parametrize("kind", ["seg", "rtstruct"])
def test_slices_of_two_patients_or_studies_or_without_one_space_are_no_cases_ct(
    keyword, value, message, kind, tmp_path
):
    scan = scan_of(tmp_path / "ct")
    for path in scan.slices[:2]:
        edit(path, lambda dataset: setattr(dataset, keyword, value) if value else delattr(dataset, keyword))
    with pytest.raises(DicomError, match=message):
        export(tmp_path, "case", scan, kinds=(kind,))


@pytest.mark.parametrize("changes", [{"candidates": None}, {"candidates": [{"id": 1}]}, {"flags": None}], ids=str)
def test_a_record_of_another_version_costs_its_case_and_a_line_that_says_so(changes, tmp_path, axial):
    write_results(tmp_path / "results", "case", **changes)
    (outcome,) = export_folder(ExportRequest(results=tmp_path / "results"), {"case": axial.scan})
    assert outcome.error.startswith("its record does not tell")
    assert outcome.error.endswith("expected one of this version: predict the case again")


def test_what_a_killed_export_left_is_removed(results, tmp_path, axial):
    left, others = (results / "dicom" / f".999999.0123abcd.{name}" for name in ("case", "other"))
    left.mkdir(parents=True)
    others.mkdir()
    export(tmp_path, "case", axial.scan, kinds=("seg",))
    assert sorted(path.name for path in left.parent.iterdir()) == [".999999.0123abcd.other", "case"]


def test_parts_side_by_side_keep_each_others_story(tmp_path):
    request = ExportRequest(results=tmp_path, kinds=("seg",))
    cases = [f"case_{number}" for number in range(12)]
    outcomes = [[ExportOutcome(case=case, status="done")] for case in cases]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(partial(write_export_report, request), outcomes))
    assert list(json.loads((tmp_path / "dicom_export.json").read_text())["cases"]) == sorted(cases)
    assert [path.name for path in tmp_path.iterdir()] == ["dicom_export.json"]


def test_a_map_of_every_slice_is_another_object_and_holds_the_same(tmp_path, axial, map_of):
    shutil.copytree(axial.root / "results", tmp_path / "results", ignore=shutil.ignore_patterns("dicom"))
    export(tmp_path, "case", axial.scan, every_slice=True)
    folder = tmp_path / "results" / "dicom" / "case"
    found, planes = map_of(folder / "uncertainty.dcm", axial.stack)
    np.testing.assert_array_equal(found, axial.drawn[2])
    assert planes == list(range(GRID.shape[0]))
    for kind in KINDS:
        same = (folder / f"{kind}.dcm").read_bytes() == axial.file(kind).read_bytes()
        assert same == (kind != "uncertainty")
    made = (folder / "uncertainty.dcm").read_bytes()
    assert pydicom.dcmread(folder / "uncertainty.dcm").SOPInstanceUID != axial.read("uncertainty").SOPInstanceUID
    export(tmp_path, "case", axial.scan, kinds=("seg",))
    assert (folder / "uncertainty.dcm").read_bytes() == made, "it is of the same prediction"
    export(tmp_path, "case", axial.scan)
    assert (folder / "uncertainty.dcm").read_bytes() == axial.file("uncertainty").read_bytes()


def test_each_lesion_has_a_color_of_its_own_the_same_in_seg_and_contours(axial):
    of_contours = [tuple(map(int, roi.ROIDisplayColor)) for roi in axial.read("rtstruct").ROIContourSequence]
    assert of_contours == [(86, 180, 233), (230, 159, 0)]
    of_segments = [segment.RecommendedDisplayCIELabValue for segment in axial.read("seg").SegmentSequence]
    assert [highdicom.color.CIELabColor.from_dicom_value(tuple(value)).to_rgb() for value in of_segments] == of_contours
