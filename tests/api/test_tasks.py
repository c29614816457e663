"""Single tasks of the front door: any kind of input, and one clear line if it is wrong."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from builders.dicom_downloads import GRID as SERIES_GRID
from builders.dicom_downloads import ONE, Ct, ct_voxels, write_subject
from builders.drawn_chests import GRID, IN_LEFT, LUNGS, blocks, chest_ct

import nnunet_cascade as nnc
from nnunet_cascade.images import read_labels, to_sitk, write_image

pytestmark = pytest.mark.filterwarnings("ignore")
CT = nnc.Volume(chest_ct(), GRID)


class TestReadCt:
    def test_an_image_file_or_the_only_one_of_a_folder(self, drawn_ct):
        for place in (drawn_ct, str(drawn_ct.parent)):
            found = nnc.read_ct(place)
            np.testing.assert_array_equal(found.array, chest_ct())
            assert found.grid.difference(GRID) is None

    def test_several_are_refused_with_their_list_unless_one_is_named(self, tmp_path):
        folder = write_subject(ONE.but(cts=(Ct(seed=1), Ct(seed=7, name="CT2"))), tmp_path)
        uids = sorted(scan.series_uid for scan in nnc.find_scans(str(folder)).values())
        with pytest.raises(nnc.InputImageError, match="holds 2 CT") as raised:
            nnc.read_ct(folder)
        assert all(uid in str(raised.value) for uid in uids)
        found = [nnc.read_ct(folder, series=uid) for uid in uids]
        assert {each.array.tobytes() for each in found} == {ct_voxels(seed).tobytes() for seed in (1, 7)}
        assert all(each.grid.difference(SERIES_GRID) is None for each in found)
        with pytest.raises(nnc.InputImageError, match=r"and no series 1\.2; expected one: give series=UID of"):
            nnc.read_ct(folder, series="1.2")

    def test_a_folder_of_several_image_files_is_refused_with_their_list(self, drawn_ct):
        write_image(chest_ct(), GRID, drawn_ct.with_name("b_0000.nii.gz"))
        with pytest.raises(nnc.InputImageError, match=r"give one of the files of: b_0000.nii.gz \(b\); ct.nii.gz"):
            nnc.read_ct(drawn_ct.parent)


class TestFindLungs:
    def test_a_path_a_volume_and_an_image_in_memory_are_the_same(self, drawn_ct):
        found = [nnc.find_lungs(ct) for ct in (str(drawn_ct), CT, to_sitk(chest_ct(), GRID))]
        assert all(np.array_equal(each.labels, found[0].labels) for each in found)
        assert found[0].mask.any()

    def test_a_source_of_files_finds_the_mask_by_the_name_of_the_case(self, tmp_path):
        write_image(LUNGS, GRID, tmp_path / "patient7.nii.gz")
        found = nnc.find_lungs(CT, nnc.LungSource(kind="folder", path=tmp_path), case="patient7")
        np.testing.assert_array_equal(found.labels, LUNGS)


class TestEvaluate:
    truth = blocks(IN_LEFT)

    def test_files_and_arrays_give_the_same_score(self, tmp_path):
        predicted = np.roll(self.truth, 1, axis=2)
        for name, mask in (("truth", self.truth), ("predicted", predicted)):
            write_image(mask, GRID, tmp_path / f"{name}.nii.gz")
        files = nnc.evaluate(str(tmp_path / "predicted.nii.gz"), tmp_path / "truth.nii.gz")
        mixed = nnc.evaluate(predicted > 0, tmp_path / "truth.nii.gz")
        assert files == mixed == nnc.evaluate(predicted, self.truth > 0, spacing_mm=GRID.spacing_mm)
        assert 0 < files.dice < 1

    def test_the_labels_of_files_that_are_tumor_can_be_named(self, tmp_path):
        write_image(self.truth * 3, GRID, tmp_path / "a.nii.gz")
        assert nnc.evaluate(tmp_path / "a.nii.gz", self.truth, tumor_labels=(3,)).dice == 1
        with pytest.raises(nnc.InputImageError, match="holds the values 0, 3 and not 1"):
            nnc.evaluate(tmp_path / "a.nii.gz", self.truth)


def test_a_candidate_filter_takes_labels_and_the_recommended_settings():
    tumor = blocks(IN_LEFT).astype(np.uint8)
    found = nnc.filter_candidates(tumor, GRID, LUNGS)
    expected = nnc.filter_candidates(tumor > 0, GRID, LUNGS > 0, nnc.AnatomySettings.recommended())
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert found.candidates == expected.candidates


WRONG = {
    "read_ct": (lambda: nnc.read_ct(7), r"source: expected a path \(str or Path\); found int"),
    "find_lungs": (lambda: nnc.find_lungs(chest_ct()), "a path .* a Volume or a SimpleITK image; found ndarray"),
    "its source": (lambda: nnc.find_lungs(CT, "threshold"), "source: expected a LungSource or None; found str"),
    "filter_candidates": (lambda: nnc.filter_candidates("a", GRID, None), "tumor: expected an array .*; found str"),
    "a probability": (lambda: nnc.filter_candidates(np.zeros(GRID.shape), GRID, None), "compare probabilities with a"),
    "its grid": (lambda: nnc.filter_candidates(blocks(IN_LEFT), (1, 1, 1), None), "grid: expected a Grid; found tuple"),
    "evaluate": (lambda: nnc.evaluate(None, blocks(IN_LEFT), spacing_mm=(1, 1, 1)), "prediction: .* found NoneType"),
    "two of them": (lambda: nnc.evaluate(1, 2), "prediction: expected a result, a path, or an array .*; found int"),
    "its truth": (lambda: nnc.evaluate("x.nii.gz", 2), "truth: expected a result, a path, or an array .*; found int"),
    "its spacing": (
        lambda: nnc.evaluate(blocks(IN_LEFT), blocks(IN_LEFT), spacing_mm=1),
        "spacing_mm: expected three numbers, along \\(Z, Y, X\\); found 1",
    ),
    "find_scans": (lambda: nnc.find_scans(42), "inputs: expected a path .*; found int"),
    "read_spec": (lambda: nnc.read_spec(None), "bundle: expected a path .*; found NoneType"),
    "write_image": (lambda: nnc.write_image([1], GRID, "x.nii.gz"), "array: expected an array .*; found list"),
    "load_cascade": (lambda: nnc.load_cascade(None), "bundle: expected a path .*; found NoneType"),
    "its device": (lambda: nnc.load_cascade("x", device=0), "device: expected a str or torch.device; found int"),
    "train_cascade": (lambda: nnc.train_cascade(501), "request: expected a TrainingRequest; found int"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_argument_of_a_wrong_type_is_one_clear_line(name):
    act, said = WRONG[name]
    with pytest.raises(nnc.WrongTypeError, match=said) as raised:
        act()
    assert "\n" not in str(raised.value)


MISSING = {
    "read_ct": lambda: nnc.read_ct("nowhere/ct.nii.gz"),
    "find_lungs": lambda: nnc.find_lungs("nowhere"),
    "find_scans": lambda: nnc.find_scans("nowhere"),
    "evaluate": lambda: nnc.evaluate("nowhere.nii.gz", "nowhere.nii.gz"),
    "write_image": lambda: nnc.write_image(blocks(IN_LEFT), GRID, "nowhere/x.nii.gz"),
    "read_spec": lambda: nnc.read_spec("nowhere"),
    "load_cascade": lambda: nnc.load_cascade("nowhere"),
    "its spec": lambda: nnc.load_cascade(Path("nowhere"), device="cpu", spec=nnc.CascadeSpec()),
}


@pytest.mark.parametrize("name", MISSING)
def test_a_path_that_is_not_there_is_one_clear_line(name):
    with pytest.raises(nnc.CascadeError, match="nowhere") as raised:
        MISSING[name]()
    assert "\n" not in str(raised.value)


def test_a_folder_or_a_dicom_file_is_no_mask(tmp_path):
    with pytest.raises(nnc.InputImageError, match="is a folder; expected an image file"):
        nnc.evaluate(tmp_path, tmp_path)
    (tmp_path / "seg.dcm").write_bytes(bytes(128) + b"DICM")
    with pytest.raises(nnc.InputImageError, match="is a DICOM file; expected an image file such as"):
        nnc.evaluate(tmp_path / "seg.dcm", tmp_path / "seg.dcm")


def test_what_is_written_lies_where_the_grid_says(tmp_path, oriented_grid):
    labels = np.arange(np.prod(oriented_grid.shape), dtype=np.int16).reshape(oriented_grid.shape)
    path = nnc.write_image(labels, oriented_grid, str(tmp_path / "labels.nii.gz"))
    assert np.array_equal(read_labels(path, oriented_grid, what="labels"), labels)
    with pytest.raises(nnc.GridMismatchError, match="the array has the shape"):
        nnc.write_image(labels[1:], oriented_grid, path)


def test_a_bundle_of_a_newer_version_is_one_clear_line(tmp_path):
    (tmp_path / "cascade.json").write_text('{"version": 99}')
    with pytest.raises(nnc.BundleError, match="bundle version 99; this release reads version 1"):
        nnc.load_cascade(tmp_path)


def test_an_image_in_memory_must_be_one_volume():
    with pytest.raises(nnc.InputImageError, match=r"size \(4, 4\) with 1 channel"):
        nnc.find_lungs(sitk.Image(4, 4, sitk.sitkInt16))
    with pytest.raises(nnc.GridMismatchError, match="give the grid of the array"):
        nnc.find_lungs(nnc.Volume(chest_ct()[:-1], GRID))
