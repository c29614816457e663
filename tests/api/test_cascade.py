"""`nnc.load_cascade`: any source gives one result, saved as the command saves it, without another process."""

import asyncio
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from builders.tiny_cascades import COARSE, quick_spec

import nnunet_cascade as nnc
from nnunet_cascade.dicom.ct.writing import write_ct_series
from nnunet_cascade.dicom.writing import Identity, Series, uid_from
from nnunet_cascade.images import read_labels, to_sitk, write_image
from nnunet_cascade.phantom.cohort import TEST_SEEDS
from nnunet_cascade.phantom.thorax import make_phantom

# nnU-Net and torch warn about themselves when trainers are looked up, highdicom and pydicom about what they write.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def write_series(phantom, folder, name):
    identity = Identity(patient_id="NOBODY", study_uid=uid_from("study"), frame_of_reference_uid=uid_from("frame"))
    series = Series(identity=identity, uid=uid_from(name), description=name)
    return write_ct_series(np.rint(phantom.ct).astype(np.int16), phantom.grid, folder / name, series=series)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """One phantom as an image file, as a DICOM series and as one of two, with the truth as stage 1's mask."""
    root = tmp_path_factory.mktemp("inputs")
    phantom = make_phantom(TEST_SEEDS[0], COARSE)
    (root / "images").mkdir()
    (root / "masks").mkdir()
    write_image(np.rint(phantom.ct).astype(np.int16), phantom.grid, root / "images" / "ct_0000.nii.gz")
    write_series(phantom, root / "series", "whole")
    shutil.copytree(root / "series", root / "several")
    gapped = write_series(phantom, root / "several", "gapped")
    gapped[len(gapped) // 2].unlink()
    (case,) = nnc.find_scans(root / "series")
    for name in ("ct", case):
        write_image((phantom.tumors > 0).astype(np.uint8), phantom.grid, root / "masks" / f"{name}.nii.gz")
    return SimpleNamespace(
        image=root / "images" / "ct_0000.nii.gz",
        series=root / "series",
        several=root / "several",
        uids=(uid_from("whole"), uid_from("gapped")),
        mask=root / "masks" / "ct.nii.gz",
    )


@pytest.fixture(scope="module")
def result(loaded, inputs):
    return loaded.predict(inputs.image, stage1=inputs.mask)


def same(here, there):
    """Whether two results are equal in every array."""
    names = [field.name for field in fields(nnc.CaseResult) if isinstance(getattr(here, field.name), np.ndarray)]
    arrays = all(np.array_equal(getattr(here, name), getattr(there, name)) for name in names)
    return arrays and len(names) > 4 and here.candidates == there.candidates and here.lesions == there.lesions


def contents(folder):
    """Every file below a folder; JSON with the names of what differs from run to run."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if path.suffix == ".json" and path.name != "summary.json":
            record = json.loads(content)
            record["varying"] = sorted(record["varying"])
            content = json.dumps(record, indent=1)
        found[path.relative_to(folder).as_posix()] = content
    return found


class TestSources:
    def test_a_path_a_volume_and_an_image_in_memory_give_the_same_result(self, loaded, inputs, result):
        ct = nnc.read_ct(inputs.image)
        truth = read_labels(inputs.mask, ct.grid, what="mask")
        for source in (str(inputs.image), to_sitk(ct.array, ct.grid), replace(ct, array=ct.array.astype(np.float64))):
            assert same(loaded.predict(source, stage1=truth), result)
        assert result.regions.any()
        assert result.case == "ct"
        assert loaded.predict(ct, stage1=truth > 0).case == "case"

    def test_a_series_tells_of_missing_slices(self, loaded, inputs):
        whole, gapped = (loaded.predict(inputs.several, series=uid, stage1=inputs.mask) for uid in inputs.uids)
        assert "missing_slices" not in whole.flags
        assert "missing_slices" in gapped.flags
        assert any("slices are missing" in note for note in gapped.notes)

    def test_several_series_are_refused_with_their_list(self, loaded, inputs):
        with pytest.raises(nnc.InputImageError, match="expected one: give series=UID") as raised:
            loaded.predict(inputs.several)
        assert all(uid in str(raised.value) for uid in inputs.uids)

    def test_lungs_can_be_handed_in(self, loaded, inputs, result):
        labels = result.lungs.labels
        for lungs in (result.lungs, labels, labels > 0):
            found = loaded.predict(inputs.image, stage1=inputs.mask, lungs=lungs)
            assert np.array_equal(found.lungs.mask, labels > 0)
        folder = inputs.mask.parent.with_name("lungs")
        folder.mkdir()
        write_image(labels, result.grid, folder / "ct.nii.gz")
        found = loaded.predict(inputs.image, stage1=inputs.mask, lungs=folder / "ct.nii.gz")
        assert np.array_equal(found.lungs.labels, labels)
        assert found.checksums is None
        found = loaded.predict(inputs.image, stage1=inputs.mask, lungs=folder)
        assert found.lungs.source == "folder lungs"

    @pytest.mark.parametrize(
        ("arguments", "error", "said"),
        [
            ({"source": 7}, nnc.WrongTypeError, "source: expected a path .*, a Volume or a SimpleITK image; found int"),
            ({"case": 7}, nnc.WrongTypeError, "case: expected a str; found int"),
            ({"case": "a/b"}, nnc.SettingsError, "case 'a/b' cannot begin the names of files"),
            ({"stage1": 7}, nnc.WrongTypeError, "stage-1 mask: expected an array .*; found int"),
            ({"lungs": 7}, nnc.WrongTypeError, "lung mask: expected an array .*; found int"),
            ({"stage1": np.zeros((2, 2, 2), bool)}, nnc.GridMismatchError, "stage-1 mask has the shape"),
            ({"source": "nowhere"}, nnc.InputImageError, "nowhere does not exist"),
        ],
    )
    def test_bad_input_is_one_clear_line(self, loaded, inputs, arguments, error, said):
        given = {"source": inputs.image, "stage1": inputs.mask, **arguments}
        with pytest.raises(error, match=said) as raised:
            loaded.predict(given.pop("source"), **given)
        assert "\n" not in str(raised.value)


def command(bundle, inputs, source, output, *options):
    program = [sys.executable, Path(sys.executable).parent / "nnc-cascade-predict"]
    arguments = ["-i", source, "-o", output, "-m", bundle, "-device", "cpu", "--stage1_predictions", inputs.mask.parent]
    arguments += ["--mc_samples", "2", "--disable_tta"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    subprocess.run([*program, *arguments, *options], check=True, env=environment, capture_output=True)
    for name in ("run.json", "summary.csv", "dicom_export.json"):  # of the run, not of the case
        (output / name).unlink(missing_ok=True)


class TestSave:
    def test_the_files_are_those_of_the_command_byte_for_byte(self, tiny_cascade, inputs, result, tmp_path):
        command(tiny_cascade.bundle, inputs, inputs.image, tmp_path / "command")
        assert result.save(str(tmp_path / "python")) == tmp_path / "python" / "ct.json"
        assert contents(tmp_path / "python") == contents(tmp_path / "command")

    @pytest.mark.long
    def test_so_are_those_of_a_series_with_its_dicom_objects(self, loaded, tiny_cascade, inputs, tmp_path):
        pytest.importorskip("highdicom")
        command(tiny_cascade.bundle, inputs, inputs.series, tmp_path / "command", "--dicom")
        (case,) = nnc.find_scans(inputs.series)
        found = loaded.predict(inputs.series, stage1=inputs.mask.with_name(f"{case}.nii.gz"))
        # Objects tell when the case was predicted, in their dates and UIDs.
        then = json.loads((tmp_path / "command" / f"{case}.json").read_text())["varying"]["predicted_at"]
        replace(found, facts={**found.facts, "predicted_at": then}).save(tmp_path / "python", dicom=True)
        assert contents(tmp_path / "python") == contents(tmp_path / "command")
        assert (tmp_path / "python" / "dicom" / case / "seg.dcm").is_file()

    def test_dicom_of_an_image_needs_its_series(self, result, inputs, tmp_path):
        pytest.importorskip("highdicom")
        with pytest.raises(nnc.SettingsError, match="not predicted from a DICOM series"):
            result.save(tmp_path, dicom=True)
        with pytest.raises(nnc.SettingsError, match="expected some of seg"):
            result.save(tmp_path, dicom="mask", series_folder=inputs.series)
        assert not list(tmp_path.iterdir())
        result.save(tmp_path, dicom=["seg"], series_folder=inputs.series)
        assert [path.name for path in (tmp_path / "dicom" / "ct").iterdir()] == ["seg.dcm"]

    def test_a_folder_that_was_read_from_is_refused(self, result, inputs, tmp_path):
        before = inputs.image.read_bytes()
        with pytest.raises(nnc.SettingsError, match="that the case was read from"):
            result.save(inputs.image.parent)
        assert inputs.image.read_bytes() == before
        (tmp_path / "file").touch()
        with pytest.raises(nnc.InputImageError, match="cannot be written"):
            result.save(tmp_path / "file")

    def test_a_record_of_what_was_in_memory_names_no_inputs(self, loaded, inputs, tmp_path):
        path = loaded.predict(nnc.read_ct(inputs.image), case="memory", stage1=inputs.mask).save(tmp_path)
        record = json.loads(path.read_text())
        assert "inputs" not in record
        assert "image" not in record["varying"]
        assert record["model"].keys() == {"stage2"}


def predict_and_save(bundle, image, mask, output):
    nnc.load_cascade(bundle, device="cpu", spec=quick_spec(bundle)).predict(image, stage1=mask).save(output)


class TestWhereItRuns:
    @pytest.mark.long
    def test_in_a_daemonic_process_which_may_have_no_children(self, tiny_cascade, inputs, result, tmp_path):
        given = (str(tiny_cascade.bundle), str(inputs.image), str(inputs.mask), str(tmp_path / "daemon"))
        process = multiprocessing.get_context("spawn").Process(target=predict_and_save, args=given, daemon=True)
        process.start()
        process.join(300)
        assert process.exitcode == 0
        result.save(tmp_path / "here")
        assert contents(tmp_path / "daemon") == contents(tmp_path / "here")

    def test_in_threads_and_inside_a_running_event_loop(self, loaded, inputs, result):
        def predicted(_=None):
            return loaded.predict(inputs.image, stage1=inputs.mask)

        async def notebook():
            return predicted()

        with ThreadPoolExecutor(2) as pool:
            found = [asyncio.run(notebook()), *pool.map(predicted, range(2))]
        assert all(same(each, result) for each in found)

    def test_no_process_is_started_and_models_are_loaded_once(self, loaded, inputs, monkeypatch):
        def refuse(*_, **__):
            raise AssertionError("a process was started")

        process = multiprocessing.process.BaseProcess
        for place, name in ((subprocess.Popen, "__init__"), (process, "start"), (os, "fork"), (torch, "load")):
            monkeypatch.setattr(place, name, refuse)
        assert loaded.predict(inputs.image).stage1_given is False
