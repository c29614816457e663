"""What is exported as DICOM, read back by us and by others: highdicom, dcmqi (3D Slicer's reader), DCMTK, dciodvfy."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import highdicom
import numpy as np
import pytest
import SimpleITK as sitk
from builders.exported_cases import union_of_contours, union_of_segments

from nnunet_cascade.dicom_export.export import KINDS


def test_the_tumor_reads_back_bit_for_bit_from_seg_and_contours(each):
    mask = each.drawn[0]
    np.testing.assert_array_equal(union_of_segments(each.file("seg"), each.stack), mask)
    np.testing.assert_array_equal(union_of_contours(each.file("rtstruct"), each.stack), mask)


def pixels_of(case, kind):
    """What highdicom reads of a segmentation (Z, Y, X, segments)."""
    uids = [header.sop_uid for header in case.scan.stacked().headers]
    file = highdicom.seg.segread(case.file(kind))
    return file, file.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)


def test_highdicom_reads_the_same_tumor_and_probabilities_within_half_a_step_of_255(each):
    np.testing.assert_array_equal(pixels_of(each, "seg")[1].any(axis=-1), each.drawn[0])
    file, found = pixels_of(each, "probability")
    np.testing.assert_allclose(found[..., 0], each.drawn[1], rtol=0, atol=1 / 510 + 1e-7)
    assert (file.segmentation_fractional_type.value, file.MaximumFractionalValue) == ("PROBABILITY", 255)


def test_uncertainties_read_back_as_they_are_from_the_first_plane_that_has_any_to_the_last(each, map_of):
    found, planes = map_of(each.file("uncertainty"), each.stack)
    np.testing.assert_array_equal(found, each.drawn[2])
    held = np.flatnonzero(found.any(axis=(1, 2)))
    assert planes == list(range(held[0], held[-1] + 1))
    stored = highdicom.pm.ParametricMap.from_dataset(each.read("uncertainty")).get_volume().array
    assert stored.shape[0] == len(planes)


def on_results(path, case):
    """Read an image onto the grid of the results; what it does not cover is 0."""
    grid = sitk.ReadImage(case.root / "results" / "case.nii.gz")
    return sitk.GetArrayFromImage(sitk.Resample(sitk.ReadImage(path), grid, sitk.Transform(), sitk.sitkNearestNeighbor))


@pytest.fixture
def dcmqi(tmp_path):
    """Gives the images, on the grid of the results, that a program of dcmqi makes of an object."""
    programs = Path(sys.executable).parent
    if not (programs / "segimage2itkimage").exists():
        pytest.skip("dcmqi is not installed (extra dev)")

    def read(program, case, kind):
        told = ["--inputDICOM", case.file(kind), "--outputDirectory", tmp_path, "--outputType", "nrrd", "--prefix"]
        done = subprocess.run([programs / program, *told, kind], capture_output=True, text=True, check=False)
        warned = [line for line in done.stderr.splitlines() if "does not support" not in line]  # ISO_IR 192, it says
        assert (done.returncode, warned) == (0, [])
        return [on_results(path, case) for path in sorted(tmp_path.glob(f"{kind}-*.nrrd"))]

    return read


def test_dcmqi_reads_the_same_tumor_probability_and_uncertainty(each, dcmqi):
    mask, probability, uncertainty = each.drawn
    lesions = dcmqi("segimage2itkimage", each, "seg")
    np.testing.assert_array_equal(np.any(lesions, axis=0), mask)
    assert len(lesions) == 2
    (steps,) = dcmqi("segimage2itkimage", each, "probability")
    np.testing.assert_allclose(steps / 255, probability, rtol=0, atol=1 / 510 + 1e-7)
    (values,) = dcmqi("paramap2itkimage", each, "uncertainty")
    np.testing.assert_array_equal(values, uncertainty)


def test_dcmqi_reads_the_measurements_of_each_lesion(axial, tmp_path):
    program = Path(sys.executable).with_name("tid1500reader")
    if not program.exists():
        pytest.skip("dcmqi is not installed (extra dev)")
    path = tmp_path / "report.json"
    told = ["--inputDICOM", axial.file("report"), "--outputMetadata", path]
    subprocess.run([program, *told], capture_output=True, check=True)
    groups = json.loads(path.read_text())["Measurements"]
    summary = json.loads(axial.file("seg").with_name("summary.json").read_text())
    for group, lesion in zip(groups[1:], summary["lesions"], strict=True):
        assert group["TrackingUniqueIdentifier"] == lesion["tracking_uid"]
        found = {item["quantity"]["CodeMeaning"]: float(item["value"]) for item in group["measurementItems"]}
        assert found["Volume"] == lesion["volume_ml"]
        assert found["Long axis"] == lesion["long_axis_mm"]


@pytest.mark.skipif(shutil.which("plastimatch") is None, reason="plastimatch is not installed (Debian: plastimatch)")
def test_plastimatch_fills_the_contours_with_the_same_voxels(each, tmp_path):
    folder = each.scan.slices[0].parent
    told = ["--input", each.file("rtstruct"), "--referenced-ct", folder, "--output-prefix", tmp_path / "masks"]
    subprocess.run(["plastimatch", "convert", *told, "--prefix-format", "nrrd"], capture_output=True, check=True)
    masks = [on_results(path, each) for path in sorted((tmp_path / "masks").iterdir())]
    np.testing.assert_array_equal(np.any(masks, axis=0), each.drawn[0])


def told_errors(path):
    done = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    return {line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")}


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed (Debian: dicom3tools)")
@pytest.mark.parametrize("case", ["axial", pytest.param("real", marks=pytest.mark.long)])
def test_dciodvfy_finds_no_error_that_the_ct_does_not_have(case, request):
    exported = request.getfixturevalue(case)
    known = told_errors(exported.scan.slices[0])
    for kind in KINDS:
        assert told_errors(exported.file(kind)) <= known, kind


@pytest.mark.skipif(shutil.which("dsrdump") is None, reason="DCMTK is not installed (Debian: dcmtk)")
def test_dcmtk_reads_every_object(axial):
    for kind in KINDS:
        done = subprocess.run(["dcmdump", "-q", axial.file(kind)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), kind
    done = subprocess.run(["dsrdump", axial.file("report")], capture_output=True, text=True, check=False)
    # It warns that it does not check texts in UTF-8.
    assert (done.returncode, [line for line in done.stderr.splitlines() if line[:2] != "W:"]) == (0, [])
    assert "Tracking Identifier" in done.stdout


@pytest.mark.long
def test_a_real_ct_gets_its_tumor_back_bit_for_bit(real, map_of):
    mask, probability, uncertainty = real.drawn
    assert mask.sum() == 54_639
    np.testing.assert_array_equal(union_of_segments(real.file("seg"), real.stack), mask)
    np.testing.assert_array_equal(union_of_contours(real.file("rtstruct"), real.stack), mask)
    np.testing.assert_array_equal(map_of(real.file("uncertainty"), real.stack)[0], uncertainty)
    found = pixels_of(real, "probability")[1][..., 0]
    assert float(np.abs(found - probability).max()) <= 1 / 510 + 1e-7
