"""From a download of DICOM series to results and back to DICOM, by the real command on a tiny cascade."""

import gzip
import io
import json
import re
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from builders.dicom_downloads import SETTINGS, convert, edit, lay_out, truncate
from builders.tiny_cascades import COARSE
from pydicom import dcmread

from nnunet_cascade.cli import cascade_predict
from nnunet_cascade.dicom.ct.writing import CtStorage, write_ct_series
from nnunet_cascade.dicom.headers import read_header
from nnunet_cascade.dicom.writing import Identity, Series, uid_from
from nnunet_cascade.images import read_volume, write_image
from nnunet_cascade.phantom.cohort import TEST_SEEDS
from nnunet_cascade.phantom.dicom import write_phantom_dicom
from nnunet_cascade.phantom.thorax import make_phantom
from nnunet_cascade.scans.search import find_scans

# highdicom and pydicom warn about what they read and write.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SECRETS = ("Doe", "Jane", "MRN-4711", "19470203")
MAPS = ("", "_probability", "_uncertainty", "_roi", "_stage1", "_candidates", "_lungs")
MISSING = 9


@dataclass(frozen=True)
class Predicted:
    """What was made of a download; cases by what is special about them."""

    root: Path
    cases: dict
    log: str

    @property
    def output(self):
        return self.root / "out"

    def record(self, kind):
        return json.loads((self.output / f"{self.cases[kind]}.json").read_text())

    @property
    def story(self):
        return json.loads((self.output / "run.json").read_text())


def predict(root, inputs, output, bundle, *options):
    """Run the command with the masks of `root` instead of stage 1's; gives its exit code and what it says."""
    told = ["-i", inputs, "-o", output, "-m", bundle, "-device", "cpu", "--mc_samples", "2"]
    said = io.StringIO()
    with redirect_stderr(said), redirect_stdout(said):
        code = cascade_predict.main([*map(str, told), "--stage1_predictions", str(root / "masks"), *options])
    return code, said.getvalue()


def write_series(phantom, folder, name, *, storage=CtStorage()):  # noqa: B008 - frozen
    identity = Identity(patient_id=f"{SECRETS[2]}-2", study_uid="2.25.7", frame_of_reference_uid="2.25.8")
    series = Series(identity=identity, uid=uid_from(name), description=name)
    return write_ct_series(phantom.ct.astype(np.int16), phantom.grid, folder / name, series=series, storage=storage)


def identify(dataset):
    dataset.PatientName, dataset.PatientBirthDate = "^".join(SECRETS[:2]), SECRETS[3]


def write_patients(folder, phantom):
    """One patient with contours; another with a whole series, one with a gap, one cut short, and an overview."""
    write_phantom_dicom(phantom, folder, patient_id=SECRETS[2])
    write_series(phantom, folder, "whole")
    write_series(phantom, folder, "gapped")[MISSING].unlink()
    write_series(phantom, folder, "scout", storage=CtStorage(image_type=("ORIGINAL", "PRIMARY", "LOCALIZER")))
    truncated = write_series(phantom, folder, "truncated")
    for path in folder.rglob("*.dcm"):
        edit(path, identify)
    truncate(truncated[3], 0.9)


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(TEST_SEEDS[0], COARSE)


@pytest.fixture(scope="module")
def predicted(tiny_cascade, phantom, tmp_path_factory):
    """The command, run for real on a download as the NBIA lays it out, with true masks instead of stage 1's."""
    root = tmp_path_factory.mktemp("dicom input")
    write_patients(root / "written", phantom)
    lay_out(root / "written", root / "download", "descriptive")
    found = find_scans(root / "written").items()
    kinds = {read_header(scan.slices[0]).series_description: case for case, scan in found}
    (root / "masks").mkdir()
    for case in kinds.values():
        write_image((phantom.tumors > 0).astype(np.uint8), phantom.grid, root / "masks" / f"{case}.nii.gz")
    code, log = predict(root, root / "download", root / "out", tiny_cascade.bundle, "--dicom", "seg")
    assert code == 1, log
    return Predicted(root, kinds, log)


@pytest.mark.long
def test_the_results_are_those_of_the_nifti_that_the_conversion_makes(tiny_cascade, predicted, tmp_path):
    dataset, from_nifti = tmp_path / "dataset", tmp_path / "from nifti"
    convert(predicted.root / "written" / SECRETS[2], dataset, replace(SETTINGS, case_names="uid"))
    assert predict(predicted.root, dataset / "imagesTr", from_nifti, tiny_cascade.bundle)[0] == 0
    case = predicted.cases["Phantom CT"]
    for suffix in MAPS:
        found, expected = (read_volume(folder / f"{case}{suffix}.nii.gz") for folder in (predicted.output, from_nifti))
        np.testing.assert_array_equal(found.array, expected.array)
        assert found.grid.difference(expected.grid) is None
    assert read_volume(from_nifti / f"{case}_roi.nii.gz").array.any()
    here, there = (json.loads((folder / f"{case}.json").read_text()) for folder in (predicted.output, from_nifti))
    assert here["flags"] == there["flags"]
    assert [c["verdict"] for c in here["candidates"]] == [c["verdict"] for c in there["candidates"]]


def test_a_bad_series_costs_itself_alone_and_what_is_no_volume_is_told(predicted):
    story, bad = predicted.story, predicted.cases["truncated"]
    assert story["counts"] == {"done": 3, "failed": 1, "left": 0}
    assert "is truncated: it holds fewer bytes" in story["cases"][bad]["error"]
    assert not list(predicted.output.glob(f"{bad}*"))
    (left_out,) = story["varying"]["left_out"]
    images = len(list((predicted.root / "written" / "scout").iterdir()))
    assert (left_out["series_uid"], left_out["images"]) == (uid_from("scout"), images)
    assert "1 CT series skipped because they are not volumes" in predicted.log
    assert "Traceback" not in predicted.log


def test_planes_without_a_slice_are_flagged_and_two_series_of_a_patient_are_two_cases(predicted):
    record = predicted.record("gapped")
    assert record["flags"][0] == "missing_slices"
    assert any("1 of" in note and "interpolated" in note for note in record["notes"])
    assert "missing_slices" in predicted.story["cases"][predicted.cases["gapped"]]["flags"]
    assert "missing_slices" not in predicted.record("whole")["flags"]
    whole, gapped = (read_volume(predicted.output / f"{predicted.cases[kind]}.nii.gz") for kind in ("whole", "gapped"))
    assert whole.grid.difference(gapped.grid) is None


def test_nothing_that_names_the_patient_is_among_the_results(predicted):
    exports = predicted.output / "dicom"  # the series' own tags stand there, as they must
    files = [path for path in predicted.output.rglob("*") if path.is_file() and exports not in path.parents]
    assert len(files) > 3 * len(MAPS)
    for path in files:
        content = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
        assert [text for text in SECRETS if text.encode() in content or text in path.name] == [], path


def test_each_case_is_exported_as_of_when_it_was_predicted_and_what_cannot_be_is_told_and_keeps_its_maps(predicted):
    exports, gapped = predicted.output / "dicom", predicted.cases["gapped"]
    for kind in ("Phantom CT", "whole"):
        (path,) = (exports / predicted.cases[kind]).glob("*.dcm")
        seg, told = dcmread(path, stop_before_pixels=True), predicted.record(kind)["varying"]["predicted_at"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", told)
        assert seg.Modality == "SEG"
        assert f"{seg.ContentDate}{seg.ContentTime}"[:14] == re.sub("[-:TZ]", "", told)
    told = predicted.story["varying"]["dicom"]
    assert (told["kinds"], list(told["failed"])) == (["seg"], [gapped])
    assert json.loads((predicted.output / "dicom_export.json").read_text())["cases"][gapped]["status"] == "failed"
    assert (predicted.output / f"{gapped}.nii.gz").is_file()
    assert not (exports / gapped).exists()
    assert "1 case(s) not exported as DICOM" in predicted.log
